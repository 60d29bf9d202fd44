"""What was acknowledged here: who waits for its result, and what may be said of it meanwhile.

Rules (PROTOCOL.md P8)
    K1. `final` is said of a stored result only; `expired` once chain time has passed the nonce
        window; else an acknowledged transaction is `received`.
    K2. The memory of acknowledged transactions is bounded; beyond it the oldest is forgotten, which
        by then is final or expired.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from omninode.dex.actions import Batch, PlaceOrder
from omninode.dex.outcomes import IGNORED
from omninode.dex.transaction import Transaction, order_id
from omninode.errors import UserError
from omninode.node.rpc.limits import RECEIPTS_MAX, WAITERS_MAX
from omninode.storage.records import CommittedBlock


@dataclass(slots=True)
class _Wait:
    """The calls that wait for one transaction."""

    stored: trio.Event
    calls: int = 0


class Receipts:
    """Remembers acknowledged transactions and wakes who waits for one.

    Args:
        nonce_window_ms: From genesis.
    """

    def __init__(self, *, nonce_window_ms: int) -> None:
        self._window_ms = nonce_window_ms
        self._nonces: OrderedDict[bytes, int] = OrderedDict()
        self._orders: dict[bytes, bytes] = {}
        self._waits: dict[bytes, _Wait] = {}
        self._waiting = 0

    def acknowledged(self, transaction: Transaction) -> None:
        """Note a transaction that was acknowledged and is not final (K2)."""
        if transaction.hash in self._nonces:
            return
        self._nonces[transaction.hash] = transaction.nonce
        for identifier in order_ids(transaction):
            self._orders[identifier] = transaction.hash
        while len(self._nonces) > RECEIPTS_MAX:
            self._nonces.popitem(last=False)
        while len(self._orders) > RECEIPTS_MAX:
            del self._orders[next(iter(self._orders))]

    def transaction_of_order(self, identifier: bytes) -> bytes | None:
        """Return the hash of the acknowledged transaction that places this order."""
        return self._orders.get(identifier)

    def state_of(self, transaction_hash: bytes, *, chain_time_ms: int) -> str | None:
        """Return `received` or `expired` for an acknowledged transaction that is not final (K1)."""
        nonce = self._nonces.get(transaction_hash)
        if nonce is None:
            return None
        return "expired" if nonce + self._window_ms < chain_time_ms else "received"

    def stored(self, committed: CommittedBlock) -> None:
        """Forget what a stored block has results for, and wake who waited for them."""
        if not (self._nonces or self._waits):
            return
        for result in committed.outcome.results:
            if result.code == IGNORED:
                continue
            self._nonces.pop(result.hash, None)
            for item in result.items:
                self._orders.pop(item.order_id, None)
            wait = self._waits.pop(result.hash, None)
            if wait is not None:
                wait.stored.set()

    @contextmanager
    def waiting(self, transaction_hash: bytes) -> Iterator[trio.Event]:
        """Give an event that is set when the transaction's result is stored.

        Raises:
            UserError: `busy`: too many calls wait already.
        """
        if self._waiting >= WAITERS_MAX:
            raise UserError("busy", "too many calls wait for transactions")
        wait = self._waits.setdefault(transaction_hash, _Wait(trio.Event()))
        wait.calls += 1
        self._waiting += 1
        try:
            yield wait.stored
        finally:
            self._waiting -= 1
            wait.calls -= 1
            if not wait.calls and self._waits.get(transaction_hash) is wait:
                del self._waits[transaction_hash]


def order_ids(transaction: Transaction) -> list[bytes]:
    """Return the ids of the orders that a transaction places, in order."""
    match transaction.action:
        case PlaceOrder():
            return [order_id(transaction.hash, 0)]
        case Batch(orders=orders):
            return [order_id(transaction.hash, index) for index in range(len(orders))]
        case _:
            return []
