"""Matching an arriving order (taker) with resting ones (makers), in price-time priority.

Rules
    K1. A fill happens at the maker's price; the best price first, within a price the oldest first.
    K2. A trader never trades with itself: a resting order of the taker's own address (any
        subaccount) leaves the book unfilled, and matching goes on ("expire maker").
    K3. Matching moves lots and nothing else; `settlement` moves the money afterwards, in the order
        of the fills. Nothing in either can fail: all refusals come before the first change.

Compiled by mypyc where that is asked for.
"""

from __future__ import annotations

from omninode.dex.accounts import Owner
from omninode.dex.book import Book, Order

Fill = tuple[Order, int]
"""A maker and the lots it gave; 0 lots: it expired by K2."""


class Reach:
    """What an order could fill right now: lots, and their price x size in ticks x lots."""

    __slots__ = ("lots", "notional")

    def __init__(self, lots: int, notional: int) -> None:
        self.lots = lots
        self.notional = notional


def reach(book: Book, *, is_buy: bool, limit: int, lots: int, owner: Owner) -> Reach:
    """Walk the opposite side as `match` would, without changing anything (K1, K2)."""
    left = lots
    notional = 0
    keys = book.ask_keys if is_buy else book.bid_prices
    for place in range(len(keys) - 1, -1, -1):
        price = -keys[place] if is_buy else keys[place]
        if left == 0 or (price > limit if is_buy else price < limit):
            break
        order = (book.asks[price] if is_buy else book.bids[price]).head
        while order is not None and left:
            if order.account.owner is not owner:
                taken = min(left, order.remaining)
                left -= taken
                notional += taken * price
            order = order.next
    return Reach(lots - left, notional)


def match(book: Book, taker: Order, limit: int) -> list[Fill]:
    """Fill `taker` against the book up to the price `limit`, as far as it goes.

    A maker that was filled whole, or expired, has left the book (`level` is None).
    """
    fills: list[Fill] = []
    owner = taker.account.owner
    is_buy = taker.is_buy
    keys = book.ask_keys if is_buy else book.bid_prices
    worst = -limit if is_buy else limit
    while keys and keys[-1] >= worst and taker.remaining:
        maker = (book.asks[-keys[-1]] if is_buy else book.bids[keys[-1]]).head
        assert maker is not None
        if maker.account.owner is owner:  # K2
            book.remove(maker)
            fills.append((maker, 0))
        elif maker.remaining > taker.remaining:
            fills.append((maker, taker.remaining))
            book.reduce(maker, taker.remaining)
            taker.remaining = 0
        else:
            fills.append((maker, maker.remaining))
            taker.remaining -= maker.remaining
            book.remove(maker)
            maker.remaining = 0
    return fills
