"""Clearing a batch: bonds burnt, auctions settled, leftovers handed to the open book (Z4)."""

from __future__ import annotations

from omninode.dex.book import Order
from omninode.dex.events import BondBurnt, OrderRejected, SealedCleared, Trade
from omninode.dex.fees import fee_paid, price_paid, proceeds, share_fees
from omninode.dex.markets import Market
from omninode.dex.open_orders import FILLED
from omninode.dex.orders import join_book
from omninode.dex.sealed.auction import Clearing, clear
from omninode.dex.sealed.commitment import rank_of
from omninode.dex.sealed.state import Batch, SealedOrder
from omninode.dex.settlement import release_hold
from omninode.dex.state import State
from omninode.encoding import amount_to_bytes

NOT_REVEALED = "not_revealed"


def clear_batch(state: State, batch: Batch, *, seed: bytes, beacon: bytes) -> None:
    """End a batch: afterwards no order of it is sealed.

    Args:
        state: The state at the end of the block after the window.
        batch: The batch.
        seed: That block's.
        beacon: The beacon value after that block.
    """
    revealed: dict[str, list[tuple[bytes, bytes, Order]]] = {}
    for entry in state.sealed.orders_of(batch.number):
        if entry.order is None:
            _burn(state, entry)
        else:
            rank = rank_of(seed, beacon, entry.commitment)
            place = (rank, entry.order_id, entry.order)
            revealed.setdefault(entry.market, []).append(place)
        state.sealed.remove(entry)
    for market in state.market_list:
        places = revealed.get(market.spec.name)
        if places:
            places.sort(key=lambda place: place[:2])
            _clear_market(state, market, batch.number, [order for _, _, order in places])


def _burn(state: State, entry: SealedOrder) -> None:
    """Pay the bond of an order that was not revealed to the treasury (Z5)."""
    market, account = state.markets[entry.market], entry.account
    state.accounts.spend(account.balance(market.spec.quote_asset), entry.bond)
    state.accounts.credit(market.pots.treasury, entry.bond)
    owner, subaccount = account.owner.address, account.subaccount
    bond = amount_to_bytes(entry.bond)
    state.open_orders.events += [
        BondBurnt(entry.order_id, owner, subaccount, entry.market, bond, entry.batch),
        OrderRejected(
            entry.order_id,
            owner,
            subaccount,
            entry.market,
            side="",
            order_type="",
            tif="",
            post_only=False,
            client_id="",
            price="",
            size="",
            reason=NOT_REVEALED,
        ),
    ]


def _clear_market(state: State, market: Market, batch: int, ranked: list[Order]) -> None:
    clearing = clear(ranked)
    _settle(state, market, clearing)
    if clearing.price:
        market.last_price = clearing.price
        market.dirty = True
    state.open_orders.events.append(
        SealedCleared(market.spec.name, batch, clearing.price, clearing.lots, len(ranked))
    )
    for order in ranked:
        release_hold(market, order, state.accounts)
        if order.remaining:
            join_book(state, market, order)
        else:
            state.open_orders.finished(order, FILLED, "")


def _settle(state: State, market: Market, clearing: Clearing) -> None:
    """Pair buyers and sellers by rank; every pair trades at the one price."""
    sellers = ((order, lots) for order, lots in clearing.fills if not order.is_buy)
    seller: Order | None = None
    offered = 0
    for buyer, bought in clearing.fills:
        wanted = bought if buyer.is_buy else 0
        while wanted:
            if not offered:
                seller, offered = next(sellers)
            assert seller is not None
            lots = min(wanted, offered)
            _trade(state, market, buyer, seller, lots=lots, price=clearing.price)
            wanted -= lots
            offered -= lots


def _trade(
    state: State, market: Market, buyer: Order, seller: Order, *, lots: int, price: int
) -> None:
    """Move both assets of one pair out of what the two hold, and report it.

    Rounding as F1 to F3 of `fees`, with the taker's rate on both sides (Z7).
    """
    spec, accounts = market.spec, state.accounts
    notional = price * lots
    paid = -price_paid(spec, buyer.notional)
    buyer_fee = -fee_paid(spec, buyer.fee_numerator)
    buyer.notional += notional
    buyer.fee_numerator += notional * spec.taker_ppm
    paid += price_paid(spec, buyer.notional)
    buyer_fee += fee_paid(spec, buyer.fee_numerator)
    gross = proceeds(spec, notional)
    seller_fee = min(gross, fee_paid(spec, notional * spec.taker_ppm))
    seller.notional += notional
    buyer.fees += buyer_fee
    seller.fees += seller_fee
    base = lots * spec.base_per_lot
    accounts.spend(buyer.account.balance(spec.quote_asset), paid + buyer_fee)
    buyer.hold -= paid + buyer_fee
    accounts.spend(seller.account.balance(spec.base_asset), base)
    accounts.credit(buyer.account.balance(spec.base_asset), base)
    accounts.credit(seller.account.balance(spec.quote_asset), gross - seller_fee)
    share_fees(accounts, market.pots, fees=buyer_fee + seller_fee, dust=paid - gross)
    buyer.remaining -= lots
    seller.remaining -= lots
    market.trades += 1
    state.open_orders.events.append(
        Trade(
            spec.name,
            market.trades,
            price,
            lots,
            True,
            buyer.order_id,
            seller.order_id,
            buyer.account.owner.address,
            buyer.account.subaccount,
            seller.account.owner.address,
            seller.account.subaccount,
            amount_to_bytes(buyer_fee),
            amount_to_bytes(seller_fee),
        )
    )
