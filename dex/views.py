"""All reads of the exchange as JSON-ready documents (INTERFACES: decimal text, hex, words).

A view looks at the state between two blocks and never changes it. Every document carries the height
it is true for, except those that are part of another.
"""

from __future__ import annotations

from omninode.crypto import checksum_address
from omninode.dex.accounts import Account
from omninode.dex.actions import BATCH_ITEMS_MAX
from omninode.dex.book import Book, Order
from omninode.dex.bridge.state import Flow
from omninode.dex.decimals import format_units
from omninode.dex.documents import (
    Document,
    account_text,
    order_document,
    price_text,
    sealed_order_document,
    size_text,
)
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import GenesisMarket
from omninode.dex.invariants import supplies
from omninode.dex.limits import BOOK_DEPTH_MAX
from omninode.dex.markets import Market
from omninode.dex.open_orders import OPEN, PARTIALLY_FILLED, order_record
from omninode.dex.sealed.execution import REVEALED, SEALED
from omninode.dex.sealed.limits import COMMITS_PER_ACCOUNT_MAX
from omninode.dex.transaction import TRANSACTION_BYTES_MAX
from omninode.errors import Rejected


def account_view(exchange: Exchange, address: bytes) -> Document:
    """Return balances of all subaccounts and the approved session keys; empty for a stranger."""
    state = exchange.state
    owner = state.accounts.owners.get(address)
    subaccounts = [] if owner is None else [owner.subaccounts[n] for n in sorted(owner.subaccounts)]
    return {
        "address": checksum_address(address),
        "height": exchange.height,
        "subaccounts": [_subaccount(exchange, account) for account in subaccounts],
        "agents": [
            {
                "agent": checksum_address(agent),
                "name": record.name,
                "permissions": list(record.permissions),
                "expires_ms": record.expires_ms,
            }
            for agent, record in sorted(state.agents.of_account(address).items())
            if exchange.time_ms < record.expires_ms
        ],
    }


def _subaccount(exchange: Exchange, account: Account) -> Document:
    balances: list[Document] = []
    for index, asset in enumerate(exchange.rules.assets):
        balance = account.balances.get(index)
        if balance is None or not (balance.free or balance.held):
            continue
        balances.append(
            {
                "asset": asset.name,
                "free": format_units(balance.free, asset.decimals),
                "held": format_units(balance.held, asset.decimals),
                "total": format_units(balance.free + balance.held, asset.decimals),
            }
        )
    return {
        "account": account_text(account.owner.address, account.subaccount),
        "subaccount": account.subaccount,
        "balances": balances,
        "open_orders": len(account.orders),
    }


def order_view(exchange: Exchange, order_id: bytes) -> Document | None:
    """Return an open or sealed order, or None: closed and refused ones are in the history."""
    order = exchange.state.open_orders.by_id.get(order_id)
    return _sealed_order(exchange, order_id) if order is None else _open_order(exchange, order)


def _sealed_order(exchange: Exchange, order_id: bytes) -> Document | None:
    entry = exchange.state.sealed.by_order_id.get(order_id)
    if entry is None:
        return None
    if entry.order is None:
        return sealed_order_document(order_id, entry.market, SEALED, entry.height)
    spec = exchange.state.markets[entry.market].spec
    return order_document(spec, order_record(entry.order), REVEALED, "")


def order_by_client_id_view(
    exchange: Exchange, address: bytes, subaccount: int, *, client_id: str
) -> Document | None:
    """Return a subaccount's open order with this client id, or None."""
    account = exchange.state.accounts.find(address, subaccount)
    order = None if account is None else account.by_client_id.get(client_id)
    return None if order is None else _open_order(exchange, order)


def open_orders_view(
    exchange: Exchange, address: bytes, *, subaccount: int | None = None, market: str = ""
) -> list[Document]:
    """Return an account's open orders by market and age; of one subaccount or market if asked."""
    owner = exchange.state.accounts.owners.get(address)
    if owner is None:
        return []
    markets = exchange.state.markets
    orders = [
        order
        for number, account in owner.subaccounts.items()
        if subaccount in (None, number)
        for order in account.orders.values()
        if market in ("", order.market)
    ]
    orders.sort(key=lambda order: (markets[order.market].spec.index, order.sequence))
    return [
        {"account": account_text(address, order.account.subaccount), **_open_order(exchange, order)}
        for order in orders
    ]


def _open_order(exchange: Exchange, order: Order) -> Document:
    spec = exchange.state.markets[order.market].spec
    state = OPEN if order.remaining == order.size else PARTIALLY_FILLED
    return order_document(spec, order_record(order), state, "")


def markets_view(exchange: Exchange) -> list[Document]:
    """Return every market's rules and its top of book."""
    pairs = zip(exchange.state.market_list, exchange.rules.markets, strict=True)
    return [_market(market, rules) for market, rules in pairs]


