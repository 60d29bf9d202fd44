"""Matching an arriving order (taker) with resting ones (makers), in price-time priority.

Rules
    K1. A fill happens at the maker's price; the best price first, within a price the oldest first.
    K2. A trader never trades with itself: a resting order of the taker's own address (any
        subaccount) is cancelled with reason `self_trade`, and matching goes on ("expire maker").
    K3. The taker pays from free balances, which the caller has checked for the worst case; a maker
        pays from what it holds, and gets back at once what its price or rate saved.
    K4. Nothing here can fail: all refusals come before the first change.

Compiled by mypyc where that is asked for.
"""

from __future__ import annotations

from typing import Final

from omninode.dex.accounts import Accounts, Owner
from omninode.dex.book import Book, Level, Order
from omninode.dex.events import Trade
from omninode.dex.fees import fee_paid, hold_needed, price_paid, proceeds, share_fees
from omninode.dex.markets import Market
from omninode.dex.open_orders import CANCELLED, FILLED, OpenOrders
from omninode.encoding import amount_to_bytes

SELF_TRADE: Final = "self_trade"


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


def match(
    market: Market, taker: Order, *, limit: int, accounts: Accounts, open_orders: OpenOrders
) -> None:
    """Fill `taker` against the book up to the price `limit`, as far as it goes."""
    book = market.book
    is_buy = taker.is_buy
    owner = taker.account.owner
    while taker.remaining:
        level: Level | None = book.best_ask() if is_buy else book.best_bid()
        if level is None or (level.price > limit if is_buy else level.price < limit):
            return
        maker = level.head
        assert maker is not None
        if maker.account.owner is owner:  # K2
            cancel(market, maker, SELF_TRADE, accounts=accounts, open_orders=open_orders)
            continue
        _fill(market, taker, maker, accounts=accounts, open_orders=open_orders)


def cancel(
    market: Market, order: Order, reason: str, *, accounts: Accounts, open_orders: OpenOrders
) -> None:
    """Take a resting order out of the book and free what it holds."""
    market.book.remove(order)
    release_hold(market, order, accounts)
    open_orders.closed(order, CANCELLED, reason)


def release_hold(market: Market, order: Order, accounts: Accounts) -> None:
    """Free everything an order holds."""
    spec = market.spec
    if order.is_buy:
        accounts.release(order.account.balance(spec.quote_asset), order.hold)
        order.hold = 0
    else:
        held = order.remaining * spec.base_per_lot
        accounts.release(order.account.balance(spec.base_asset), held)


def take_hold(market: Market, order: Order, accounts: Accounts) -> None:
    """Hold what a resting order may need; the caller has checked that it is free."""
    spec = market.spec
    if order.is_buy:
        order.hold = hold_needed(
            spec,
            price=order.price,
            remaining=order.remaining,
            notional=order.notional,
            fee_numerator=order.fee_numerator,
        )
        accounts.hold(order.account.balance(spec.quote_asset), order.hold)
    else:
        held = order.remaining * spec.base_per_lot
        accounts.hold(order.account.balance(spec.base_asset), held)


def _fill(
    market: Market, taker: Order, maker: Order, *, accounts: Accounts, open_orders: OpenOrders
) -> None:
    """Trade as much as both have left, at the maker's price (K1)."""
    lots = min(taker.remaining, maker.remaining)
    taker_fee, maker_fee = _settle(market, taker, maker, lots, accounts)
    taker.remaining -= lots
    market.trades += 1
    market.last_price = maker.price
    market.dirty = True
    open_orders.events.append(
        Trade(
            market.spec.name,
            market.trades,
            maker.price,
            lots,
            taker.is_buy,
            taker.order_id,
            maker.order_id,
            taker.account.owner.address,
            taker.account.subaccount,
            maker.account.owner.address,
            maker.account.subaccount,
            amount_to_bytes(taker_fee),
            amount_to_bytes(maker_fee),
        )
    )
    if lots < maker.remaining:
        market.book.reduce(maker, lots)
        open_orders.updated(maker)
    else:
        market.book.remove(maker)
        maker.remaining = 0
        open_orders.closed(maker, FILLED, "")
    if maker.is_buy:
        _return_excess(market, maker, accounts)


def _settle(
    market: Market, taker: Order, maker: Order, lots: int, accounts: Accounts
) -> tuple[int, int]:
    """Move the base and the quote asset of one fill; return the taker's and the maker's fee."""
    spec = market.spec
    notional = maker.price * lots
    taker_is_buy = taker.is_buy
    buyer, seller = (taker, maker) if taker_is_buy else (maker, taker)
    buyer_ppm = spec.taker_ppm if taker_is_buy else spec.maker_ppm
    seller_ppm = spec.maker_ppm if taker_is_buy else spec.taker_ppm

    paid = -price_paid(spec, buyer.notional)  # F2
    buyer_fee = -fee_paid(spec, buyer.fee_numerator)
    buyer.notional += notional
    buyer.fee_numerator += notional * buyer_ppm
    paid += price_paid(spec, buyer.notional)
    buyer_fee += fee_paid(spec, buyer.fee_numerator)
    buyer.fees += buyer_fee

    gross = proceeds(spec, notional)  # F3
    seller_fee = min(gross, fee_paid(spec, notional * seller_ppm))
    seller.notional += notional
    seller.fees += seller_fee

    base = lots * spec.base_per_lot
    buyer_quote = buyer.account.balance(spec.quote_asset)
    seller_base = seller.account.balance(spec.base_asset)
    if taker_is_buy:  # K3
        accounts.debit(buyer_quote, paid + buyer_fee)
        accounts.spend(seller_base, base)
    else:
        accounts.spend(buyer_quote, paid + buyer_fee)
        buyer.hold -= paid + buyer_fee
        accounts.debit(seller_base, base)
    accounts.credit(buyer.account.balance(spec.base_asset), base)
    accounts.credit(seller.account.balance(spec.quote_asset), gross - seller_fee)
    share_fees(accounts, market.pots, fees=buyer_fee + seller_fee, dust=paid - gross)
    return (buyer_fee, seller_fee) if taker_is_buy else (seller_fee, buyer_fee)


def _return_excess(market: Market, order: Order, accounts: Accounts) -> None:
    """Free what a resting buy holds beyond what its remaining lots can cost (K3)."""
    needed = hold_needed(
        market.spec,
        price=order.price,
        remaining=order.remaining,
        notional=order.notional,
        fee_numerator=order.fee_numerator,
    )
    if order.hold > needed:
        balance = order.account.balance(market.spec.quote_asset)
        accounts.release(balance, order.hold - needed)
        order.hold = needed
