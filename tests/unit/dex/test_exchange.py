"""Whole transactions through whole blocks."""

from __future__ import annotations

import pytest

from exchange_world import (
    ALICE,
    BOB,
    BTC,
    CAROL,
    DAVE,
    DEVELOPMENT,
    ETH,
    TREASURY,
    XOM,
    World,
    make_genesis,
    order,
)
from omninode.crypto import keccak256
from omninode.dex.actions import (
    ApproveAgent,
    Batch,
    CancelAll,
    CancelOrder,
    ReplaceOrder,
    RevokeAgent,
    Transfer,
)
from omninode.dex.events import LevelChanged, OrderUpdated, Trade
from omninode.dex.exchange import Exchange
from omninode.dex.fees import VALIDATOR_POOL
from omninode.dex.genesis import AccountLimits, GenesisMarket
from omninode.dex.hashing import differing_parts
from omninode.dex.outcomes import BlockInput
from omninode.errors import BrokenInvariant, StorageFault

AGENT = keccak256(b"agent")[-20:]
USDC = 10**6


def test_a_trade_moves_both_assets_and_charges_both_sides() -> None:
    world = World()
    maker = world.place(ALICE, "sell", "0.1", "78000")
    assert (maker.code, maker.items[0].status) == ("ok", "open")
    assert world.balance(ALICE, "BTC") == (990_000_000, 10_000_000)

    taker = world.place(BOB, "buy", "0.1", "79000")

    assert taker.items[0].status == "filled"
    [trade] = world.of_type(Trade)
    assert (trade.price, trade.size, trade.sequence) == (7_800_000, 10_000_000, 1)
    # 7,800 USDC; the maker pays 0.1 %, the taker 0.2 %.
    assert world.balance(ALICE, "USDC") == (1_000_000 * USDC + 7_800 * USDC - 7_800_000, 0)
    assert world.balance(BOB, "USDC") == (1_000_000 * USDC - 7_800 * USDC - 15_600_000, 0)
    assert world.balance(ALICE, "BTC") == (990_000_000, 0)
    assert world.balance(BOB, "BTC") == (1_010_000_000, 0)


def test_fees_are_shared_70_20_10_and_the_rest_goes_to_the_treasury() -> None:
    world = World()
    world.place(ALICE, "sell", "0.00012345", "78318.37")
    world.place(BOB, "buy", "0.00012345", "78318.37")
    # 9.6683... USDC: buyer 9668403 (up), seller 9668402 (down), fees 19337 + 9669 (both up).
    fees = 19_337 + 9_669
    validators, development = fees * 7 // 10, fees // 10
    assert world.balance(BOB, "USDC")[0] == 10**12 - 9_668_403 - 19_337
    assert world.balance(ALICE, "USDC")[0] == 10**12 + 9_668_402 - 9_669
    assert world.balance(VALIDATOR_POOL, "USDC") == (validators, 0)
    assert world.balance(DEVELOPMENT, "USDC") == (development, 0)
    assert world.balance(TREASURY, "USDC") == (fees - validators - development + 1, 0)


def test_a_buy_holds_price_and_taker_fee_and_frees_what_it_does_not_need() -> None:
    world = World()
    world.place(ALICE, "buy", "1", "50000")
    assert world.balance(ALICE, "USDC") == (1_000_000 * USDC - 50_100 * USDC, 50_100 * USDC)
    world.place(BOB, "sell", "0.4", "50000")
    # 0.4 filled as maker for 20,000 + 20; 0.6 still hold 30,000 + 60.
    assert world.balance(ALICE, "USDC") == (
        (1_000_000 - 20_020 - 30_060) * USDC,
        30_060 * USDC,
    )
    [record] = [e.order for e in world.of_type(OrderUpdated) if e.state == "partially_filled"]
    world.cancel(ALICE, record.order_id)
    assert world.balance(ALICE, "USDC") == ((1_000_000 - 20_020) * USDC, 0)


