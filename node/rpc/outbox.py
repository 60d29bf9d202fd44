"""What waits to be sent on one WebSocket, in order and within bounds.

Rules
    O1. Responses and stream messages leave in the order in which they were put.
    O2. Book updates of one subscription that wait behind each other become one: the newest size of
        each level. Nothing else is merged or dropped.
    O3. Beyond the bounds of `limits.py` the client is *slow*: its session closes with 4008. It
        never misses a message without being told.
    O4. Each subscription counts its messages in `sequence`, from 1, when they are taken out.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec
import trio

from omninode.node.rpc.envelope import notification
from omninode.node.rpc.limits import (
    OUTBOX_BYTES_MAX,
    OUTBOX_FAIR_BYTES,
    OUTBOX_MESSAGES_MAX,
    OUTBOXES_BYTES_MAX,
)

NOTIFICATION_METHOD: Final = "omni_subscription"
_LEVEL_BYTES: Final = 48
_encode = msgspec.json.encode

Levels = dict[str, str]
"""Size by price, both decimal text; size "0" means that the level is gone."""


class Stream:
    """One subscription's place in an outbox.

    Args:
        subscription: Its id, as the client knows it.
    """

    def __init__(self, subscription: str) -> None:
        self.subscription: Final = subscription
        self.sequence = 0
        self.ended = False
        self.pending: BookUpdate | None = None

    def number(self, body: bytes) -> bytes:
        """Return a stream message with the subscription's id and the next sequence number (O4)."""
        self.sequence += 1
        params = b'{"subscription":"%b","sequence":%d,%b}' % (
            self.subscription.encode(),
            self.sequence,
            body,
        )
        return notification(NOTIFICATION_METHOD, params)


class BookUpdate:
    """Changed levels of one market that wait to be sent."""

    def __init__(self, market: str, height: int, bids: Levels, asks: Levels) -> None:
        self.market: Final = market
        self.height = height
        self.bids: Final = dict(bids)
        self.asks: Final = dict(asks)

    def merge(self, height: int, bids: Levels, asks: Levels) -> None:
        """Take over newer levels (O2)."""
        self.height = height
        self.bids.update(bids)
        self.asks.update(asks)

    @property
    def size(self) -> int:
        """About how many bytes it will have."""
        return _LEVEL_BYTES * (2 + len(self.bids) + len(self.asks))

    def body(self) -> bytes:
        """Return the members of the message, without braces."""
        members = {
            "channel": "book",
            "market": self.market,
            "height": self.height,
            "bids": list(self.bids.items()),
            "asks": list(self.asks.items()),
        }
        return _encode(members)[1:-1]


class Budget:
    """How many bytes wait in all outboxes together."""

    def __init__(self) -> None:
        self.used = 0


class Outbox:
    """The bounded queue of one WebSocket; one task takes, any may put.

    Args:
        budget: Shared with the other outboxes of the server.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._queue: deque[tuple[Stream | None, bytes | BookUpdate]] = deque()
        self._bytes = 0
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether a bound is reached: no further request should be read, no event be put."""
        return len(self._queue) >= OUTBOX_MESSAGES_MAX or self._heavy

    @property
    def _heavy(self) -> bool:
        fair = self._budget.used < OUTBOXES_BYTES_MAX or self._bytes < OUTBOX_FAIR_BYTES
        return self._bytes >= OUTBOX_BYTES_MAX or not fair

    def put(self, message: bytes) -> None:
        """Append a response."""
        self._append(None, message, len(message))

    def put_event(self, stream: Stream, body: bytes) -> bool:
        """Append a stream message, given as JSON members without braces.

        Returns:
            False if the client is too slow (O3).
        """
        if self.full:
            return False
        self._append(stream, body, len(body))
        return True

    def put_book(self, stream: Stream, update: BookUpdate) -> bool:
        """Append a book update, or merge it into the one that still waits (O2).

        Returns:
            False if the client is too slow (O3).
        """
        waiting = stream.pending
        if waiting is None:
            if self.full:
                return False
            stream.pending = BookUpdate(update.market, update.height, update.bids, update.asks)
            self._append(stream, stream.pending, update.size)
            return True
        if self._heavy:
            return False
        before = waiting.size
        waiting.merge(update.height, update.bids, update.asks)
        self._count(waiting.size - before)
        return True

    async def take(self) -> bytes:
        """Return the next message, when there is one."""
        while True:
            while not self._queue:
                await self._readers.park()
            stream, item = self._queue.popleft()
            self._count(-(len(item) if isinstance(item, bytes) else item.size))
            if not self.full:
                self._writers.unpark_all()
            if stream is None:
                assert isinstance(item, bytes)
                return item
            if isinstance(item, BookUpdate):
                stream.pending = None
                item = item.body()
            if not stream.ended:
                return stream.number(item)

    def close(self) -> None:
        """Drop everything that waits."""
        self._queue.clear()
        self._count(-self._bytes)

    async def has_room(self) -> None:
        """Return when the outbox is not full: back-pressure on a client that does not read."""
        while self.full:
            await self._writers.park()

    def _append(self, stream: Stream | None, item: bytes | BookUpdate, size: int) -> None:
        self._queue.append((stream, item))
        self._count(size)
        self._readers.unpark()

    def _count(self, size: int) -> None:
        self._bytes += size
        self._budget.used += size
