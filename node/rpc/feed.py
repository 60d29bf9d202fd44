"""Tells subscribers what each stored block brought.

Rules
    F1. A block is published once, in height order, after it is durable; what is told is final.
    F2. A subscription that began with a snapshot of a height hears of later blocks only, so that
        snapshot and updates fit together without a gap and without a repetition.
    F3. A message is built once per block and topic, and only if somebody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from omninode.crypto import checksum_address
from omninode.dex.documents import (
    event_document,
    fill_document,
    price_text,
    size_text,
    trade_document,
)
from omninode.dex.events import Event, LevelChanged, OrderRejected, OrderUpdated, Trade
from omninode.dex.genesis import Genesis
from omninode.node.rpc.outbox import BookUpdate, Levels, Stream
from omninode.storage.records import CommittedBlock

BLOCKS: Final = "blocks"
TRADES: Final = "trades"
BOOK: Final = "book"
TICKER: Final = "ticker"
ORDERS: Final = "orders"
FILLS: Final = "fills"

Topic = tuple[str, str | bytes]
"""A channel and what of it: a market's name, an account's address, or nothing."""

_encode = msgspec.json.encode
Rows = list[dict[str, Any]]


class Listener(Protocol):
    """Who gets stream messages (`session.Session`)."""

    def push(self, stream: Stream, body: bytes) -> None:
        """Send a message's members."""

    def push_book(self, stream: Stream, update: BookUpdate) -> None:
        """Send changed levels; those that wait merge."""


@dataclass(frozen=True, slots=True)
class _Subscriber:
    listener: Listener
    after_height: int


class Feed:
    """Publishes stored blocks to subscriptions.

    Args:
        rules: Genesis, for names and grids.
        ticker: Returns a market's ticker document, as of now.
    """

    def __init__(self, rules: Genesis, *, ticker: Callable[[str], Mapping[str, Any]]) -> None:
        self._rules = rules
        self._ticker = ticker
        self._topics: dict[Topic, dict[Stream, _Subscriber]] = {}

    def subscribe(
        self, topic: Topic, stream: Stream, listener: Listener, *, after_height: int
    ) -> Callable[[], None]:
        """Begin to tell a listener about a topic, from the block after a height (F2).

        Returns:
            What ends it.
        """
        self._topics.setdefault(topic, {})[stream] = _Subscriber(listener, after_height)

        def unsubscribe() -> None:
            subscribers = self._topics.get(topic, {})
            subscribers.pop(stream, None)
            if not subscribers:
                self._topics.pop(topic, None)

        return unsubscribe

    def subscriptions(self) -> dict[str, int]:
        """Return how many subscriptions each channel has."""
        counts: dict[str, int] = {}
        for (channel, _), subscribers in self._topics.items():
            counts[channel] = counts.get(channel, 0) + len(subscribers)
        return counts

    def publish(self, committed: CommittedBlock) -> None:
        """Tell everybody what a stored block brought (F1)."""
        if not self._topics:
            return
        header, outcome = committed.block.header, committed.outcome
        height, time_ms = header.height, header.time_ms
        if (BLOCKS, "") in self._topics:
            self._send((BLOCKS, ""), height, _block_body(committed))
        sorted_events = self._sort(outcome.events, height=height, time_ms=time_ms)
        for (channel, subject), rows in sorted_events.rows.items():
            name = "account" if isinstance(subject, bytes) else "market"
            shown = checksum_address(subject) if isinstance(subject, bytes) else subject
            document = {"channel": channel, name: shown, "height": height, "time_ms": time_ms}
            self._send((channel, subject), height, _encode({**document, channel: rows})[1:-1])
        for market, (bids, asks) in sorted_events.levels.items():
            self._send_book(BookUpdate(market, height, bids, asks))
        for market in sorted_events.moved:
            body = {"channel": TICKER, **self._ticker(market), "height": height}
            self._send((TICKER, market), height, _encode(body)[1:-1])

    def _sort(self, events: tuple[Event, ...], *, height: int, time_ms: int) -> _Sorted:
        """Put events where somebody listens (F3)."""
        found = _Sorted({}, {}, {})
        topics, specs = self._topics, self._rules.market_specs
        for event in events:
            match event:
                case LevelChanged(market=market):
                    if (BOOK, market) in topics:
                        spec = specs[market]
                        sides = found.levels.setdefault(market, ({}, {}))
                        side = sides[0 if event.is_buy else 1]
                        side[price_text(spec, event.price)] = size_text(spec, event.size)
                    if (TICKER, market) in topics:
                        found.moved[market] = None
                case Trade(market=market):
                    spec = specs[market]
                    if (TRADES, market) in topics:
                        row = trade_document(spec, event, height=height, time_ms=time_ms)
                        found.add((TRADES, market), row)
                    for account, is_taker in ((event.maker, False), (event.taker, True)):
                        if (FILLS, account) in topics:
                            row = fill_document(
                                spec, event, is_taker=is_taker, height=height, time_ms=time_ms
                            )
                            found.add((FILLS, account), row)
                case OrderUpdated() | OrderRejected():
                    account = (
                        event.order.account if isinstance(event, OrderUpdated) else event.account
                    )
                    if (ORDERS, account) in topics:
                        row = event_document(self._rules, event, height=height, time_ms=time_ms)
                        del row["event"]
                        found.add((ORDERS, account), row)
                case _:
                    pass
        return found

    def _send(self, topic: Topic, height: int, body: bytes) -> None:
        for stream, subscriber in list(self._topics.get(topic, {}).items()):
            if height > subscriber.after_height:  # F2
                subscriber.listener.push(stream, body)

    def _send_book(self, update: BookUpdate) -> None:
        for stream, subscriber in list(self._topics.get((BOOK, update.market), {}).items()):
            if update.height > subscriber.after_height:  # F2
                subscriber.listener.push_book(stream, update)


@dataclass(slots=True)
class _Sorted:
    """A block's events by topic; `moved` are the markets whose ticker may have changed."""

    rows: dict[Topic, Rows]
    levels: dict[str, tuple[Levels, Levels]]
    moved: dict[str, None]

    def add(self, topic: Topic, row: dict[str, Any]) -> None:
        """Add a row to a topic."""
        self.rows.setdefault(topic, []).append(row)


def _block_body(committed: CommittedBlock) -> bytes:
    header, outcome = committed.block.header, committed.outcome
    document = {
        "channel": BLOCKS,
        "height": header.height,
        "hash": "0x" + committed.block.hash.hex(),
        "time_ms": header.time_ms,
        "view": header.view,
        "proposer": header.proposer,
        "app_hash": "0x" + outcome.app_hash.hex(),
        "transactions": [
            {"hash": "0x" + result.hash.hex(), "code": result.code, "reason": result.reason}
            for result in outcome.results
        ],
        "events": len(outcome.events),
    }
    return _encode(document)[1:-1]