def test_many_dust_fills_never_cost_more_than_the_hold() -> None:
    world = World()
    world.place(ALICE, "buy", "0.00000099", "0.51")
    for _ in range(99):
        world.place(BOB, "sell", "0.00000001", "0.51")
    assert world.balance(ALICE, "USDC")[1] == 0
    # ceil(0.5049 of a base unit) and a fee of at least one base unit, not 99 of each.
    assert world.balance(ALICE, "USDC")[0] == 10**12 - 2
    assert world.balance(ALICE, "BTC")[0] == 10**9 + 99


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (order("buy", "1", "100", market="DOGE-USDC"), "unknown_market"),
        (order("buy", "1", "100.001"), "off_tick"),
        (order("buy", "0.000000001", "100"), "off_lot"),
        (order("buy", "99999999999999999999999999", "100"), "size_out_of_range"),
        (order("buy", "0.1", "99999999999999999999"), "price_out_of_range"),
        (order("buy", "90000000000", "90000000000000"), "notional_out_of_range"),
        (order("buy", "100", "78000"), "insufficient_balance"),
        (order("sell", "10.00000001", "78000"), "insufficient_balance"),
        (order("sell", "1", "78000", subaccount=7), "insufficient_balance"),
        (order("buy", "1"), "no_liquidity"),
        (order("buy", "1", "100", tif="fok"), "fok_unfillable"),
        (CancelOrder(0, bytes(32), ""), "unknown_order"),
        (CancelAll(0, "DOGE-USDC"), "unknown_market"),
        (ReplaceOrder(0, BTC, bytes(32), "", "1", "100"), "unknown_order"),
        (Transfer(0, ALICE, 0, "USDC", "1"), "same_account"),
        (Transfer(0, BOB, 0, "DOGE", "1"), "unknown_asset"),
        (Transfer(0, BOB, 0, "USDC", "1000000.000001"), "insufficient_balance"),
        (Transfer(0, BOB, 0, "USDC", "0.0000001"), "off_grid"),
        (RevokeAgent(AGENT), "unknown_agent"),
        (ApproveAgent(ALICE, "", ("trade",), 2**52), "invalid_agent"),
        (ApproveAgent(AGENT, "", ("trade",), 5), "expired"),
    ],
)
def test_a_refusal_names_its_reason_and_changes_nothing_but_the_nonce(
    action: object, reason: str
) -> None:
    world = World()
    before = world.records()
    result = world.do(ALICE, action)  # type: ignore[arg-type]
    assert (result.code, result.reason) == ("rejected", reason)
    after = world.records()
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {key[:1] for key in changed} == {b"h", b"n"}


def test_post_only_is_refused_when_it_would_trade_and_rests_otherwise() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    assert world.place(BOB, "buy", "1", "100", post_only=True).reason == "would_cross"
    assert world.place(BOB, "buy", "1", "99.99", post_only=True).items[0].status == "open"


def test_ioc_fills_what_it_can_and_cancels_the_rest() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    result = world.place(BOB, "buy", "3", "100", tif="ioc")
    [item] = result.items
    assert (result.code, item.status, item.reason, item.filled) == (
        "ok",
        "cancelled",
        "unfilled",
        10**8,
    )
    assert world.balance(BOB, "USDC")[1] == 0


def test_fok_fills_whole_or_not_at_all() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    world.place(CAROL, "sell", "1", "101")
    assert world.place(BOB, "buy", "2.1", "101", tif="fok").reason == "fok_unfillable"
    assert world.place(BOB, "buy", "2", "101", tif="fok").items[0].status == "filled"


def test_fok_does_not_count_the_traders_own_orders() -> None:
    world = World()
    world.place(BOB, "sell", "1", "99")
    world.place(ALICE, "sell", "1", "100")
    assert world.place(BOB, "buy", "2", "100", tif="fok").reason == "fok_unfillable"
    assert world.place(BOB, "buy", "1", "100", tif="fok").items[0].status == "filled"


def test_a_market_order_stops_at_its_slippage_bound() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    world.place(ALICE, "sell", "1", "105")
    world.place(ALICE, "sell", "1", "105.01")
    [item] = world.place(BOB, "buy", "3").items
    assert (item.status, item.filled) == ("cancelled", 2 * 10**8)
    world.place(BOB, "buy", "1", "90")
    world.place(BOB, "buy", "1", "85.5")
    world.place(BOB, "buy", "1", "85.49")
    [item] = world.place(CAROL, "sell", "3").items
    assert (item.status, item.filled) == ("cancelled", 2 * 10**8)


def test_a_market_buy_needs_exactly_what_it_pays() -> None:
    world = World()
    world.place(ALICE, "sell", "10", "100")
    world.transfer(CAROL, DAVE, "100.2")
    assert world.place(DAVE, "buy", "1.00000001").reason == "insufficient_balance"
    assert world.place(DAVE, "buy", "1").items[0].status == "filled"
    assert world.balance(DAVE, "USDC") == (0, 0)


