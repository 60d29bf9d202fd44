"""One account: balances, orders, fills."""

from __future__ import annotations

from typing import Any

from omninode.crypto import checksum_address
from omninode.dex.actions import Batch, CommitSealed, PlaceOrder
from omninode.dex.documents import (
    fill_document,
    order_document,
    rejected_order_document,
    sealed_order_document,
)
from omninode.dex.events import OrderRejected
from omninode.dex.views import (
    account_view,
    open_orders_view,
    order_by_client_id_view,
    order_view,
)
from omninode.errors import UserError
from omninode.node.rpc import results
from omninode.node.rpc.context import Context
from omninode.node.rpc.errors import InvalidParams
from omninode.node.rpc.market_reads import market_named
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import (
    LIMIT_DEFAULT,
    AddressText,
    ClientIdText,
    CursorText,
    HashText,
    Limit,
    ListedText,
    MarketName,
    read_address,
    read_cursor,
    read_hash,
    read_limit,
    write_cursor,
)
from omninode.node.rpc.receipts import order_ids
from omninode.node.rpc.registry import Params, method

Document = dict[str, Any]


class GetAccount(Params, frozen=True):
    """Whose account; with `/N`, only that subaccount."""

    address: ListedText


class GetOpenOrders(Params, frozen=True):
    """Whose orders; with `/N`, only that subaccount's."""

    address: ListedText
    market: MarketName | None = None


class GetOrder(Params, frozen=True):
    """Which order: by `order_id`, or an open one by `address` and `client_id`."""

    order_id: HashText | None = None
    address: AddressText | None = None
    client_id: ClientIdText | None = None


class GetFills(Params, frozen=True):
    """Whose fills, and which page of them; with `/N`, only that subaccount's."""

    address: ListedText
    before: CursorText | None = None
    limit: Limit = LIMIT_DEFAULT


@method("omni_getAccount", result=results.Account)
def get_account(context: Context[Services], params: GetAccount) -> Document:
    """Return an account's balances, session keys and number of open orders."""
    address, subaccount = read_address(params.address)
    document = account_view(context.node.exchange, address)
    if subaccount is not None:
        document["subaccounts"] = [
            part for part in document["subaccounts"] if part["subaccount"] == subaccount
        ]
    return document


@method("omni_getOpenOrders", result=results.OpenOrders, errors=("unknown_market",), cost=5)
def get_open_orders(context: Context[Services], params: GetOpenOrders) -> Document:
    """List an account's open orders by market and age."""
    exchange = context.node.exchange
    address, subaccount = read_address(params.address)
    market = "" if params.market is None else market_named(exchange, params.market).spec.name
    return {
        "height": exchange.height,
        "address": checksum_address(address),
        "orders": open_orders_view(exchange, address, subaccount=subaccount, market=market),
    }


@method("omni_getOrder", result=results.Order, errors=("unknown_order",))
def get_order(context: Context[Services], params: GetOrder) -> Document:
    """Return an order, open, sealed or ended; by client id, an open one.

    An order of a transaction that was acknowledged here and is not final yet is `received`. Of a
    sealed order only the market is known until it is `revealed`; not revealed in time, it ends
    `rejected`.
    """
    node = context.node
    if params.order_id is not None and params.address is None and params.client_id is None:
        return _order_by_id(node, read_hash(params.order_id))
    if params.order_id is not None or params.address is None or params.client_id is None:
        raise InvalidParams("name the order by order_id, or by address and client_id")
    address, subaccount = read_address(params.address)
    found = order_by_client_id_view(
        node.exchange, address, subaccount or 0, client_id=params.client_id
    )
    if found is None:
        raise UserError(
            "unknown_order",
            f"no open order has the client id {params.client_id}",
            hint="an order that ended is found by its order_id",
        )
    return found


def _order_by_id(node: Services, order_id: bytes) -> Document:
    found = order_view(node.exchange, order_id)
    if found is not None:
        return found
    closed = node.history.closed_order(order_id)
    if closed is not None:
        outcome = closed.outcome
        if isinstance(outcome, OrderRejected):
            return rejected_order_document(outcome, closed.height)
        spec = node.genesis.market_specs[outcome.order.market]
        document = order_document(spec, outcome.order, outcome.state, outcome.reason)
        return {**document, "height": closed.height}
    received = _received_order(node, order_id)
    if received is None:
        raise UserError("unknown_order", "this node knows no such order")
    return received


def _received_order(node: Services, order_id: bytes) -> Document | None:
    """Return an order that is acknowledged and not executed yet."""
    transaction_hash = node.receipts.transaction_of_order(order_id)
    held = None if transaction_hash is None else node.door.body(transaction_hash)
    if held is None:
        return None
    action = held.action
    if isinstance(action, CommitSealed):
        height = node.exchange.height
        return sealed_order_document(order_id, action.market, "received", height)
    orders = action.orders if isinstance(action, Batch) else (action,)
    order = orders[order_ids(held).index(order_id)]
    assert isinstance(order, PlaceOrder)
    return {
        "order_id": "0x" + order_id.hex(),
        "client_id": order.client_id,
        "market": order.market,
        "side": order.side,
        "type": order.order_type,
        "tif": order.tif,
        "state": "received",
        "reason": "",
        "price": order.price or None,
        "size": order.size,
        "filled": "0",
        "remaining": order.size,
        "average_price": None,
        "fees": "0",
        "height": node.exchange.height,
        "children": [],
    }


@method("omni_getFills", result=results.Fills, cost=2)
def get_fills(context: Context[Services], params: GetFills) -> Document:
    """List an account's fills, newest first.

    With `/N` a page may hold fewer than `limit`, even none, and not be the last: `next` tells.
    """
    node = context.node
    address, subaccount = read_address(params.address)
    limit = read_limit(params.limit, node.list_max)
    cursor = read_cursor(params.before, 3)
    if cursor is not None and cursor[2] > 1:
        raise InvalidParams("before: no cursor of ours", hint="take `next` of the last page")
    before = None if cursor is None else (cursor[0], cursor[1], cursor[2])
    page = node.history.fills(address, limit=limit, before=before, subaccount=subaccount)
    specs = node.genesis.market_specs
    return {
        "height": node.exchange.height,
        "address": checksum_address(address),
        "fills": [
            fill_document(
                specs[row.stored.trade.market],
                row.stored.trade,
                is_taker=row.is_taker,
                height=row.stored.height,
                time_ms=row.stored.time_ms,
            )
            for row in page.rows
        ],
        "next": None if page.next is None else write_cursor(page.next),
    }
