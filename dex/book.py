"""The order book of one market: price levels in time order, best price last in a sorted list.

Rules
    B1. Within a level orders stand in the order of their `sequence`; the head is the oldest.
    B2. `bid_prices` and `ask_keys` ascend, and the best price is the last entry of both, so that
        taking the best is O(1): asks are kept as negated prices.
    B3. A level exists while it has an order; its `lots` is the sum of what its orders have left.
    B4. The best bid is below the best ask: whoever adds an order has matched it first.
    B5. Links of a removed order are cut, so that reference counting frees it (the cycle collector
        is off in a block).

Compiled by mypyc where that is asked for: plain classes, no dynamic attributes.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from omninode.dex.accounts import Account


class Order:
    """An order while it is matched and while it rests. Prices are in ticks, sizes in lots.

    `hold` is what a resting buy holds in base units of the quote asset; a resting sell holds its
    remaining base. The cumulative `notional`, `fee_numerator` and `fees` are those of
    `events.OrderRecord`. `is_stored` says whether a record of it lies in the database.
    """

    __slots__ = (
        "account",
        "client_id",
        "fee_numerator",
        "fees",
        "height",
        "hold",
        "is_buy",
        "is_stored",
        "level",
        "market",
        "next",
        "notional",
        "order_id",
        "order_type",
        "post_only",
        "previous",
        "price",
        "remaining",
        "sequence",
        "size",
        "tif",
        "time_ms",
    )

    def __init__(  # noqa: PLR0917 - see is_buy
        self,
        order_id: bytes,
        account: Account,
        market: str,
        is_buy: bool,  # noqa: FBT001 - by position: by name an order takes twice as long to make
        price: int,
        size: int,
        order_type: str,
        tif: str,
        post_only: bool,  # noqa: FBT001
        client_id: str,
        height: int,
        time_ms: int,
    ) -> None:
        self.order_id = order_id
        self.account = account
        self.market = market
        self.is_buy = is_buy
        self.price = price
        self.size = size
        self.remaining = size
        self.order_type = order_type
        self.tif = tif
        self.post_only = post_only
        self.client_id = client_id
        self.height = height
        self.time_ms = time_ms
        self.sequence = 0
        self.hold = 0
        self.notional = 0
        self.fee_numerator = 0
        self.fees = 0
        self.is_stored = False
        self.level: Level | None = None
        self.previous: Order | None = None
        self.next: Order | None = None


class Level:
    """All orders at one price and side, oldest first (B1, B3)."""

    __slots__ = ("head", "lots", "price", "tail")

    def __init__(self, price: int) -> None:
        self.price = price
        self.lots = 0
        self.head: Order | None = None
        self.tail: Order | None = None


class Book:
    """Both sides of one market, and which levels changed since `touched` was last emptied.

    `touched` has bid prices as they are and ask prices negated (B2).
    """

    __slots__ = ("ask_keys", "asks", "bid_prices", "bids", "touched")

    def __init__(self) -> None:
        self.bids: dict[int, Level] = {}
        self.asks: dict[int, Level] = {}
        self.bid_prices: list[int] = []
        self.ask_keys: list[int] = []
        self.touched: dict[int, None] = {}

    def best_bid(self) -> Level | None:
        """Return the highest bid level."""
        return self.bids[self.bid_prices[-1]] if self.bid_prices else None

    def best_ask(self) -> Level | None:
        """Return the lowest ask level."""
        return self.asks[-self.ask_keys[-1]] if self.ask_keys else None

    def would_cross(self, is_buy: bool, price: int) -> bool:  # noqa: FBT001
        """Whether an order at this price would trade at once."""
        if is_buy:
            return bool(self.ask_keys) and -self.ask_keys[-1] <= price
        return bool(self.bid_prices) and self.bid_prices[-1] >= price

    def add(self, order: Order) -> None:
        """Put an order at the tail of its level; the caller has set its `sequence`."""
        price = order.price
        if order.is_buy:
            level = self.bids.get(price)
            if level is None:
                level = self.bids[price] = Level(price)
                insort(self.bid_prices, price)
            self.touched[price] = None
        else:
            level = self.asks.get(price)
            if level is None:
                level = self.asks[price] = Level(price)
                insort(self.ask_keys, -price)
            self.touched[-price] = None
        tail = level.tail
        if tail is None:
            level.head = order
        else:
            tail.next = order
            order.previous = tail
        level.tail = order
        level.lots += order.remaining
        order.level = level

    def remove(self, order: Order) -> None:
        """Take an order out, and its level when it was the last."""
        level = order.level
        assert level is not None
        before, after = order.previous, order.next
        if before is None:
            level.head = after
        else:
            before.next = after
        if after is None:
            level.tail = before
        else:
            after.previous = before
        level.lots -= order.remaining
        order.level = order.previous = order.next = None  # B5
        if order.is_buy:
            self.touched[level.price] = None
            if level.head is None:
                del self.bids[level.price]
                _discard(self.bid_prices, level.price)
        else:
            self.touched[-level.price] = None
            if level.head is None:
                del self.asks[level.price]
                _discard(self.ask_keys, -level.price)

    def reduce(self, order: Order, lots: int) -> None:
        """Lower what a resting order has left; it keeps its place."""
        level = order.level
        assert level is not None
        assert 0 < lots < order.remaining
        order.remaining -= lots
        level.lots -= lots
        self.touched[level.price if order.is_buy else -level.price] = None

    def level_lots(self, key: int) -> int:
        """Return the size at a key of `touched`; 0 when the level is gone."""
        level = self.bids.get(key) if key > 0 else self.asks.get(-key)
        return 0 if level is None else level.lots


def _discard(keys: list[int], key: int) -> None:
    """Remove a key from an ascending list; most often it is the last."""
    if keys[-1] == key:
        keys.pop()
    else:
        del keys[bisect_left(keys, key)]


def check_book(book: Book) -> int:
    """Assert B1 to B4 over the whole book and return how many orders rest in it."""
    assert book.bid_prices == sorted(book.bids)
    assert book.ask_keys == sorted(-price for price in book.asks)
    if book.bid_prices and book.ask_keys:
        assert book.bid_prices[-1] < -book.ask_keys[-1]  # B4
    count = 0
    for is_buy, levels in ((True, book.bids), (False, book.asks)):
        for price, level in levels.items():
            assert level.price == price
            count += _check_level(level, is_buy=is_buy)
    return count


def _check_level(level: Level, *, is_buy: bool) -> int:
    """Assert B1 and B3 for one level and return how many orders it has."""
    count = lots = sequence = 0
    previous: Order | None = None
    order = level.head
    while order is not None:
        assert order.level is level
        assert order.previous is previous
        assert order.is_buy == is_buy
        assert order.price == level.price
        assert 0 < order.remaining <= order.size
        assert order.sequence > sequence  # B1
        sequence = order.sequence
        lots += order.remaining
        count += 1
        previous, order = order, order.next
    assert level.tail is previous
    assert count > 0
    assert level.lots == lots  # B3
    return count