def test_a_fok_market_order_fills_whole_or_not_at_all() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    assert world.place(BOB, "buy", "2", tif="fok").reason == "fok_unfillable"
    assert world.place(BOB, "buy", "1", tif="fok").items[0].status == "filled"


def test_nobody_trades_with_himself_also_across_subaccounts() -> None:
    world = World()
    world.transfer(ALICE, ALICE, "1000", to_subaccount=1)
    mine = world.place(ALICE, "sell", "1", "100").items[0].order_id
    world.place(BOB, "sell", "1", "100")
    result = world.place(ALICE, "buy", "1", "100", subaccount=1)
    assert result.items[0].status == "filled"
    [trade] = world.of_type(Trade)
    assert (trade.maker, trade.taker_subaccount) == (BOB, 1)
    [expired] = [e for e in world.of_type(OrderUpdated) if e.reason == "self_trade"]
    assert expired.order.order_id == mine
    assert world.balance(ALICE, "BTC") == (10**9, 0)


def test_a_smaller_size_keeps_the_place_and_a_new_price_loses_it() -> None:
    world = World()
    first = world.place(ALICE, "sell", "2", "100").items[0].order_id
    second = world.place(BOB, "sell", "1", "100").items[0].order_id
    assert world.replace(ALICE, first, "1", "100").items[0].status == "open"
    assert world.balance(ALICE, "BTC") == (9 * 10**8, 10**8)
    world.place(CAROL, "buy", "0.5", "100")
    assert world.of_type(Trade)[0].maker_order_id == first

    assert world.replace(ALICE, first, "1.5", "100").items[0].status == "partially_filled"
    world.place(CAROL, "buy", "0.5", "100")
    assert world.of_type(Trade)[0].maker_order_id == second


def test_a_replacement_may_trade_and_may_not_go_below_what_is_filled() -> None:
    world = World()
    mine = world.place(ALICE, "buy", "1", "100").items[0].order_id
    world.place(BOB, "sell", "0.5", "100")
    assert world.replace(ALICE, mine, "0.5", "100").reason == "below_filled"
    assert world.replace(ALICE, mine, "1", "100", market=ETH).reason == "unknown_order"
    world.place(BOB, "sell", "0.2", "101")
    [item] = world.replace(ALICE, mine, "0.7", "102").items
    assert (item.status, item.filled, item.order_id) == ("filled", 7 * 10**7, mine)
    assert world.balance(ALICE, "USDC")[1] == 0


def test_a_replacement_is_refused_without_funds_or_when_post_only_would_trade() -> None:
    world = World()
    mine = world.place(ALICE, "sell", "10", "100", post_only=True).items[0].order_id
    world.place(BOB, "buy", "1", "50")
    before = world.records()
    assert world.replace(ALICE, mine, "10.1", "100").reason == "insufficient_balance"
    assert world.replace(ALICE, mine, "10", "50").reason == "would_cross"
    assert {k: v for k, v in world.records().items() if k[:1] in b"ao"} == {
        k: v for k, v in before.items() if k[:1] in b"ao"
    }
    assert world.replace(ALICE, mine, "10", "51").code == "ok"


def test_a_replacement_may_use_what_the_order_holds() -> None:
    world = World()
    world.transfer(CAROL, DAVE, "100.2")
    mine = world.place(DAVE, "buy", "1", "100").items[0].order_id
    assert world.balance(DAVE, "USDC") == (0, 100_200_000)
    assert world.replace(DAVE, mine, "1", "100.01").reason == "insufficient_balance"
    assert world.replace(DAVE, mine, "2", "50").code == "ok"
    assert world.balance(DAVE, "USDC") == (0, 100_200_000)


def test_the_slippage_bound_rounds_towards_the_best_price() -> None:
    world = World()
    for price in ("0.19", "0.2"):
        world.place(ALICE, "sell", "1", price)
    # 5 % of 19 ticks is not one tick.
    assert world.place(BOB, "buy", "2").items[0].filled == 10**8
    world.cancel_all(ALICE)
    for price in ("0.19", "0.18"):
        world.place(ALICE, "buy", "1", price)
    assert world.place(BOB, "sell", "2").items[0].filled == 10**8


