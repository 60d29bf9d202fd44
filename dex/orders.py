"""The life of an order: placed, replaced, cancelled; judged whole before anything changes.

Rules
    L1. A refusal raises `Rejected` before the first change; only a tombstone (I2) may stay behind.
    L2. A buy must have free, and then holds, `ceil(notional) + ceil(fee at the taker rate)` at its
        limit price; a sell holds its base asset. A market order needs what it will really pay.
    L3. Post-only is refused if it would trade; fill-or-kill unless it fills at once and whole. What
        an immediate-or-cancel or market order does not fill is cancelled with reason `unfilled`.
    L4. A replacement keeps id, side and time in force. A smaller size at the same price keeps the
        place in time; anything else goes to the tail, and may trade on its way as a new order
        would.
    L5. What was filled stays filled: a new size must be above it.
    L6. Where several orders end at once they do so by market and age, never by a table's order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from omninode.dex.accounts import Account
from omninode.dex.actions import PPM, CancelAll, CancelOrder, PlaceOrder, ReplaceOrder
from omninode.dex.book import Order
from omninode.dex.decimals import OffGrid, parse_steps
from omninode.dex.events import OrderRejected
from omninode.dex.fees import fee_paid, hold_needed, price_paid
from omninode.dex.limits import NUMBERS_CACHED, SIZE_LOTS_MAX
from omninode.dex.markets import Market, MarketSpec
from omninode.dex.matching import match, reach
from omninode.dex.open_orders import CANCELLED, FILLED, OPEN, PARTIALLY_FILLED
from omninode.dex.outcomes import ItemResult
from omninode.dex.settlement import cancel, release_hold, settle, take_hold
from omninode.dex.state import Context, State
from omninode.dex.transaction import order_id as make_order_id
from omninode.encoding import amount_to_bytes
from omninode.errors import Malformed, Rejected

USER: Final = "user"
UNFILLED: Final = "unfilled"
CANCELLED_BEFORE_ARRIVAL: Final = "cancelled_before_arrival"


def place(state: State, context: Context, action: PlaceOrder, index: int) -> ItemResult:
    """Place an order, the `index`-th of its transaction; a refusal is a result too."""
    order_id = make_order_id(context.transaction_hash, index)
    try:
        if not context.may("trade"):
            raise Rejected("not_authorised", "the session key may not trade")
        market = market_named(state, action.market)
        order = new_order(state, context, market, action, order_id)
        buried = action.client_id and state.client_ids.is_buried(
            order.account.key, action.client_id, context.nonce
        )
        limit = 0 if buried else _judge(state, market, order, action.slippage_ppm)
    except Rejected as error:
        _report_refusal(state, context, action, order_id, error.reason)
        return ItemResult("rejected", error.reason, order_id, action.client_id, action.market)
    if order.client_id:
        state.client_ids.use(order.account.key, order.client_id)
    if buried:
        state.open_orders.finished(order, CANCELLED, CANCELLED_BEFORE_ARRIVAL)
        return _result(order, CANCELLED, CANCELLED_BEFORE_ARRIVAL)
    fills = match(market.book, order, limit)
    settle(market, order, fills, accounts=state.accounts, open_orders=state.open_orders)
    if order.remaining and order.tif == "gtc":
        state.open_orders.opened(order)
        return _rest(state, market, order)
    ending = (CANCELLED, UNFILLED) if order.remaining else (FILLED, "")
    state.open_orders.finished(order, *ending)
    return _result(order, *ending)


def replace(state: State, context: Context, action: ReplaceOrder) -> ItemResult:
    """Change an open order's size and price (L4); a refusal is a result too."""
    try:
        if not context.may("trade"):
            raise Rejected("not_authorised", "the session key may not trade")
        market = market_named(state, action.market)
        order = _find(state, context, action)
        if order is None or order.market != action.market:
            raise Rejected("unknown_order", "no such open order")
        size = _lots(market.spec, action.size)
        price = _ticks(market.spec, action.price)
        _judge_replacement(market, order, size=size, price=price)
    except Rejected as error:
        return ItemResult(
            "rejected", error.reason, action.order_id, action.client_id, action.market
        )
    if price == order.price and size < order.size:
        return _shrink(state, market, order, size)
    market.book.remove(order)
    release_hold(market, order, state.accounts)
    order.remaining += size - order.size
    order.size = size
    order.price = price
    fills = match(market.book, order, price)
    settle(market, order, fills, accounts=state.accounts, open_orders=state.open_orders)
    if order.remaining:
        return _rest(state, market, order)
    state.open_orders.closed(order, FILLED, "")
    return _result(order, FILLED, "")


