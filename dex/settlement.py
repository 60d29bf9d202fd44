"""Moving the money behind matching: holds, the two assets of a fill, and its fees.

Rules
    P1. The taker pays from free balances, which were checked for the worst case before matching; a
        maker pays from what it holds.
    P2. A maker gets back at once what a better price or a lower rate saved of its hold.
    P3. An order that leaves the book unfilled gets back all that it holds.

Compiled by mypyc where that is asked for.
"""

from __future__ import annotations

from typing import Final

from omninode.dex.accounts import Accounts
from omninode.dex.book import Order
from omninode.dex.events import Trade
from omninode.dex.fees import fee_paid, hold_needed, price_paid, proceeds, share_fees
from omninode.dex.markets import Market
from omninode.dex.matching import Fill
from omninode.dex.open_orders import CANCELLED, FILLED, OpenOrders
from omninode.encoding import amount_to_bytes

SELF_TRADE: Final = "self_trade"


def settle(
    market: Market, taker: Order, fills: list[Fill], *, accounts: Accounts, open_orders: OpenOrders
) -> None:
    """Move the money of an order's fills, in their order, and report trades and makers."""
    for maker, lots in fills:
        if lots:
            _settle_fill(market, taker, maker, lots, accounts=accounts, open_orders=open_orders)
        else:
            release_hold(market, maker, accounts)  # P3
            open_orders.closed(maker, CANCELLED, SELF_TRADE)


def cancel(
    market: Market, order: Order, reason: str, *, accounts: Accounts, open_orders: OpenOrders
) -> None:
    """Take a resting order out of the book and free what it holds (P3)."""
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
        order.hold = _buy_hold(market, order)
        accounts.hold(order.account.balance(spec.quote_asset), order.hold)
    else:
        held = order.remaining * spec.base_per_lot
        accounts.hold(order.account.balance(spec.base_asset), held)


def _settle_fill(
    market: Market,
    taker: Order,
    maker: Order,
    lots: int,
    *,
    accounts: Accounts,
    open_orders: OpenOrders,
) -> None:
    """Settle one fill at the maker's price and report it."""
    taker_fee, maker_fee = _move_assets(market, taker, maker, lots, accounts)
    market.trades += 1
    market.last_price = maker.price
    market.dirty = True
    taker_account, maker_account = taker.account, maker.account
    open_orders.events.append(
        Trade(
            market.spec.name,
            market.trades,
            maker.price,
            lots,
            taker.is_buy,
            taker.order_id,
            maker.order_id,
            taker_account.owner.address,
            taker_account.subaccount,
            maker_account.owner.address,
            maker_account.subaccount,
            amount_to_bytes(taker_fee),
            amount_to_bytes(maker_fee),
        )
    )
    if maker.is_buy:
        _return_excess(market, maker, accounts)
    if maker.remaining:
        open_orders.updated(maker)
    else:
        open_orders.closed(maker, FILLED, "")


def _move_assets(
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
    if taker_is_buy:  # P1
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
    """Free what a resting buy holds beyond what its remaining lots can cost (P2)."""
    needed = _buy_hold(market, order)
    if order.hold > needed:
        balance = order.account.balance(market.spec.quote_asset)
        accounts.release(balance, order.hold - needed)
        order.hold = needed


def _buy_hold(market: Market, order: Order) -> int:
    return hold_needed(
        market.spec,
        price=order.price,
        remaining=order.remaining,
        notional=order.notional,
        fee_numerator=order.fee_numerator,
    )
