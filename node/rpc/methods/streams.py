"""Subscriptions on a WebSocket: blocks, trades, books, tickers, orders and fills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from omninode.dex.views import open_orders_view
from omninode.errors import UserError
from omninode.node.rpc import results
from omninode.node.rpc.context import Context
from omninode.node.rpc.errors import InvalidParams
from omninode.node.rpc.feed import BOOK, FILLS, ORDERS, TICKER, TRADES, Topic
from omninode.node.rpc.market_reads import market_named, ticker, whole_book
from omninode.node.rpc.methods.node import stored_head
from omninode.node.rpc.outbox import Stream
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import AccountText, MarketName, read_account
from omninode.node.rpc.registry import Params, method
from omninode.node.rpc.session import Session, not_on_http

Document = dict[str, Any]

OF_A_MARKET = (TRADES, BOOK, TICKER)
OF_AN_ACCOUNT = (ORDERS, FILLS)


class Subscribe(Params, frozen=True):
    """Which channel, and of what: `market` for trades, book and ticker, `address` for the rest."""

    channel: Literal["blocks", "trades", "book", "ticker", "orders", "fills"]
    market: MarketName | None = None
    address: AccountText | None = None


class Unsubscribe(Params, frozen=True):
    """Which subscription."""

    subscription: Annotated[
        str, msgspec.Meta(max_length=32, description="As `omni_subscribe` returned it.")
    ]


@method(
    "omni_subscribe",
    result=results.Subscribed,
    errors=(
        "websocket_required",
        "too_many_subscriptions",
        "unknown_market",
        "book_too_large",
        "starting",
    ),
    streams=True,
    cost=5,
)
def subscribe(context: Context[Services], params: Subscribe) -> Document:
    """Begin a subscription on this WebSocket; the result holds the snapshot of `height`.

    - `blocks`: each stored block's hash, time and its transactions' outcomes.
    - `trades`: a market's trades, per block.
    - `book`: a market's changed levels `[price, size]`, size "0" for a level that is gone (it may
      have come in the same block); the snapshot has all levels. A client that reads slowly gets
      several blocks' changes in one.
    - `ticker`: a market's last price and best prices, when they may have changed.
    - `orders`: an account's orders, whenever one changes; the snapshot has the open ones.
    - `fills`: an account's fills, per block.
    """
    session = _session(context)
    if context.in_batch:
        raise InvalidParams("subscribe outside of a batch, so that the answer comes first")
    node = context.node
    topic = _topic(node, params)
    height, snapshot = _snapshot(node, topic)

    def begin(stream: Stream) -> Callable[[], None]:
        return node.feed.subscribe(topic, stream, session, after_height=height)

    stream = session.open_stream(begin)
    return {
        "subscription": stream.subscription,
        "channel": params.channel,
        "height": height,
        "snapshot": snapshot,
    }


@method(
    "omni_unsubscribe",
    result=bool,
    errors=("websocket_required", "unknown_subscription"),
    reads_state=False,
    streams=True,
)
def unsubscribe(context: Context[Services], params: Unsubscribe) -> bool:
    """End a subscription of this WebSocket; nothing more of it is sent."""
    if not _session(context).close_stream(params.subscription):
        raise UserError("unknown_subscription", "this connection has no such subscription")
    return True


def _session(context: Context[Services]) -> Session:
    if context.session is None:
        raise not_on_http()
    return context.session


def _topic(node: Services, params: Subscribe) -> Topic:
    """Check that channel, market and address go together."""
    channel = params.channel
    wants_market, wants_address = channel in OF_A_MARKET, channel in OF_AN_ACCOUNT
    if (params.market is not None) != wants_market:
        raise InvalidParams(f"channel {channel} {'needs a' if wants_market else 'has no'} market")
    if (params.address is not None) != wants_address:
        raise InvalidParams(
            f"channel {channel} {'needs an' if wants_address else 'has no'} address"
        )
    if params.market is not None:
        return channel, market_named(node.exchange, params.market).spec.name
    if params.address is not None:
        return channel, read_account(params.address)
    return channel, ""


def _snapshot(node: Services, topic: Topic) -> tuple[int, Any]:
    """Return what a subscription begins with, and the height that it is true for."""
    exchange = node.exchange
    match topic:
        case ("book", str(market)):
            return exchange.height, whole_book(exchange, market)
        case ("ticker", str(market)):
            return exchange.height, ticker(exchange, market)
        case ("orders", bytes(address)):
            return exchange.height, open_orders_view(exchange, address)
        case _:
            return stored_head(node).height, None
