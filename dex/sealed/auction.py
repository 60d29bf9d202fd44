"""One price for all: the call auction of a batch in one market. Pure; it moves nothing.

Rules
    U1. A buy may trade at any price up to its limit, a sell from its limit up. At a price P demand
        is the lots of all buys with a limit of P or more, supply that of all sells with P or less;
        the smaller of the two can trade.
    U2. The price is one at which most lots trade; of those, one with the least difference between
        demand and supply; of those, which are neighbours, the middle one, rounded down.
    U3. The smaller side trades whole. On the larger one the better limit goes first, and among
        equal limits the smaller rank.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from omninode.dex.book import Order


class Clearing(NamedTuple):
    """The price in ticks (0: nothing trades), the lots of each side, and who trades how many.

    `fills` keep the order of rank and leave out who gets nothing.
    """

    price: int
    lots: int
    fills: tuple[tuple[Order, int], ...]


def clear(ranked: Sequence[Order]) -> Clearing:
    """Find the price of a batch and share out what trades at it.

    Args:
        ranked: The revealed orders of one market by rank; `remaining` is what each wants.
    """
    buys = [order for order in ranked if order.is_buy]
    sells = [order for order in ranked if not order.is_buy]
    price = _price(buys, sells)
    if not price:
        return Clearing(0, 0, ())
    eager_buys = sorted((o for o in buys if o.price >= price), key=lambda o: -o.price)
    eager_sells = sorted((o for o in sells if o.price <= price), key=lambda o: o.price)
    lots = min(_total(eager_buys), _total(eager_sells))
    given = _ration(eager_buys, lots) | _ration(eager_sells, lots)
    fills = tuple((o, given[o.order_id]) for o in ranked if o.order_id in given)
    return Clearing(price, lots, fills)


def _total(orders: Sequence[Order]) -> int:
    return sum(order.remaining for order in orders)


def _ration(eager: Sequence[Order], lots: int) -> dict[bytes, int]:
    """Hand out lots to the orders of one side, first come first served (U3)."""
    given: dict[bytes, int] = {}
    for order in eager:
        taken = min(order.remaining, lots)
        if taken:
            given[order.order_id] = taken
        lots -= taken
    return given


class _Curve:
    """Lots by limit price, ascending, with their running sum."""

    def __init__(self, orders: Sequence[Order]) -> None:
        pairs = sorted((order.price, order.remaining) for order in orders)
        self.limits = [limit for limit, _ in pairs]
        self.sums = [0, *accumulate(lots for _, lots in pairs)]

    def below(self, price: int) -> int:
        """Return the lots with a limit below a price."""
        return self.sums[bisect_left(self.limits, price)]


def _price(buys: Sequence[Order], sells: Sequence[Order]) -> int:
    """Choose the price (U2); 0 when no buy meets a sell.

    Demand and supply change only next to a limit, so every run of equally good prices begins and
    ends at one of the prices tried here.
    """
    demand, supply = _Curve(buys), _Curve(sells)
    tried = {p for limit in demand.limits for p in (limit, limit + 1)}
    tried |= {p for limit in supply.limits for p in (limit - 1, limit)}
    best = (0, 0)
    first = last = 0
    for price in sorted(tried):
        wanted = demand.sums[-1] - demand.below(price)
        offered = supply.below(price + 1)
        traded = min(wanted, offered)
        if not traded:
            continue
        merit = (traded, -abs(wanted - offered))
        if not first or merit > best:
            best, first, last = merit, price, price
        elif merit == best:
            last = price
    return (first + last) // 2
