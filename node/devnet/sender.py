"""Signs requests, sends them to one validator after another, and follows them to finality.

Rules
    S1. A nonce is `max(now in ms, the account's last + 1)`: unique, and ascending in the order in
        which an account asked.
    S2. Validators take turns. One that is not connected, or owes an answer, is passed over.
    S3. A transaction whose acknowledgement does not come, because the connection broke or the
        validator froze, goes to another validator, byte for byte: that can not make it count twice.
    S4. What is not known to be final after a while is asked for; what no validator knows is sent
        again while its nonce may still count. It has expired once a validator that does not have
        its result tells a chain time after which it can not count.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import trio

from omninode.crypto import SigningKey
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import sign_wallet
from omninode.errors import EndpointError, UserError
from omninode.node.devnet.change import Change
from omninode.node.devnet.connection import Connection
from omninode.node.devnet.flow import Request
from omninode.node.devnet.limits import (
    ASK_AFTER_S,
    FOLLOW_UP_INTERVAL_S,
    FOLLOW_UPS_MAX,
    PENDING_MAX,
    RESEND_AFTER_S,
)
from omninode.node.devnet.tracker import Sent, Tracker

LOST_REASONS: Final = frozenset({"connection_lost", "timeout", "stopping", "starting"})
"""Answers that leave open whether the validator took the transaction."""


class Sender:
    """The one way in which the devnet sends transactions.

    Args:
        connections: One per validator, in their order.
        tracker: Where what becomes of them is noted.
        change: Told when a connection becomes ready or a transaction is settled.
        keys: The accounts' keys by name.
        domain: The network.
        nonce_window_ms: From genesis.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        tracker: Tracker,
        change: Change,
        *,
        keys: Mapping[str, SigningKey],
        domain: Domain,
        nonce_window_ms: int,
    ) -> None:
        self._connections = tuple(connections)
        self._tracker = tracker
        self._change = change
        self._keys = keys
        self._domain = domain
        self._nonce_window_ms = nonce_window_ms
        self._nonces: dict[str, int] = {}
        self._turn = 0

    async def send(self, request: Request, *, measured: bool) -> bytes:
        """Sign and send; waits only while no validator can take it, or too many are under way.

        Returns:
            The transaction's hash.
        """
        await self._change.until(lambda: len(self._tracker.pending) < PENDING_MAX)
        index = await self._choose()
        nonce = max(_now_ms(), self._nonces.get(request.trader, 0) + 1)  # S1
        self._nonces[request.trader] = nonce
        key = self._keys[request.trader]
        transaction = sign_wallet(key, request.action, nonce=nonce, domain=self._domain)
        raw, identifier, now_s = transaction.raw, transaction.hash, trio.current_time()
        sent = Sent(raw, nonce, request.orders, measured, index, now_s, now_s)
        self._tracker.sent(identifier, sent)
        self._post(identifier, sent)
        return identifier

    @property
    def unmeasured_expired(self) -> int:
        """How many transactions outside the measured flow have expired so far."""
        return self._tracker.unmeasured_expired

    async def settled(self, identifiers: Sequence[bytes]) -> None:
        """Return once none of these is under way: all are final, refused or expired."""
        pending = self._tracker.pending
        await self._change.until(lambda: all(one not in pending for one in identifiers))

    async def follow_up(self) -> NoReturn:
        """Look after what takes long (S3, S4), until cancelled."""
        while True:
            await trio.sleep(FOLLOW_UP_INTERVAL_S)
            now_s = trio.current_time()
            overdue = list(self._tracker.overdue(before_s=now_s - RESEND_AFTER_S))
            for identifier, sent in overdue[:FOLLOW_UPS_MAX]:
                if sent.final_elsewhere:  # T2 of `tracker`
                    self._tracker.final(identifier, now_s=now_s)
                elif not sent.acknowledged:
                    self._send_again(identifier, sent)
                elif sent.tried_s < now_s - ASK_AFTER_S:
                    sent.tried_s = now_s
                    await self._ask(identifier, sent)

    async def _choose(self) -> int:
        """Return whose turn it is (S2)."""
        while True:
            index = self._next_ready(besides=None)
            if index is not None:
                return index
            await self._change.until(lambda: any(c.ready for c in self._connections))

    def _next_ready(self, *, besides: int | None) -> int | None:
        count = len(self._connections)
        for _ in range(count):
            self._turn = (self._turn + 1) % count
            if self._turn != besides and self._connections[self._turn].ready:
                return self._turn
        return None

    def _post(self, identifier: bytes, sent: Sent) -> None:
        def answered(_result: object, error: UserError | EndpointError | None) -> None:
            reason = error.reason if isinstance(error, UserError) else str(error)
            if error is None:
                self._tracker.acknowledged(identifier)
            elif reason in LOST_REASONS:
                sent.tried_s = 0.0  # the next follow-up sends it again
            else:
                self._tracker.refused(identifier, reason)

        connection = self._connections[sent.validator]
        connection.post("omni_sendTransaction", {"tx": "0x" + sent.raw.hex()}, answered)

    def _send_again(self, identifier: bytes, sent: Sent) -> None:
        """Send the same bytes to another validator, if there is one (S3)."""
        sent.tried_s = trio.current_time()
        index = self._next_ready(besides=sent.validator)
        if index is not None:
            sent.validator = index
            self._post(identifier, sent)

    async def _ask(self, identifier: bytes, sent: Sent) -> None:
        """Ask one validator, another each time; send again what it does not know (S4)."""
        index = self._next_ready(besides=None)
        if index is None:
            return
        last_ms = sent.nonce + self._nonce_window_ms
        state = await transaction_state(self._connections[index], identifier, last_ms=last_ms)
        if state == "final":
            self._tracker.final(identifier, now_s=trio.current_time())
        elif state == "expired":
            self._tracker.expired(identifier)
        elif state == "unknown" and last_ms > _now_ms():
            sent.validator = index
            self._post(identifier, sent)


async def transaction_state(
    connection: Connection, identifier: bytes, *, last_ms: int
) -> str | None:
    """Return what a validator says of a transaction: `received`, `final`, `expired` or `unknown`.

    `None` if it does not answer.

    Args:
        connection: The validator.
        identifier: The transaction's hash.
        last_ms: The last chain time at which it can count (S4).
    """
    is_over = False
    try:
        if last_ms < _now_ms():
            is_over = (await connection.call("omni_status"))["block_time_ms"] > last_ms
        document: dict[str, Any] = await connection.call(
            "omni_getTransaction", {"hash": "0x" + identifier.hex()}
        )
    except UserError as error:
        if error.reason != "unknown_transaction":
            return None
        document = {"state": "unknown"}
    state = str(document["state"])
    return "expired" if is_over and state != "final" else state


async def first_answer(
    connections: Sequence[Connection], ask: Callable[[Connection], Awaitable[Any]]
) -> Any:  # noqa: ANN401 - any JSON
    """Return the answer of the first validator that gives one; `None` if none does."""
    for connection in connections:
        if connection.ready:
            try:
                return await ask(connection)
            except UserError:
                continue
    return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
