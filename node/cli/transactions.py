"""Signing an action with a wallet key and sending it: what `order` and `account transfer` share.

The signature is made here, over the document that the action says; the node is asked for nothing
but the network's name (genesis hash and settlement chain id), so it can not have something else
signed. A nonce is the time in milliseconds, and more than the last one this keystore folder used.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omninode.errors import ConfigError, UserError

if TYPE_CHECKING:
    from omninode.crypto import SigningKey
    from omninode.dex.eip712 import Domain
    from omninode.dex.transaction import Transaction
    from omninode.node.client import RpcClient

WAIT_MS: Final = 10_000
"""How long `--wait` waits for a transaction to become final."""

NONCE_DIGITS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that the node took; `result` is `None` if nobody waited for it."""

    transaction: Transaction
    result: dict[str, Any] | None

    @property
    def hash(self) -> str:
        """The transaction's hash as 0x hex."""
        return "0x" + self.transaction.hash.hex()


def sign_action(
    node: RpcClient, key: SigningKey, fields: Mapping[str, Any], *, nonces: Path
) -> Transaction:
    """Sign an action for the network of a node.

    Args:
        node: Asked for the network's genesis hash and settlement chain id.
        key: The account's key.
        fields: The action's JSON form without `account` and `nonce`.
        nonces: The folder that remembers the last nonce.

    Raises:
        ConfigError: The action is not well formed.
        UserError: The node can not be reached.
    """
    from omninode.crypto import checksum_address
    from omninode.dex.action_json import action_from_json
    from omninode.dex.transaction import sign_wallet

    account = checksum_address(key.address)
    try:
        # A first reading with any nonce: a wrong flag is reported before anything is asked or used.
        action_from_json({**fields, "account": account, "nonce": 0})
    except UserError as error:
        raise ConfigError(str(error), hint=error.hint) from None
    domain = network_domain(node)
    nonce = next_nonce(nonces, account)
    _, nonce, action = action_from_json({**fields, "account": account, "nonce": nonce})
    return sign_wallet(key, action, nonce=nonce, domain=domain)


def network_domain(node: RpcClient) -> Domain:
    """Return the network that a node belongs to, as signatures name it."""
    from omninode.dex.eip712 import Domain

    genesis = node.call("omni_getGenesis")
    try:
        return Domain(
            chain_id=int(genesis["genesis"]["settlement_chain_id"]),
            genesis_hash=bytes.fromhex(genesis["genesis_hash"].removeprefix("0x")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            "bad_response",
            f"{node.url} does not tell its genesis",
            hint="name another node with --rpc",
        ) from None


def send(node: RpcClient, transaction: Transaction, *, wait: bool) -> Sent:
    """Hand a transaction to a node and, with `wait`, return when it is final.

    Raises:
        UserError: Refused at the door, not final in time (`timeout`), or the node is unreachable.
    """
    raw = "0x" + transaction.raw.hex()
    if not wait:
        node.call("omni_sendTransaction", {"tx": raw})
        return Sent(transaction, None)
    result = node.call("omni_sendTransactionSync", {"tx": raw, "timeout_ms": WAIT_MS})
    return Sent(transaction, result)


def next_nonce(folder: Path, account: str) -> int:
    """Return a nonce that no other call with this folder has used for the account.

    A folder that can not be written to costs nothing but that promise.
    """
    now_ms = time.time_ns() // 1_000_000
    try:
        file = os.open(
            folder / f".nonce-{account.lower()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError:
        return now_ms
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = os.pread(file, NONCE_DIGITS_MAX, 0).decode("ascii", "replace").strip()
        last = int(text) if text.isascii() and text.isdigit() else 0
        # A clock that was far ahead once must not block the account for ever.
        nonce = last + 1 if now_ms <= last <= now_ms + WAIT_MS else now_ms
        os.ftruncate(file, 0)
        os.pwrite(file, str(nonce).encode(), 0)
        return nonce
    finally:
        os.close(file)
