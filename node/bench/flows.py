"""Seeded order flows for the benchmarks of the engine.

Three flows over plain books, and one of whole transactions. All are drawn from a seed; a reference
run of the engine while drawing keeps cancels to orders that still rest, so that every engine has
the same work to do and the same fills to find.

| flow | markets | adds / cancels / takes, % | resting orders |
| --- | --- | --- | --- |
| `s1` | 1 | 56 / 39 / 5 | held near 6,000 |
| `1` | 1 | 60 / 35 / 5 | grows: deep levels |
| `20` | 20, Zipf | 60 / 35 / 5 | grows |
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

import msgspec

from omninode.dex.accounts import Account, Owner
from omninode.dex.actions import ORDER_ID_BYTES
from omninode.dex.book import Book, Order
from omninode.dex.matching import match

ADD: Final = 0
CANCEL: Final = 1
TAKE: Final = 2

MID: Final = 10_000
"""Bids rest below it, offers above: only takes trade."""

DEPTH: Final = 240
"""Levels a side; orders thin out away from the middle."""

SIZE_MAX: Final = 10
TAKE_SIZE_MAX: Final = 36
"""Four fills a take, on average."""

Step = tuple[int, int, bytes, bool, int, int]
"""Kind, market, order id, is buy, price, size; a cancel has its order's id."""


@dataclass(frozen=True, slots=True)
class FlowShape:
    """What a flow is drawn from."""

    markets: int
    adds: int
    cancels: int
    resting: int | None = None


SHAPES: Final = {
    "s1": FlowShape(markets=1, adds=56, cancels=39, resting=6_000),
    "1": FlowShape(markets=1, adds=60, cancels=35),
    "20": FlowShape(markets=20, adds=60, cancels=35),
}


class DrawnFlow(msgspec.Struct, frozen=True, array_like=True):
    """A flow, and how many fills a price-time engine finds in it."""

    name: str
    steps: tuple[Step, ...]
    fills: int
    resting: int


class Matcher:
    """The engine alone: books and matching, without accounts' money, fees or records."""

    def __init__(self, markets: int) -> None:
        self.books: Final = [Book() for _ in range(markets)]
        self.orders: Final[dict[bytes, Order]] = {}
        self.fills = 0
        self._buyer = Account(Owner(b"b" * 20), 0)
        self._seller = Account(Owner(b"s" * 20), 0)

    def run(self, steps: Sequence[Step]) -> None:
        """Carry out operations."""
        books, orders, buyer, seller = self.books, self.orders, self._buyer, self._seller
        fills = 0
        for kind, market, identifier, is_buy, price, size in steps:
            book = books[market]
            if kind == CANCEL:
                book.remove(orders.pop(identifier))
                continue
            order = Order(
                identifier,
                buyer if is_buy else seller,
                market="",
                is_buy=is_buy,
                price=price,
                size=size,
                order_type="limit",
                tif="ioc" if kind == TAKE else "gtc",
                post_only=False,
                client_id="",
                height=0,
                time_ms=0,
            )
            if book.would_cross(is_buy, price):
                made = match(book, order, price)
                fills += len(made)
                for maker, _ in made:
                    if maker.level is None:
                        del orders[maker.order_id]
            if kind == ADD and order.remaining:
                book.add(order)
                orders[identifier] = order
        self.fills += fills

    def end_block(self) -> None:
        """Forget which levels changed, as the exchange does after each block."""
        for book in self.books:
            book.touched = {}


def draw_flow(name: str, count: int, seed: int) -> DrawnFlow:
    """Draw a flow of `SHAPES`.

    Args:
        name: Which.
        count: Operations.
        seed: Of the generator.
    """
    rng, shape = random.Random(seed), SHAPES[name]
    reference = Matcher(shape.markets)
    live: list[tuple[bytes, int]] = []
    steps: list[Step] = []
    filling = shape.resting is not None
    for number, market in enumerate(zipf_choice(rng, shape.markets, count)):
        roll = rng.randrange(100)
        resting = len(reference.orders)
        full = shape.resting is not None and resting >= shape.resting
        filling = filling and not full
        is_cancel = shape.adds <= roll < shape.adds + shape.cancels or (roll < shape.adds and full)
        step = draw_cancel(rng, live, reference) if is_cancel and not filling else None
        if step is None:
            is_take = roll >= shape.adds + shape.cancels and not filling
            step = draw_order(rng, order_id(number), market, is_take=is_take)
        if step[0] == ADD:
            live.append((step[2], market))
        reference.run((step,))
        steps.append(step)
    return DrawnFlow(name, tuple(steps), reference.fills, len(reference.orders))


def save_flow(flow: DrawnFlow, path: Path) -> None:
    """Write a flow to a file: drawing a long one takes longer than running it."""
    path.write_bytes(msgspec.msgpack.encode(flow))


def load_flow(path: Path) -> DrawnFlow:
    """Read a flow that `save_flow` wrote."""
    return msgspec.msgpack.decode(path.read_bytes(), type=DrawnFlow)


def order_id(number: int) -> bytes:
    """Return an id of the length that the exchange uses."""
    return number.to_bytes(ORDER_ID_BYTES, "big")


def zipf_choice(rng: random.Random, markets: int, count: int) -> list[int]:
    """Draw markets by Zipf's law: the k-th is chosen 1/k as often as the first."""
    if markets == 1:
        return [0] * count
    weights = list(accumulate(1 / rank for rank in range(1, markets + 1)))
    return rng.choices(range(markets), cum_weights=weights, k=count)


def draw_cancel(
    rng: random.Random, live: list[tuple[bytes, int]], reference: Matcher
) -> Step | None:
    """Choose an order that still rests; filled ones are dropped from `live` on the way."""
    while live:
        place = rng.randrange(len(live))
        identifier, market = live[place]
        live[place] = live[-1]
        live.pop()
        if identifier in reference.orders:
            return (CANCEL, market, identifier, False, 0, 0)
    return None


def draw_order(rng: random.Random, identifier: bytes, market: int, *, is_take: bool) -> Step:
    """Draw an order that rests, or one that takes."""
    is_buy = rng.random() < 0.5
    if is_take:
        price = MID + DEPTH if is_buy else MID - DEPTH
        return (TAKE, market, identifier, is_buy, price, rng.randint(1, TAKE_SIZE_MAX))
    away = 1 + min(int(rng.expovariate(4 / DEPTH)), DEPTH - 1)
    price = MID - away if is_buy else MID + away
    return (ADD, market, identifier, is_buy, price, rng.randint(1, SIZE_MAX))