def test_cancel_all_takes_one_market_or_all_of_one_subaccount() -> None:
    world = World()
    world.transfer(ALICE, ALICE, "1000", to_subaccount=1)
    world.place(ALICE, "buy", "1", "100", subaccount=1)
    world.place(ALICE, "sell", "1", "5000", market=ETH)
    one = world.place(ALICE, "buy", "1", "100").items[0].order_id
    two = world.place(ALICE, "sell", "1", "200").items[0].order_id
    result = world.cancel_all(ALICE, BTC)
    assert [item.order_id for item in result.items] == [one, two]
    assert len(world.cancel_all(ALICE).items) == 1
    assert world.cancel_all(ALICE).items == ()
    assert world.exchange.state.accounts.owners[ALICE].open_orders == 1


def test_the_open_order_limit_is_per_address() -> None:
    world = World(make_genesis(limits=AccountLimits(max_open_orders_per_account=2)))
    world.place(ALICE, "buy", "1", "100")
    world.place(ALICE, "buy", "1", "100")
    assert world.place(ALICE, "buy", "1", "100").reason == "too_many_open_orders"
    world.cancel_all(ALICE)
    assert world.place(ALICE, "buy", "1", "100").code == "ok"


def test_market_bounds_of_genesis() -> None:
    market = GenesisMarket(
        name=BTC,
        base="BTC",
        quote="USDC",
        tick="0.01",
        lot="0.00000001",
        min_notional="10",
        max_notional="1000",
        price_band_ppm=100_000,
        reference_price="100",
    )
    world = World(make_genesis(markets=(market,)))
    assert world.place(ALICE, "buy", "0.09999999", "100").reason == "below_min_notional"
    assert world.place(ALICE, "buy", "10.00000001", "100").reason == "notional_out_of_range"
    assert world.place(ALICE, "buy", "1", "110.01").reason == "price_out_of_range"
    assert world.place(ALICE, "buy", "1", "89.99").reason == "price_out_of_range"
    world.place(ALICE, "sell", "1", "110")
    world.place(BOB, "buy", "1", "110")
    assert world.place(ALICE, "buy", "1", "89.99").reason == "price_out_of_range"
    assert world.place(ALICE, "sell", "1", "121").code == "ok"


def test_client_ids_name_orders_once_within_the_window() -> None:
    world = World()
    assert world.place(ALICE, "buy", "1", "100", client_id="a").code == "ok"
    assert world.place(ALICE, "buy", "1", "100", client_id="a").reason == "duplicate_client_id"
    assert world.place(BOB, "buy", "1", "100", client_id="a").code == "ok"
    assert world.cancel(ALICE, client_id="a").items[0].status == "cancelled"
    assert world.place(ALICE, "buy", "1", "100", client_id="a").reason == "duplicate_client_id"
    world.apply(after_ms=60_001)
    assert world.place(ALICE, "buy", "1", "100", client_id="a").code == "ok"


def test_a_cancel_that_comes_first_buries_its_order() -> None:
    world = World()
    late = world.transaction(ALICE, order("buy", "1", "100", client_id="x"))
    assert world.cancel(ALICE, client_id="x").reason == "unknown_order"
    [item] = world.apply(late).results[0].items
    assert (item.status, item.reason) == ("cancelled", "cancelled_before_arrival")
    assert world.balance(ALICE, "USDC")[1] == 0


def test_cancelling_a_closed_order_by_its_client_id_leaves_no_tombstone() -> None:
    world = World()
    world.place(ALICE, "buy", "1", "100", client_id="x")
    world.cancel(ALICE, client_id="x")
    again = world.apply(world.transaction(ALICE, CancelOrder(0, b"", "x")))
    assert again.results[0].reason == "unknown_order"
    assert {key[:1] for key in again.writes} == {b"h", b"n"}


def test_a_tombstone_does_not_bury_a_later_order() -> None:
    world = World()
    world.cancel(ALICE, client_id="x")
    assert world.place(ALICE, "buy", "1", "100", client_id="x").items[0].status == "open"


def test_a_batch_judges_each_item_and_answers_in_input_order() -> None:
    world = World()
    old = world.place(ALICE, "buy", "1", "100").items[0].order_id
    moved = world.place(ALICE, "buy", "1", "99").items[0].order_id
    batch = Batch(
        cancels=(CancelOrder(0, bytes(32), ""), CancelOrder(0, old, "")),
        replaces=(ReplaceOrder(0, BTC, moved, "", "2", "98"),),
        orders=(order("buy", "1", "97.001"), order("buy", "1", "97"), order("buy", "1", "96")),
    )
    result = world.do(ALICE, batch)
    assert result.code == "ok"
    assert [(item.status, item.reason) for item in result.items] == [
        ("rejected", "unknown_order"),
        ("cancelled", "user"),
        ("open", ""),
        ("rejected", "off_tick"),
        ("open", ""),
        ("open", ""),
    ]
    assert len({item.order_id for item in result.items[3:]}) == 3


