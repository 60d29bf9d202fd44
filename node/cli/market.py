"""`omninode market`: markets, their books and their trades."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from omninode.errors import ConfigError
from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.output import emit, print_table

app = typer.Typer()

MARKET_COLUMNS: Final = (
    "market",
    "tick",
    "lot",
    "min_notional",
    "maker_fee_ppm",
    "taker_fee_ppm",
    "best_bid",
    "best_ask",
    "last_price",
)
TRADE_COLUMNS: Final = ("time_ms", "trade_id", "side", "price", "size", "height")

Market = Annotated[
    str | None, typer.Argument(metavar="MARKET", help="Such as XOM-USDC.", show_default=False)
]
MarketFlag = Annotated[
    str | None, typer.Option("--market", help="The market, if not named before.", hidden=True)
]


@app.command("list")
def list_(rpc: RpcUrl = None) -> None:
    """List the markets with their grids, fees and best prices."""
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getMarkets")
    rows = [[market.get(column) for column in MARKET_COLUMNS] for market in document["markets"]]
    emit(document, lambda: print_table(MARKET_COLUMNS, rows, empty="no markets"))


@app.command("book")
def book(
    market: Market = None,
    *,
    named: MarketFlag = None,
    depth: Annotated[int, typer.Option(min=1, max=1_000, help="Levels of each side.")] = 10,
    rpc: RpcUrl = None,
) -> None:
    """Show a market's order book: offers above, bids below."""
    params = {"market": _market(market, named), "depth": depth}
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getOrderBook", params)
    emit(document, lambda: _print_book(document))


@app.command("trades")
def trades(
    market: Market = None,
    *,
    named: MarketFlag = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Newest trades to show.")] = 20,
    rpc: RpcUrl = None,
) -> None:
    """Show a market's newest trades."""
    params = {"market": _market(market, named), "limit": limit}
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getTrades", params)
    rows = [[trade.get(column) for column in TRADE_COLUMNS] for trade in document["trades"]]
    emit(document, lambda: print_table(TRADE_COLUMNS, rows, empty="no trades yet"))


def _market(argument: str | None, flag: str | None) -> str:
    name = argument if argument is not None else flag
    if name is None:
        raise ConfigError("name the market", hint="`omninode market list` shows them")
    return name


def _print_book(document: dict[str, Any]) -> None:
    asks = [["sell", *level] for level in reversed(document["asks"])]
    bids = [["buy", *level] for level in document["bids"]]
    print_table(["side", "price", "size"], asks + bids, empty="the book is empty")
