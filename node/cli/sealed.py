"""Sealed orders from the shell: commit, wait for the window, reveal, wait for the clearing.

What opens a commitment, the order and its salt, is on disk before the commitment leaves, readable
for its owner only, and stays there until the order is revealed: whatever interrupts the command,
`omninode order reveal`, or the next sealed order of the account, goes on from there.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omninode.errors import ConfigError, UserError
from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.output import note
from omninode.node.cli.rejections import rejected
from omninode.node.cli.transactions import send, sign_action

if TYPE_CHECKING:
    from omninode.crypto import SigningKey
    from omninode.dex.actions import PlaceOrder
    from omninode.node.client import RpcClient

FOLDER: Final = ".sealed"
"""Beside the keystores: in the home, or in the accounts of a devnet."""

WAIT_S: Final = 180.0
"""How long a command waits for a batch, from its commitment to its clearing."""

POLL_S: Final = 0.2
SALT_BYTES: Final = 32
FILE_BYTES_MAX: Final = 65_536
FILLS_MAX: Final = 100

_WAITING: Final = frozenset({"received", "sealed", "revealed"})
_ORDER_ID: Final = re.compile(r"0x[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens one commitment, as it lies on disk: JSON forms and 0x hex."""

    path: Path
    order_id: str
    commit: str
    account: str
    nonce: int
    order: dict[str, Any]
    salt: str

    def write(self) -> None:
        """Put it on disk for good.

        Raises:
            ConfigError: The folder can not be written to: then nothing may be committed.
        """
        fields = {name: getattr(self, name) for name in _FILE_KEYS}
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(json.dumps(fields) + "\n")
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(self.path.parent)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: {error.strerror}",
                hint="a sealed order needs a place where its salt is safe until it is revealed",
            ) from None

    def remove(self) -> None:
        """Forget it: it is revealed, or can not be any more."""
        self.path.unlink(missing_ok=True)


_FILE_KEYS: Final = ("order_id", "commit", "account", "nonce", "order", "salt")


def read_secrets(folder: Path, account: str) -> list[Secret]:
    """Return what waits to be revealed for an account, oldest first.

    Raises:
        ConfigError: A file that can not be read.
    """
    found = []
    for path in sorted((folder / FOLDER).glob("0x*.json")):
        try:
            with path.open(encoding="utf-8") as file:
                fields = json.loads(file.read(FILE_BYTES_MAX))
            secret = Secret(path=path, **{name: fields[name] for name in _FILE_KEYS})
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: not a sealed order", hint="move it away") from None
        if secret.account == account:
            found.append(secret)
    return sorted(found, key=lambda secret: secret.nonce)


