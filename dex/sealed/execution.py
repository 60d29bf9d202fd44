"""A batch's way through the blocks: commitments, the reveal window, the clearing (PROTOCOL.md P10).

Rules
    Z1. The first commitment begins a batch, which takes in others for `collect_ms` of block time,
        longer while another batch is on its way: only one is revealed at a time.
    Z2. With h the height of its last commitment, the window opens with the first block whose
        `executed_height` is h or more: its leader has executed every commitment, so all are final
        before one order is seen. Reveals count from that block on.
    Z3. The window closes at the end of the first block with which `window_ms` have passed and
        `leaders_needed` different validators have led a block of it; or `window_max_ms` have passed
        and it had as many blocks as it waits for leaders, so that silent validators can not hold it
        open. One honest leader among them is enough for an order to be revealed.
    Z4. The block after clears the batch at its end, behind its own transactions: bonds of what was
        not revealed go to the treasury; then market by market one auction (`auction`), by ranks
        that its beacon gives (`commitment.rank_of`) and nobody could know while orders were chosen;
        then what is left of limit orders (gtc) joins the open book in the order of rank. The rest
        of market and ioc orders ends.
    Z5. A commitment can not be taken back. A reveal that is refused can be repaired while the
        window is open; whatever the reason, an order that is not revealed by its close loses its
        bond. So nobody can wait for the others' orders and then choose for free: not by silence,
        nor by moving the funds away, nor by an order that does not fit.
    Z6. The bond is at least `bond_needed` for the size at the limit price or, if higher, at the
        market's last price when it was committed. That price is also what a market order's
        slippage and the price band are counted from, so that what happens later changes nothing.
    Z7. A revealed order holds what an order in the book would, at the taker's rate, and gets its
        bond back at once. Both sides of an auction pay the taker's rate.
    Z8. Revealed orders of one address in one market and batch must not cross each other: then no
        auction can match a trader with itself.
    Z9. A client id counts from the reveal on; a cancel by client id that came before is void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.dex.actions import CommitSealed, RevealSealed
from omninode.dex.book import Order
from omninode.dex.decimals import parse_units
from omninode.dex.events import OrderUpdated, SealedCommitted, SealedRevealed
from omninode.dex.markets import Market, MarketSpec
from omninode.dex.open_orders import order_record
from omninode.dex.orders import (
    check_client_id,
    check_funds,
    check_notional,
    market_named,
    new_order,
    slippage_bound,
)
from omninode.dex.outcomes import BlockInput, ItemResult
from omninode.dex.sealed.clearing import clear_batch
from omninode.dex.sealed.commitment import make_commitment
from omninode.dex.sealed.limits import (
    COMMITS_PER_ACCOUNT_MAX,
    COMMITS_PER_BATCH_MAX,
    COMMITS_PER_MARKET_MAX,
)
from omninode.dex.sealed.state import CLOSED, OPEN, WAITING, Batch, SealedOrder
from omninode.dex.settlement import take_hold
from omninode.dex.state import Context, State
from omninode.dex.transaction import order_id as make_order_id
from omninode.encoding import amount_to_bytes
from omninode.errors import Malformed, Rejected

if TYPE_CHECKING:
    from omninode.dex.sealed.terms import GenesisSealed

SEALED = "sealed"
REVEALED = "revealed"


def commit_sealed(state: State, context: Context, action: CommitSealed) -> ItemResult:
    """Take in a commitment and hold its bond (Z1).

    Raises:
        Rejected: `not_authorised`, `unknown_market`, `off_grid`, `amount_out_of_range`,
            `bond_too_small`, `too_many_commits`, `batch_full`, `insufficient_balance`.
    """
    if not context.may("trade"):
        raise Rejected("not_authorised", "the session key may not trade")
    market, sealed = market_named(state, action.market), state.sealed
    bond = _read_bond(state.genesis.sealed, market.spec, action.bond)
    if sealed.count_of_owner(context.account) >= COMMITS_PER_ACCOUNT_MAX:
        raise Rejected("too_many_commits", f"at most {COMMITS_PER_ACCOUNT_MAX} for one account")
    batch = sealed.collecting or Batch(context.height, first_ms=context.time_ms)
    if sealed.count_in_batch(batch.number, action.market) >= COMMITS_PER_MARKET_MAX:
        raise Rejected("batch_full", f"at most {COMMITS_PER_MARKET_MAX} for one market")
    if sealed.count_in_batch(batch.number) >= COMMITS_PER_BATCH_MAX:
        raise Rejected("batch_full", f"at most {COMMITS_PER_BATCH_MAX} in one batch")
    account = state.accounts.find(context.account, action.subaccount)
    if account is None or account.free(market.spec.quote_asset) < bond:
        raise Rejected("insufficient_balance", f"not enough free {market.spec.quote} for the bond")
    entry = SealedOrder(
        transaction_hash=context.transaction_hash,
        order_id=make_order_id(context.transaction_hash, 0),
        account=account,
        market=action.market,
        commitment=action.commitment,
        bond=bond,
        reference=market.last_price or market.spec.reference_price,
        batch=batch.number,
        height=context.height,
    )
    state.accounts.hold(account.balance(market.spec.quote_asset), bond)
    batch.last_height = context.height
    sealed.collecting = batch
    sealed.changed_batches[batch.number] = None
    sealed.add(entry)
    sealed.changed_orders[entry.transaction_hash] = None
    state.open_orders.events.append(
        SealedCommitted(
            entry.order_id,
            context.account,
            action.subaccount,
            action.market,
            action.commitment,
            amount_to_bytes(bond),
            batch.number,
        )
    )
    return ItemResult(SEALED, "", entry.order_id, "", action.market)


def _read_bond(terms: GenesisSealed, spec: MarketSpec, text: str) -> int:
    try:
        bond = parse_units(text, spec.quote_decimals)
    except Malformed as error:
        raise Rejected("amount_out_of_range", str(error)) from None
    if bond < terms.least_bond(spec):
        raise Rejected("bond_too_small", f"at least {terms.bond_minimum} {spec.quote}")
    return bond


def reveal_sealed(state: State, context: Context, action: RevealSealed) -> ItemResult:
    """Turn a commitment into an order that waits for its auction (Z5 to Z8).

    Raises:
        Rejected: `not_authorised`, `unknown_commit`, `already_revealed`, `window_not_open`,
            `wrong_commitment`, `bond_too_small`, `self_trade`, and what refuses a new order.
    """
    if not context.may("trade"):
        raise Rejected("not_authorised", "the session key may not trade")
    entry = _find(state, context, action)
    market = state.markets[entry.market]
    order = _read_order(state, context, market, entry, action)
    account, spec = order.account, market.spec
    _check_own_orders(state, entry, order)
    check_client_id(state, order)
    check_notional(spec, order.price * order.size)
    worth = max(order.price, entry.reference) * order.size
    if entry.bond < state.genesis.sealed.bond_needed(spec, worth):
        raise Rejected("bond_too_small", "the order is larger than its bond allows")
    released = entry.bond if order.is_buy else 0
    check_funds(spec, order, order.price, order.size, released=released)
    state.accounts.release(account.balance(spec.quote_asset), entry.bond)
    take_hold(market, order, state.accounts)
    if order.client_id:
        state.client_ids.use(account.key, order.client_id)
    state.open_orders.events += [
        SealedRevealed(
            entry.order_id,
            context.account,
            account.subaccount,
            entry.market,
            amount_to_bytes(entry.bond),
            entry.batch,
        ),
        OrderUpdated(order_record(order), REVEALED),
    ]
    entry.bond = 0
    entry.order = order
    state.sealed.changed_orders[entry.transaction_hash] = None
    return ItemResult(REVEALED, "", entry.order_id, order.client_id, entry.market)


def _find(state: State, context: Context, action: RevealSealed) -> SealedOrder:
    """Return the commitment that a reveal opens, or refuse it."""
    entry = state.sealed.by_commit.get(action.commit)
    if entry is None or entry.account.owner.address != context.account:
        raise Rejected("unknown_commit", "no commitment of this account waits by that hash")
    if entry.order is not None:
        raise Rejected("already_revealed", "the order was revealed before")
    batch = state.sealed.revealing
    if batch is None or batch.number != entry.batch or batch.stage != OPEN:
        raise Rejected("window_not_open", "the batch's reveal window is not open")
    place = (entry.market, entry.account.subaccount)
    if (action.order.market, action.order.subaccount) != place or entry.commitment != (
        make_commitment(context.account, action.order, action.salt)
    ):
        raise Rejected("wrong_commitment", "it is not the order that was committed")
    return entry


def _read_order(
    state: State, context: Context, market: Market, entry: SealedOrder, action: RevealSealed
) -> Order:
    """Read the order; a market order gets its slippage bound as price (Z6)."""
    order = new_order(state, context, market, action.order, entry.order_id)
    reference = entry.reference
    if order.order_type == "market":
        if not reference:
            raise Rejected("no_liquidity", "there was no price to count the slippage from")
        order.price = slippage_bound(reference, order.is_buy, action.order.slippage_ppm)
        order.price = max(1, order.price)
    if not market.spec.is_in_band(order.price, reference):
        raise Rejected("price_out_of_range", "too far from the last trade, or too large")
    return order


def _check_own_orders(state: State, entry: SealedOrder, order: Order) -> None:
    """Refuse an order that could meet another one of the same address (Z8)."""
    for other in state.sealed.of_owner(entry.account.owner.address):
        mine = other.order
        if mine is None or (other.batch, mine.market) != (entry.batch, order.market):
            continue
        if mine.is_buy == order.is_buy:
            continue
        buy, sell = (order, mine) if order.is_buy else (mine, order)
        if buy.price >= sell.price:
            raise Rejected("self_trade", "it crosses an order of the same account in the batch")


def begin_block(state: State, block: BlockInput) -> None:
    """Open the window of the batch that waits, if its commitments are executed (Z2)."""
    batch = state.sealed.revealing
    if batch is None or batch.stage != WAITING or block.executed_height < batch.last_height:
        return
    batch.stage = OPEN
    batch.opened_height, batch.opened_ms = block.height, block.time_ms
    batch.leaders_needed = state.genesis.sealed.leaders_needed(len(state.validator_set.validators))
    state.sealed.changed_batches[batch.number] = None


def end_block(state: State, block: BlockInput) -> None:
    """Clear what is due, count the block for an open window, and close a collection that is due."""
    sealed, terms = state.sealed, state.genesis.sealed
    batch = sealed.revealing
    if batch is not None and batch.stage == CLOSED:
        clear_batch(state, batch, seed=block.seed, beacon=block.beacon)
        sealed.changed_batches[batch.number] = None
        sealed.revealing = None
    elif batch is not None and batch.stage == OPEN:
        _count_block(state, batch, block)
    collecting = sealed.collecting
    if (
        sealed.revealing is None
        and collecting is not None
        and block.time_ms - collecting.first_ms >= terms.collect_ms
    ):
        collecting.stage = WAITING
        sealed.revealing, sealed.collecting = collecting, None
        sealed.changed_batches[collecting.number] = None


def _count_block(state: State, batch: Batch, block: BlockInput) -> None:
    """Count a block of an open window and close it when it is due (Z3)."""
    terms = state.genesis.sealed
    leader = state.validator_set.validators[block.proposer].address
    if leader not in batch.leaders and len(batch.leaders) < batch.leaders_needed:
        batch.leaders.append(leader)
        state.sealed.changed_batches[batch.number] = None
    open_ms = block.time_ms - batch.opened_ms
    blocks = block.height - batch.opened_height + 1
    led = len(batch.leaders) >= batch.leaders_needed and open_ms >= terms.window_ms
    overdue = open_ms >= terms.window_max_ms and blocks >= batch.leaders_needed
    if led or overdue:
        batch.stage = CLOSED
        state.sealed.changed_batches[batch.number] = None