def test_a_nonce_counts_once_also_when_its_transaction_was_refused() -> None:
    world = World()
    refused = world.transaction(ALICE, order("buy", "100", "78000"))
    assert world.apply(refused).results[0].code == "rejected"
    world.transfer(BOB, ALICE, "900000")
    world.place(BOB, "sell", "10", "78000")
    again = world.apply(refused, refused)
    assert [r.reason for r in again.results] == ["nonce_used", "nonce_used"]
    assert {r.code for r in again.results} == {"ignored"}
    assert set(again.writes) == {b"h"}


def test_nonces_outside_the_window_have_no_effect() -> None:
    world = World()
    at = world.now_ms + 100
    for nonce, code in ((at - 30_001, "ignored"), (at + 30_001, "ignored"), (at + 30_000, "ok")):
        made = world.transaction(ALICE, order("buy", "1", "100"), nonce=nonce)
        result = world.exchange.apply(
            BlockInput(world.exchange.height + 1, at, bytes(32), (made,))
        ).results[0]
        assert result.code == code


def test_used_nonces_are_forgotten_when_no_transaction_can_carry_them_any_more() -> None:
    world = World()
    made = world.transaction(ALICE, order("buy", "1", "100"), nonce=world.now_ms + 30_100)
    assert world.apply(made).results[0].code == "ok"
    assert world.apply(made, after_ms=60_000).results[0].reason == "nonce_used"
    assert world.exchange.state.nonces.records() != []
    assert world.apply(made, after_ms=1).results[0].reason == "nonce_out_of_window"
    assert world.exchange.state.nonces.records() == []


def test_an_agent_does_what_it_may_until_it_expires_or_is_revoked() -> None:
    world = World()
    approve = ApproveAgent(AGENT, "bot", ("trade", "transfer"), world.now_ms + 1_000)
    assert world.do(ALICE, order("buy", "1", "100"), agent=AGENT).reason == "not_authorised"
    assert world.do(ALICE, approve).items[0].status == "done"
    placed = world.do(ALICE, order("buy", "1", "100"), agent=AGENT)
    assert placed.code == "ok"
    assert (
        world.do(ALICE, CancelOrder(0, placed.items[0].order_id, ""), agent=AGENT).reason
        == "not_authorised"
    )
    assert world.do(ALICE, Transfer(0, ALICE, 2, "USDC", "1"), agent=AGENT).code == "ok"
    assert world.do(ALICE, Transfer(0, BOB, 0, "USDC", "1"), agent=AGENT).reason == "not_authorised"
    assert world.do(ALICE, approve, agent=AGENT).reason == "not_authorised"
    assert world.do(BOB, order("buy", "1", "100"), agent=AGENT).reason == "not_authorised"
    world.do(ALICE, RevokeAgent(AGENT))
    assert world.do(ALICE, order("buy", "1", "100"), agent=AGENT).reason == "not_authorised"
    world.do(ALICE, ApproveAgent(AGENT, "bot", ("trade",), world.now_ms + 300))
    assert world.do(ALICE, order("buy", "1", "100"), agent=AGENT).code == "ok"
    world.apply(after_ms=100)
    assert world.do(ALICE, order("buy", "1", "100"), agent=AGENT).reason == "not_authorised"


def test_a_first_result_stands_whatever_is_approved_or_revoked_later() -> None:
    world = World()
    made = world.transaction(ALICE, order("buy", "1", "100"), agent=AGENT)
    assert world.apply(made).results[0].reason == "not_authorised"
    approve = ApproveAgent(AGENT, "bot", ("trade",), world.now_ms + 60_000)
    world.do(ALICE, approve)
    assert world.apply(made).results[0].reason == "nonce_used"
    used = world.transaction(ALICE, order("buy", "1", "100"), agent=AGENT)
    assert world.apply(used).results[0].code == "ok"
    world.do(ALICE, RevokeAgent(AGENT))
    world.do(ALICE, ApproveAgent(AGENT, "bot", ("trade",), world.now_ms + 60_000))
    assert world.apply(used).results[0].reason == "nonce_used"


def test_transfers_make_accounts_and_end_them() -> None:
    world = World()
    assert world.transfer(ALICE, DAVE, "1000000").code == "ok"
    assert world.balance(DAVE, "USDC") == (10**12, 0)
    assert world.transfer(DAVE, ALICE, "1000000").code == "ok"
    assert not [key for key in world.database if key[1:21] == DAVE]