def _market(market: Market, rules: GenesisMarket) -> Document:
    spec = market.spec
    bid, ask = market.book.best_bid(), market.book.best_ask()
    return {
        "market": spec.name,
        "base": spec.base,
        "quote": spec.quote,
        "tick": rules.tick,
        "lot": rules.lot,
        "min_notional": rules.min_notional,
        "max_notional": rules.max_notional or None,
        "maker_fee_ppm": spec.maker_ppm,
        "taker_fee_ppm": spec.taker_ppm,
        "price_band_ppm": spec.band_ppm,
        "last_price": price_text(spec, market.last_price) if market.last_price else None,
        "best_bid": None if bid is None else price_text(spec, bid.price),
        "best_ask": None if ask is None else price_text(spec, ask.price),
        "trades": market.trades,
    }


def order_book_view(exchange: Exchange, market_name: str, *, depth: int) -> Document:
    """Return `[price, size]` per level, best first, at most `depth` levels a side.

    Raises:
        Rejected: `unknown_market`, `depth_out_of_range`.
    """
    market = exchange.state.markets.get(market_name)
    if market is None:
        raise Rejected("unknown_market", f"there is no market {market_name}")
    if not 1 <= depth <= BOOK_DEPTH_MAX:
        raise Rejected("depth_out_of_range", f"depth must be 1 to {BOOK_DEPTH_MAX}, not {depth}")
    bids, asks = _levels(market.book, depth)
    spec = market.spec
    return {
        "market": market_name,
        "height": exchange.height,
        "time_ms": exchange.time_ms,
        "bids": [[price_text(spec, price), size_text(spec, lots)] for price, lots in bids],
        "asks": [[price_text(spec, price), size_text(spec, lots)] for price, lots in asks],
    }


def _levels(book: Book, depth: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (price, lots) of the best levels of both sides, best first."""
    bids = [(price, book.bids[price].lots) for price in reversed(book.bid_prices[-depth:])]
    asks = [(-key, book.asks[-key].lots) for key in reversed(book.ask_keys[-depth:])]
    return bids, asks


def supply_view(exchange: Exchange) -> Document:
    """Return what there is of each asset, and what came in and went out (`omni_getSupply`).

    `genesis + credited - withdrawn` is `exchange`, the sum of all balances.
    """
    state, rules = exchange.state, exchange.rules
    bridge, balances = state.bridge, supplies(state)
    assets = []
    for index, asset in enumerate(rules.assets):
        flow = bridge.flows.get(index, Flow())
        amounts = {
            "exchange": balances.get(index, 0),
            "genesis": rules.supply.get(index, 0),
            "credited": flow.credited,
            "withdrawn": flow.withdrawn,
        }
        assets.append(
            {
                "asset": asset.name,
                "token": asset.token or None,
                "decimals": asset.decimals,
                **{name: format_units(units, asset.decimals) for name, units in amounts.items()},
            }
        )
    credited = bridge.deposits.credited
    return {
        "height": exchange.height,
        "block_time_ms": exchange.time_ms,
        "assets": assets,
        "deposits": {"count": credited.count, "hash": "0x" + credited.hash.hex()},
        "withdrawals": {"count": bridge.withdrawals.count},
    }


def limits_view(exchange: Exchange, address: bytes) -> Document:
    """Return what an account may still send, and the bounds of what anybody may."""
    rules = exchange.rules
    owner = exchange.state.accounts.owners.get(address)
    open_orders = 0 if owner is None else owner.open_orders
    return {
        "address": checksum_address(address),
        "height": exchange.height,
        "time_ms": exchange.time_ms,
        "open_orders": open_orders,
        "open_orders_max": rules.limits.max_open_orders_per_account,
        "open_orders_left": max(0, rules.limits.max_open_orders_per_account - open_orders),
        "transactions_per_block_max": rules.limits.max_transactions_per_account_per_block,
        "transaction_bytes_max": TRANSACTION_BYTES_MAX,
        "batch_items_max": BATCH_ITEMS_MAX,
        "nonce_window_ms": rules.consensus.nonce_window_ms,
        "nonce_min": max(0, exchange.time_ms - rules.consensus.nonce_window_ms),
        "nonce_max": exchange.time_ms + rules.consensus.nonce_window_ms,
        "sealed": _sealed_lane(exchange, address),
    }


def _sealed_lane(exchange: Exchange, address: bytes) -> Document:
    """Return the sealed lane's terms, what an account has in it, and where its batches are."""
    sealed, terms = exchange.state.sealed, exchange.rules.sealed
    return {
        "bond_ppm": terms.bond_ppm,
        "bond_minimum": terms.bond_minimum,
        "collect_ms": terms.collect_ms,
        "window_ms": terms.window_ms,
        "window_max_ms": terms.window_max_ms,
        "leaders": terms.leaders,
        "commits": sealed.count_of_owner(address),
        "commits_max": COMMITS_PER_ACCOUNT_MAX,
        "batches": [
            {
                "batch": batch.number,
                "stage": batch.stage,
                "leaders_seen": len(batch.leaders),
                "leaders_needed": batch.leaders_needed,
                "opened_ms": batch.opened_ms or None,
            }
            for batch in sealed.batches
        ],
    }
