"""What was acknowledged here: who waits for its result, and what may be said of it meanwhile.

Rules (PROTOCOL.md P8)
    K1. `final` is said of a stored result only; `expired` once chain time has passed the nonce
        window; else an acknowledged transaction is `received`.
    K2. The memory of acknowledged transactions is bounded; beyond it the oldest is forgotten, which
        by then is final or expired.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from omninode.dex.actions import Batch, CommitSealed, PlaceOrder
from omninode.dex.events import (
    AgentApproved,
    AgentRevoked,
    Event,
    OrderRejected,
    OrderUpdated,
    SealedCommitted,
    SealedRevealed,
    Trade,
    Transferred,
    WithdrawalRequested,
)
from omninode.dex.outcomes import IGNORED
from omninode.dex.transaction import Transaction, order_id
from omninode.errors import UserError
from omninode.node.rpc.limits import RECEIPTS_MAX, WAITERS_MAX
from omninode.storage.records import CommittedBlock, StoredTransaction


@dataclass(frozen=True, slots=True)
class Receipt:
    """A final transaction, as it was stored, with the events that its orders or accounts are in."""

    final: StoredTransaction
    events: tuple[Event, ...]


class Wait:
    """The calls that wait for one transaction; `receipt` is there once `stored` is set."""

    def __init__(self) -> None:
        self.stored = trio.Event()
        self.receipt: Receipt | None = None
        self.calls = 0


class Receipts:
    """Remembers acknowledged transactions and wakes who waits for one.

    Args:
        nonce_window_ms: From genesis.
    """

    def __init__(self, *, nonce_window_ms: int) -> None:
        self._window_ms = nonce_window_ms
        self._nonces: OrderedDict[bytes, int] = OrderedDict()
        self._orders: dict[bytes, bytes] = {}
        self._waits: dict[bytes, Wait] = {}
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
        events: _EventsByOrder | None = None
        for index, result in enumerate(committed.outcome.results):
            if result.code == IGNORED:
                continue
            self._nonces.pop(result.hash, None)
            for item in result.items:
                self._orders.pop(item.order_id, None)
            wait = self._waits.pop(result.hash, None)
            if wait is not None:
                events = events or _EventsByOrder(committed.outcome.events)
                wait.receipt = _receipt(committed, index, events)
                wait.stored.set()

    @contextmanager
    def waiting(self, transaction_hash: bytes) -> Iterator[Wait]:
        """Give what is filled when the transaction's result is stored.

        Raises:
            UserError: `busy`: too many calls wait already.
        """
        if self._waiting >= WAITERS_MAX:
            raise UserError("busy", "too many calls wait for transactions")
        wait = self._waits.setdefault(transaction_hash, Wait())
        wait.calls += 1
        self._waiting += 1
        try:
            yield wait
        finally:
            self._waiting -= 1
            wait.calls -= 1
            if not wait.calls and self._waits.get(transaction_hash) is wait:
                del self._waits[transaction_hash]


_ABOUT_NO_ORDER: Final = (Transferred, AgentApproved, AgentRevoked, WithdrawalRequested)


class _EventsByOrder:
    """A block's events by the orders they are about, made once for all who wait (in order)."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._places: dict[bytes, list[int]] = {}
        self._others: list[int] = []
        for place, event in enumerate(events):
            for identifier in _orders_in(event):
                self._places.setdefault(identifier, []).append(place)
            if isinstance(event, _ABOUT_NO_ORDER):
                self._others.append(place)

    def about(self, orders: Iterable[bytes]) -> tuple[Event, ...]:
        """Return the events about these orders and those that are about no order."""
        places = set(self._others)
        for identifier in orders:
            places.update(self._places.get(identifier, ()))
        return tuple(self._events[place] for place in sorted(places))


def _orders_in(event: Event) -> tuple[bytes, ...]:
    match event:
        case OrderUpdated(order=order):
            return (order.order_id,)
        case OrderRejected() | SealedCommitted() | SealedRevealed():
            return (event.order_id,)
        case Trade():
            return (event.taker_order_id, event.maker_order_id)
        case _:
            return ()


def _receipt(committed: CommittedBlock, index: int, events: _EventsByOrder) -> Receipt:
    header, result = committed.block.header, committed.outcome.results[index]
    final = StoredTransaction(
        header.height, index, header.time_ms, committed.transactions[index], result
    )
    return Receipt(final, events.about(item.order_id for item in result.items if item.order_id))


def order_ids(transaction: Transaction) -> list[bytes]:
    """Return the ids of the orders that a transaction places, in order."""
    match transaction.action:
        case PlaceOrder() | CommitSealed():
            return [order_id(transaction.hash, 0)]
        case Batch(orders=orders):
            return [order_id(transaction.hash, index) for index in range(len(orders))]
        case _:
            return []
