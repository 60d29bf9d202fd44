"""The house: quotes the markets without recorded flow, and never takes.

Rules
    H1. All its orders are post-only, so it never trades at a price that another has put up.
    H2. It looks at its open orders now and then, also after a restart, and fills up levels of which
        less than half is left. It never moves a quote.
    H3. XOM-USDC: bids at 0.99 and below, offers at 1.01 and above. ETH-USDC: around 3000. Prices
        between are free for everybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, NoReturn

import trio

from omninode.dex.actions import Batch, PlaceOrder
from omninode.node.devnet.accounts import HOUSE
from omninode.node.devnet.connection import Connection
from omninode.node.devnet.flow import Request
from omninode.node.devnet.sender import Sender, first_answer

LEVELS: Final = 10
REFILL_INTERVAL_S: Final = 2.0

Side = Literal["buy", "sell"]


@dataclass(frozen=True, slots=True)
class Quote:
    """What the house wants to have open at one price."""

    market: str
    side: Side
    price: str
    size: str


@dataclass(frozen=True, slots=True)
class _Ladder:
    market: str
    bid: str
    offer: str
    step: str
    size: str


_LADDERS: Final = (
    _Ladder("XOM-USDC", bid="0.99", offer="1.01", step="0.01", size="1000"),
    _Ladder("ETH-USDC", bid="2999", offer="3001", step="1", size="2"),
)


def quotes() -> Iterator[Quote]:
    """Yield everything that the house wants to have open."""
    for ladder in _LADDERS:
        for level in range(LEVELS):
            away = Decimal(ladder.step) * level
            bid, offer = Decimal(ladder.bid) - away, Decimal(ladder.offer) + away
            yield Quote(ladder.market, "buy", _text(bid), ladder.size)
            yield Quote(ladder.market, "sell", _text(offer), ladder.size)


def refills(open_orders: Sequence[Mapping[str, Any]], run: str, count: int) -> Request | None:
    """Return the orders that bring the house back to its quotes (H2); `None` if it is near enough.

    Args:
        open_orders: The house's open orders, as `omni_getOpenOrders` has them.
        run: A text of this run alone.
        count: How often it was refilled in this run; the two make client ids unique.
    """
    left: dict[tuple[str, str, str], Decimal] = {}
    for order in open_orders:
        key = (order["market"], order["side"], order["price"])
        left[key] = left.get(key, Decimal(0)) + Decimal(order["remaining"])
    orders = []
    for place, quote in enumerate(quotes()):
        there = left.get((quote.market, quote.side, quote.price), Decimal(0))
        if there * 2 < Decimal(quote.size):
            missing = _text(Decimal(quote.size) - there)
            orders.append(_order(quote, missing, client_id=f"{run}-h{count}-{place}"))
    if not orders:
        return None
    return Request(HOUSE, Batch(cancels=(), replaces=(), orders=tuple(orders)), len(orders))


def _order(quote: Quote, size: str, *, client_id: str) -> PlaceOrder:
    return PlaceOrder(
        subaccount=0,
        market=quote.market,
        side=quote.side,
        order_type="limit",
        size=size,
        price=quote.price,
        tif="gtc",
        post_only=True,  # H1
        slippage_ppm=0,
        client_id=client_id,
    )


def _text(value: Decimal) -> str:
    """Write a decimal without an exponent or trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class House:
    """Keeps the house's quotes up.

    Args:
        connections: Whom to ask for its open orders.
        sender: Sends its orders.
        address: Its account.
        run: A text of this run alone.
    """

    def __init__(
        self, connections: Sequence[Connection], sender: Sender, *, address: str, run: str
    ) -> None:
        self._connections = connections
        self._sender = sender
        self._address = address
        self._run = run
        self._count = 0

    async def refill(self) -> None:
        """Bring the quotes back, and return when that is final."""
        answer = await first_answer(
            self._connections,
            lambda connection: connection.call("omni_getOpenOrders", {"address": self._address}),
        )
        if answer is None:
            return
        request = refills(answer["orders"], self._run, self._count)
        if request is not None:
            self._count += 1
            identifier = await self._sender.send(request, measured=False)
            await self._sender.settled([identifier])

    async def run(self) -> NoReturn:
        """Keep the quotes up until cancelled."""
        while True:
            await trio.sleep(REFILL_INTERVAL_S)
            await self.refill()
