"""Market data: rules, books, trades, tickers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from omninode.dex.documents import trade_document
from omninode.dex.limits import BOOK_DEPTH_MAX
from omninode.dex.views import markets_view, order_book_view
from omninode.node.rpc import results
from omninode.node.rpc.context import Context
from omninode.node.rpc.market_reads import market_named, ticker
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import LIMIT_DEFAULT, Height, Limit, MarketName, read_limit
from omninode.node.rpc.registry import Params, method

Document = dict[str, Any]


class GetOrderBook(Params, frozen=True):
    """Whose book, and how much of it."""

    market: MarketName
    depth: Annotated[
        int, msgspec.Meta(ge=1, le=BOOK_DEPTH_MAX, description="Most levels of each side.")
    ] = 50


class GetTrades(Params, frozen=True):
    """Whose trades, and which page of them."""

    market: MarketName
    limit: Limit = LIMIT_DEFAULT
    before: Annotated[
        Height | None, msgspec.Meta(description="Only trades with a lower `trade_id`.")
    ] = None


@method("omni_getMarkets", result=results.Markets)
def get_markets(context: Context[Services], params: Params) -> Document:
    """List the markets with their rules and best prices."""
    del params
    exchange = context.node.exchange
    return {"height": exchange.height, "markets": markets_view(exchange)}


@method("omni_getOrderBook", result=results.OrderBook, errors=("unknown_market",))
def get_order_book(context: Context[Services], params: GetOrderBook) -> Document:
    """Return a market's order book by price level."""
    return order_book_view(context.node.exchange, params.market, depth=params.depth)


@method("omni_getTrades", result=results.Trades, errors=("unknown_market",), cost=2)
def get_trades(context: Context[Services], params: GetTrades) -> Document:
    """List a market's trades, newest first."""
    node = context.node
    spec = market_named(node.exchange, params.market).spec
    limit = read_limit(params.limit, node.list_max)
    rows = node.history.trades(params.market, limit=limit, before=params.before)
    return {
        "height": node.exchange.height,
        "market": params.market,
        "trades": [
            trade_document(spec, row.trade, height=row.height, time_ms=row.time_ms) for row in rows
        ],
        "next": rows[-1].trade.sequence if len(rows) == limit else None,
    }


@method("omni_getTickers", result=results.Tickers)
def get_tickers(context: Context[Services], params: Params) -> Document:
    """Return every market's last price and best prices."""
    del params
    exchange = context.node.exchange
    return {
        "height": exchange.height,
        "time_ms": exchange.time_ms,
        "tickers": [ticker(exchange, name) for name in exchange.state.markets],
    }