def join_book(state: State, market: Market, order: Order) -> None:
    """Let what an auction left of a limit order go on in the open book; it holds nothing.

    What would refuse a new order ends it.
    """
    reason = _reason_to_end(state, market, order)
    if reason:
        state.open_orders.finished(order, CANCELLED, reason)
        return
    fills = match(market.book, order, order.price)
    settle(market, order, fills, accounts=state.accounts, open_orders=state.open_orders)
    if order.remaining:
        state.open_orders.opened(order)
        _rest(state, market, order)
    else:
        state.open_orders.finished(order, FILLED, "")


def _reason_to_end(state: State, market: Market, order: Order) -> str:
    account = order.account
    if order.order_type == "market" or order.tif != "gtc":
        return UNFILLED
    if order.client_id and order.client_id in account.by_client_id:
        return "duplicate_client_id"
    if account.owner.open_orders >= state.genesis.limits.max_open_orders_per_account:
        return "too_many_open_orders"
    if not market.spec.is_in_band(order.price, market.last_price):
        return "price_out_of_range"
    return ""


def cancel_one(state: State, context: Context, action: CancelOrder) -> ItemResult:
    """Cancel an open order by its id or client id; a refusal is a result too."""
    reason = ""
    order = None
    if context.may("cancel"):
        order = _find(state, context, action)
        if order is None:
            reason = "unknown_order"
            _bury(state, context, action)
    else:
        reason = "not_authorised"
    if order is None:
        return ItemResult("rejected", reason, action.order_id, action.client_id)
    market = state.markets[order.market]
    cancel(market, order, USER, accounts=state.accounts, open_orders=state.open_orders)
    return _result(order, CANCELLED, USER)


def cancel_all(state: State, context: Context, action: CancelAll) -> tuple[ItemResult, ...]:
    """Cancel all open orders of a subaccount, in one market or in all.

    Raises:
        Rejected: `not_authorised`, `unknown_market`.
    """
    if not context.may("cancel"):
        raise Rejected("not_authorised", "the session key may not cancel")
    if action.market:
        market_named(state, action.market)
    account = state.accounts.find(context.account, action.subaccount)
    if account is None:
        return ()
    mine = [o for o in account.orders.values() if action.market in ("", o.market)]
    mine.sort(key=lambda order: (state.markets[order.market].spec.index, order.sequence))  # L6
    results: list[ItemResult] = []
    for order in mine:
        market = state.markets[order.market]
        cancel(market, order, USER, accounts=state.accounts, open_orders=state.open_orders)
        results.append(_result(order, CANCELLED, USER))
    return tuple(results)


def market_named(state: State, name: str) -> Market:
    """Return a market.

    Raises:
        Rejected: `unknown_market`.
    """
    market = state.markets.get(name)
    if market is None:
        raise Rejected("unknown_market", f"there is no market {name}")
    return market


def _find(state: State, context: Context, action: CancelOrder | ReplaceOrder) -> Order | None:
    """Return the open order that an action names, if it is this subaccount's."""
    account = state.accounts.find(context.account, action.subaccount)
    if account is None:
        return None
    if action.order_id:
        return account.orders.get(action.order_id)
    return account.by_client_id.get(action.client_id)


def _bury(state: State, context: Context, action: CancelOrder) -> None:
    """Leave a tombstone where the order may still arrive (I2)."""
    key = context.account + action.subaccount.to_bytes(2, "big")
    if action.client_id and not state.client_ids.is_used(key, action.client_id):
        state.client_ids.bury(key, action.client_id, context.nonce)


def _lots(spec: MarketSpec, text: str) -> int:
    """Read a size in lots."""
    try:
        lots = _steps(text, spec.size_decimals, spec.lot)
    except OffGrid as error:
        raise Rejected("off_lot", f"size of {spec.name}: {error}") from None
    except Malformed as error:
        raise Rejected("size_out_of_range", f"size of {spec.name}: {error}") from None
    if lots > SIZE_LOTS_MAX:
        raise Rejected("size_out_of_range", f"size of {spec.name}: {text} is too large")
    return lots


