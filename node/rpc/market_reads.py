"""Reads of a market that streams need beside `dex.views`: its ticker and its whole book."""

from __future__ import annotations

from typing import Any

from omninode.dex.documents import price_text, size_text
from omninode.dex.exchange import Exchange
from omninode.dex.markets import Market
from omninode.errors import Rejected
from omninode.node.rpc.limits import BOOK_LEVELS_MAX

Document = dict[str, Any]


def market_named(exchange: Exchange, name: str) -> Market:
    """Return a market.

    Raises:
        Rejected: `unknown_market`.
    """
    market = exchange.state.markets.get(name)
    if market is None:
        raise Rejected("unknown_market", f"there is no market {name}")
    return market


def ticker(exchange: Exchange, name: str) -> Document:
    """Return a market's last price and best prices."""
    market = market_named(exchange, name)
    spec, bid, ask = market.spec, market.book.best_bid(), market.book.best_ask()
    return {
        "market": name,
        "last_price": price_text(spec, market.last_price) if market.last_price else None,
        "best_bid": None if bid is None else price_text(spec, bid.price),
        "best_ask": None if ask is None else price_text(spec, ask.price),
        "trades": market.trades,
    }


def whole_book(exchange: Exchange, name: str) -> Document:
    """Return `[price, size]` of every level of a market, best first.

    Updates tell of any level, so what they begin with must not be cut at some depth.

    Raises:
        Rejected: `book_too_large`, above `BOOK_LEVELS_MAX` levels a side.
    """
    market = market_named(exchange, name)
    spec, book = market.spec, market.book
    if max(len(book.bid_prices), len(book.ask_keys)) > BOOK_LEVELS_MAX:
        raise Rejected(
            "book_too_large",
            f"more than {BOOK_LEVELS_MAX} levels on a side",
            hint="ask omni_getOrderBook for the best ones",
        )
    return {
        "bids": [
            [price_text(spec, price), size_text(spec, book.bids[price].lots)]
            for price in reversed(book.bid_prices)
        ],
        "asks": [
            [price_text(spec, -key), size_text(spec, book.asks[-key].lots)]
            for key in reversed(book.ask_keys)
        ],
    }