class Lane:
    """The sealed lane for one account.

    Args:
        node: The node that is asked and sent to.
        key: The account's key.
        folder: Where the keystores are.
        name: What `--from` said, for hints.
    """

    def __init__(self, node: RpcClient, key: SigningKey, folder: Path, *, name: str) -> None:
        from omninode.crypto import checksum_address

        self._node = node
        self._key = key
        self._folder = folder
        self._name = name
        self._account = checksum_address(key.address)

    def place(self, fields: dict[str, Any], *, bond: str | None, wait: bool) -> dict[str, Any]:
        """Commit an order and, with `wait`, reveal it and return it as the clearing left it.

        Args:
            fields: The JSON form of the order, with its type.
            bond: In the market's quote asset; None: what the order needs.
            wait: Whether to stay until the end.

        Raises:
            ConfigError: The order is not well formed, or its salt can not be kept.
            CommandFailed: Rejected, not revealed in time, or not cleared in time.
            UserError: The node can not be reached.
        """
        order = self._read_order(fields)
        secret, raw = self._commitment(order, bond or self._bond_for(order))
        before = read_secrets(self._folder, self._account) if wait else []
        secret.write()
        try:
            try:
                sent = send(self._node, raw, wait=wait)
            except UserError as error:
                raise self._in_doubt(secret, error) from None
            if sent.result is None:
                note(self._advice(secret))
                return {"order_id": secret.order_id, "transaction": secret.commit} | {
                    "state": "received"
                }
            if sent.result.get("code") != "ok":
                secret.remove()
                reason = str(sent.result.get("reason"))
                raise rejected("the commitment", reason, {"order_id": secret.order_id})
            note(f"{secret.order_id} is sealed; waiting for its batch")
            done = self._follow([*before, secret])
        except KeyboardInterrupt:
            note(self._advice(secret))
            raise
        ended = done[secret.order_id]
        if ended.get("reason") == "not_revealed":
            failed = rejected("the order", "not_revealed", ended)
            failed.hint = "its window closed before the reveal was executed; its bond is lost"
            raise failed
        return {**ended, "fills": self._fills(secret.order_id)}

    def resume(self, order_id: str | None) -> list[dict[str, Any]]:
        """Reveal what waits for it; return the orders as they are then.

        Raises:
            ConfigError: No order of that id waits here.
            UserError: As `place`.
        """
        found = read_secrets(self._folder, self._account)
        if order_id is not None:
            found = [secret for secret in found if secret.order_id == order_id.lower()]
            if not found:
                raise ConfigError(
                    f"no sealed order {order_id} of {self._name} waits to be revealed",
                    hint="`omninode order show` tells what became of it",
                )
        done = self._follow(found)
        return [done[secret.order_id] for secret in found if secret.order_id in done]

    def _read_order(self, fields: dict[str, Any]) -> PlaceOrder:
        from omninode.dex.action_json import action_from_json
        from omninode.dex.actions import PlaceOrder

        try:
            action = action_from_json({**fields, "account": self._account, "nonce": 0}).action
        except UserError as error:
            raise ConfigError(str(error), hint=error.hint) from None
        assert isinstance(action, PlaceOrder)
        if action.post_only or action.tif == "fok":
            raise ConfigError(
                "a sealed order is neither --post-only nor --tif fok",
                hint="use --tif gtc, or ioc for the auction only",
            )
        return action

    def _bond_for(self, order: PlaceOrder) -> str:
        """Return the bond that the order's size needs, with room for a price that moves."""
        from omninode.node.cli.bonds import bond_for

        genesis = self._node.call("omni_getGenesis")["genesis"]
        markets = self._node.call("omni_getMarkets")["markets"]
        market = next((m for m in markets if m["market"] == order.market), None)
        if market is None:
            raise ConfigError(
                f"there is no market {order.market}", hint="`omninode market list` has the markets"
            )
        return bond_for(order, market=market, genesis=genesis)

    def _commitment(self, order: PlaceOrder, bond: str) -> tuple[Secret, Any]:
        """Sign the commitment of an order with a fresh salt."""
        from omninode.dex.action_json import action_to_json
        from omninode.dex.sealed.commitment import make_commitment
        from omninode.dex.transaction import order_id

        salt = secrets.token_bytes(SALT_BYTES)
        commitment = make_commitment(self._key.address, order, salt)
        fields = {
            "type": "commit_sealed",
            "subaccount": order.subaccount,
            "market": order.market,
            "bond": bond,
            "commitment": "0x" + commitment.hex(),
        }
        transaction = sign_action(self._node, self._key, fields, nonces=self._folder)
        document = action_to_json(self._key.address, 0, order)
        for name in ("type", "account", "nonce"):
            del document[name]
        identifier = "0x" + order_id(transaction.hash, 0).hex()
        secret = Secret(
            path=self._folder / FOLDER / f"{identifier}.json",
            order_id=identifier,
            commit="0x" + transaction.hash.hex(),
            account=self._account,
            nonce=transaction.nonce,
            order=document,
            salt="0x" + salt.hex(),
        )
        return secret, transaction

    def _in_doubt(self, secret: Secret, error: UserError) -> UserError:
        """Say what to do about a commitment that may have been taken; forget a refused one."""
        if error.reason in {"timeout", "node_unreachable", "bad_response"}:
            failed = CommandFailed(
                error.reason,
                f"order {secret.order_id} may be committed: {error}",
                document={"order_id": secret.order_id},
            )
            failed.hint = self._advice(secret)
            return failed
        secret.remove()
        return error

    def _advice(self, secret: Secret) -> str:
        return (
            f"reveal it with `omninode order reveal {secret.order_id} --from {self._name}` "
            "or its bond is lost"
        )

    def _follow(self, waiting: list[Secret]) -> dict[str, dict[str, Any]]:
        """Reveal each order when its window is open and return all as they end."""
        done: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + WAIT_S
        while True:
            limits = self._node.call("omni_getLimits", {"address": self._account})
            batches = limits["sealed"]["batches"]
            for secret in [s for s in waiting if s.order_id not in done]:
                order = self._look(secret, chain_ms=int(limits["nonce_min"]))
                if order is None or order["state"] not in _WAITING:
                    secret.remove()
                    done[secret.order_id] = order or _lost(secret)
                elif order["state"] == "revealed":
                    secret.remove()
                elif order["state"] == "sealed" and _is_open(batches, int(order["height"])):
                    self._reveal(secret)
            if len(done) == len({s.order_id for s in waiting}):
                return done
            if time.monotonic() > deadline:
                left = [s for s in waiting if s.order_id not in done]
                raise self._in_doubt(left[0], UserError("timeout", "its batch takes too long"))
            time.sleep(POLL_S)

    def _look(self, secret: Secret, *, chain_ms: int) -> dict[str, Any] | None:
        """Return an order as the node knows it; None: its commitment can not come any more."""
        try:
            order: dict[str, Any] = self._node.call("omni_getOrder", {"order_id": secret.order_id})
        except UserError as error:
            if error.reason != "unknown_order":
                raise
            if secret.nonce < chain_ms:
                return None
            return {"state": "received"}
        return order

    def _reveal(self, secret: Secret) -> None:
        """Reveal an order; a refusal that can be repaired is told, and tried again."""
        fields = {
            "type": "reveal_sealed",
            "commit": secret.commit,
            "order": secret.order,
            "salt": secret.salt,
        }
        transaction = sign_action(self._node, self._key, fields, nonces=self._folder)
        try:
            sent = send(self._node, transaction, wait=True)
        except UserError as error:
            if error.reason != "timeout":
                raise
            return
        result = sent.result or {}
        if result.get("code") != "ok" and result.get("reason") != "already_revealed":
            reason = str(result.get("reason"))
            failed = rejected("the reveal", reason, {"order_id": secret.order_id})
            failed.hint += f"; then {self._advice(secret)}"
            raise failed

    def _fills(self, order_id: str) -> list[dict[str, Any]]:
        """Return the fills of an order, oldest first."""
        params = {"address": self._account, "limit": FILLS_MAX}
        fills = self._node.call("omni_getFills", params)["fills"]
        return [fill for fill in reversed(fills) if fill["order_id"] == order_id]


def _lost(secret: Secret) -> dict[str, Any]:
    return {
        "order_id": secret.order_id,
        "state": "expired",
        "reason": "not_committed",
        "market": secret.order.get("market"),
    }


def _is_open(batches: list[dict[str, Any]], height: int) -> bool:
    """Whether the batch of a commitment at this height takes reveals.

    A batch is named by the height of its first commitment, so it is the last one not above.
    """
    mine = [batch for batch in batches if int(batch["batch"]) <= height]
    return bool(mine) and max(mine, key=lambda batch: int(batch["batch"]))["stage"] == "open"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