def _ticks(spec: MarketSpec, text: str) -> int:
    """Read a price in ticks."""
    try:
        return _steps(text, spec.price_decimals, spec.tick)
    except OffGrid as error:
        raise Rejected("off_tick", f"price of {spec.name}: {error}") from None
    except Malformed as error:
        raise Rejected("price_out_of_range", f"price of {spec.name}: {error}") from None


@lru_cache(maxsize=NUMBERS_CACHED)
def _steps(text: str, decimals: int, step: int) -> int:
    """Read a decimal as a count of steps; traders use the same few thousand again and again."""
    return parse_steps(text, decimals, step) // step


def new_order(
    state: State, context: Context, market: Market, action: PlaceOrder, order_id: bytes
) -> Order:
    """Read an action into an order that is nowhere yet.

    Raises:
        Rejected: `off_lot`, `off_tick`, `size_out_of_range`, `price_out_of_range`,
            `insufficient_balance`.
    """
    spec = market.spec
    size = _lots(spec, action.size)
    price = _ticks(spec, action.price) if action.price else 0
    account = state.accounts.find(context.account, action.subaccount)
    if account is None:
        raise Rejected("insufficient_balance", "the subaccount is empty")
    return Order(
        order_id,
        account,
        spec.name,
        action.side == "buy",
        price,
        size,
        action.order_type,
        action.tif,
        action.post_only,
        action.client_id,
        context.height,
        context.time_ms,
    )


def _judge(state: State, market: Market, order: Order, slippage_ppm: int) -> int:
    """Return the worst price a new order may trade at, or refuse it (L2, L3)."""
    account = order.account
    check_client_id(state, order)
    if order.order_type == "market":
        limit = _market_limit(market, order.is_buy, slippage_ppm)
        best = -market.book.ask_keys[-1] if order.is_buy else market.book.bid_prices[-1]
        check_notional(market.spec, best * order.size)
        _judge_market_funds(market, order, limit)
        return limit
    _check_price(market, order.price)
    check_notional(market.spec, order.price * order.size)
    if order.tif == "gtc":
        most = state.genesis.limits.max_open_orders_per_account
        if account.owner.open_orders >= most:
            raise Rejected("too_many_open_orders", f"at most {most} open orders per account")
        if order.post_only and market.book.would_cross(order.is_buy, order.price):
            raise Rejected("would_cross", "a post-only order would trade at once")
    elif order.tif == "fok":
        _check_fillable(market, order, order.price)
    check_funds(market.spec, order, order.price, order.remaining, released=0)
    return order.price


def _market_limit(market: Market, is_buy: bool, slippage_ppm: int) -> int:  # noqa: FBT001
    """Return the slippage bound of a market order from the best opposite price."""
    level = market.book.best_ask() if is_buy else market.book.best_bid()
    if level is None:
        raise Rejected("no_liquidity", f"nobody {'sells' if is_buy else 'buys'} now")
    return slippage_bound(level.price, is_buy, slippage_ppm)