def test_events_report_each_changed_level_once() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    world.apply(
        world.transaction(BOB, order("buy", "0.4", "100")),
        world.transaction(CAROL, order("buy", "0.3", "100")),
        world.transaction(BOB, order("buy", "0.1", "90")),
    )
    assert world.of_type(LevelChanged) == [
        LevelChanged(BTC, False, 10_000, 30_000_000),
        LevelChanged(BTC, True, 9_000, 10_000_000),
    ] or world.of_type(LevelChanged) == [
        LevelChanged(BTC, True, 9_000, 10_000_000),
        LevelChanged(BTC, False, 10_000, 30_000_000),
    ]


def test_blocks_come_in_order() -> None:
    world = World()
    with pytest.raises(BrokenInvariant):
        world.exchange.apply(BlockInput(2, world.now_ms + 1, bytes(32), ()))


def test_the_hash_covers_results_and_every_module() -> None:
    world, other = World(), World()
    assert world.exchange.app_hash == other.exchange.app_hash
    mine = world.apply(world.transaction(ALICE, order("buy", "1", "100")))
    theirs = other.apply(other.transaction(ALICE, order("buy", "1", "101")))
    assert mine.app_hash != theirs.app_hash
    assert differing_parts(mine.parts, theirs.parts) == ("results", "accounts", "orders")


@pytest.mark.parametrize("offset", [0, 15, 31])
def test_one_flipped_bit_of_a_balance_shows_when_it_is_touched(offset: int) -> None:
    world, other = World(), World()
    key = b"a" + ALICE + bytes(2) + (0).to_bytes(2, "big")
    world.apply()
    other.apply()
    damaged = bytearray(other.database[key])
    damaged[offset] ^= 1
    if offset == 31:
        other.database[key] = bytes(damaged)
        with pytest.raises(BrokenInvariant):
            other.reload()
    balance = other.exchange.state.accounts.account(ALICE, 0).balance(0)
    balance.free, balance.held = (
        int.from_bytes(damaged[:16], "big"),
        int.from_bytes(damaged[16:], "big"),
    )
    other.exchange._supply[0] = sum(
        b.free + b.held
        for o in other.exchange.state.accounts.owners.values()
        for a in o.subaccounts.values()
        for n, b in a.balances.items()
        if n == 0
    )
    one = world.transaction(ALICE, order("buy", "1", "100"))
    mine = world.exchange.apply(BlockInput(2, world.now_ms + 100, bytes(32), (one,)))
    theirs = other.exchange.apply(BlockInput(2, other.now_ms + 100, bytes(32), (one,)))
    assert mine.app_hash != theirs.app_hash
    assert differing_parts(mine.parts, theirs.parts) == ("accounts",)


def test_loading_refuses_damaged_records() -> None:
    world = World()
    world.place(ALICE, "buy", "1", "100")
    rules = world.exchange.rules
    for key in list(world.database):
        damaged = dict(world.database)
        damaged[key] = damaged[key][:-1]
        with pytest.raises((StorageFault, BrokenInvariant)):
            Exchange.load(rules, damaged.items())
    with pytest.raises(StorageFault):
        Exchange.load(rules, [*world.database.items(), (b"z", b"")])
    with pytest.raises(StorageFault):
        Exchange.load(rules, [(k, v) for k, v in world.database.items() if k != b"h"])


def test_loading_the_writes_of_all_blocks_gives_the_same_exchange() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100", client_id="one")
    world.place(ALICE, "sell", "1", "5000", market=ETH)
    world.place(BOB, "sell", "10", "1.01", market=XOM)
    world.place(BOB, "buy", "0.3", "100")
    world.cancel(CAROL, client_id="never")
    world.do(ALICE, ApproveAgent(AGENT, "bot", ("trade",), world.now_ms + 60_000))
    assert world.database == world.records()
    loaded = world.reload()
    assert dict(loaded.records()) == world.database
    assert (loaded.height, loaded.time_ms, loaded.app_hash) == (
        world.exchange.height,
        world.now_ms,
        world.exchange.app_hash,
    )
    more = (
        world.transaction(CAROL, order("buy", "2", "100")),
        world.transaction(ALICE, CancelAll(0, "")),
    )
    block = BlockInput(world.exchange.height + 1, world.now_ms + 1, bytes(32), more)
    assert world.exchange.apply(block) == loaded.apply(block)