def slippage_bound(price: int, is_buy: bool, slippage_ppm: int) -> int:  # noqa: FBT001
    """Return the worst price of a market order, rounded towards `price`."""
    if is_buy:
        return price * (PPM + slippage_ppm) // PPM
    return -(-price * (PPM - slippage_ppm) // PPM)


def _judge_market_funds(market: Market, order: Order, limit: int) -> None:
    """Refuse a market order that can not pay what it would fill (L2)."""
    spec = market.spec
    found = reach(
        market.book,
        is_buy=order.is_buy,
        limit=limit,
        lots=order.size,
        owner=order.account.owner,
    )
    if order.tif == "fok" and found.lots < order.size:
        raise Rejected("fok_unfillable", "the book can not fill it whole")
    if order.is_buy:
        needed = price_paid(spec, found.notional) + fee_paid(spec, found.notional * spec.taker_ppm)
        _check_free(order.account, spec.quote_asset, needed, spec.quote)
    else:
        _check_free(order.account, spec.base_asset, order.size * spec.base_per_lot, spec.base)


def _judge_replacement(market: Market, order: Order, *, size: int, price: int) -> None:
    """Refuse a replacement that may not be (L2, L3, L5)."""
    filled = order.size - order.remaining
    if size <= filled:
        raise Rejected("below_filled", "the new size must be above what is filled")
    _check_price(market, price)
    check_notional(market.spec, price * size)
    if order.post_only and market.book.would_cross(order.is_buy, price):
        raise Rejected("would_cross", "a post-only order would trade at once")
    spec = market.spec
    released = order.hold if order.is_buy else order.remaining * spec.base_per_lot
    check_funds(spec, order, price, size - filled, released=released)


def _check_price(market: Market, price: int) -> None:
    if not market.spec.is_in_band(price, market.last_price):
        raise Rejected("price_out_of_range", "too far from the last trade, or too large")


def check_client_id(state: State, order: Order) -> None:
    """Refuse a client id that the subaccount used before (I1).

    Raises:
        Rejected: `duplicate_client_id`.
    """
    account = order.account
    if order.client_id and (
        order.client_id in account.by_client_id
        or state.client_ids.is_used(account.key, order.client_id)
    ):
        raise Rejected("duplicate_client_id", f"{order.client_id} was used before")


def check_notional(spec: MarketSpec, notional: int) -> None:
    """Refuse an order that is too large or too small for its market.

    Raises:
        Rejected: `notional_out_of_range`, `below_min_notional`.
    """
    if notional > spec.notional_max:
        raise Rejected("notional_out_of_range", f"above the largest order of {spec.name}")
    if notional < spec.notional_min:
        raise Rejected("below_min_notional", f"below the smallest order of {spec.name}")


def _check_fillable(market: Market, order: Order, limit: int) -> None:
    """Refuse a fill-or-kill order that the book can not fill whole (L3)."""
    owner = order.account.owner
    found = reach(market.book, is_buy=order.is_buy, limit=limit, lots=order.remaining, owner=owner)
    if found.lots < order.remaining:
        raise Rejected("fok_unfillable", "the book can not fill it whole")


def check_funds(
    spec: MarketSpec, order: Order, price: int, remaining: int, *, released: int
) -> None:
    """Refuse what can not be paid in the worst case; `released` of it is held and comes free.

    Raises:
        Rejected: `insufficient_balance`.
    """
    if order.is_buy:
        needed = hold_needed(
            spec,
            price=price,
            remaining=remaining,
            notional=order.notional,
            fee_numerator=order.fee_numerator,
        )
        _check_free(order.account, spec.quote_asset, needed - released, spec.quote)
    else:
        needed = remaining * spec.base_per_lot
        _check_free(order.account, spec.base_asset, needed - released, spec.base)


def _check_free(account: Account, asset: int, needed: int, name: str) -> None:
    if account.free(asset) < needed:
        raise Rejected("insufficient_balance", f"not enough free {name}")


def _rest(state: State, market: Market, order: Order) -> ItemResult:
    """Put the rest of an order into the book, at the tail."""
    market.sequence += 1
    market.dirty = True
    order.sequence = market.sequence
    take_hold(market, order, state.accounts)
    market.book.add(order)
    state.open_orders.updated(order)
    return _result(order, OPEN if order.remaining == order.size else PARTIALLY_FILLED, "")


def _shrink(state: State, market: Market, order: Order, size: int) -> ItemResult:
    """Lower an order's size in its place (L4)."""
    release_hold(market, order, state.accounts)
    market.book.reduce(order, order.size - size)
    order.size = size
    take_hold(market, order, state.accounts)
    state.open_orders.updated(order)
    return _result(order, OPEN if order.remaining == order.size else PARTIALLY_FILLED, "")


def _result(order: Order, status: str, reason: str) -> ItemResult:
    filled = order.size - order.remaining
    return ItemResult(
        status,
        reason,
        order.order_id,
        order.client_id,
        order.market,
        filled,
        amount_to_bytes(order.notional) if filled else b"",
        amount_to_bytes(order.fees) if filled else b"",
    )


def _report_refusal(
    state: State, context: Context, action: PlaceOrder, order_id: bytes, reason: str
) -> None:
    state.open_orders.events.append(
        OrderRejected(
            order_id,
            context.account,
            action.subaccount,
            action.market,
            action.side,
            action.order_type,
            action.tif,
            action.post_only,
            action.client_id,
            action.price,
            action.size,
            reason,
        )
    )
