"""A batch's whole way: commit, reveal, clearing, and every way to lose a bond."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange_world import (
    ALICE,
    BOB,
    BTC,
    CAROL,
    ETH,
    SALT,
    TERMS,
    TREASURY,
    Lane,
    make_genesis,
    make_settled_genesis,
    order,
)
from omninode.crypto import keccak256
from omninode.dex.actions import ApproveAgent, CancelOrder, CommitSealed, PlaceOrder, RevealSealed
from omninode.dex.events import (
    BondBurnt,
    OrderRejected,
    OrderUpdated,
    SealedCleared,
    SealedCommitted,
    SealedRevealed,
    Trade,
)
from omninode.dex.exchange import Exchange
from omninode.dex.fees import VALIDATOR_POOL
from omninode.dex.genesis import AccountLimits, GenesisMarket
from omninode.dex.outcomes import BlockInput
from omninode.dex.sealed.commitment import make_commitment
from omninode.dex.sealed.limits import COMMITS_PER_ACCOUNT_MAX
from omninode.dex.sealed.state import CLOSED, OPEN, WAITING
from omninode.dex.sealed.terms import GenesisSealed
from omninode.dex.transaction import order_id
from omninode.errors import ConfigError

AGENT = keccak256(b"session key")[-20:]
USDC = 10**6


@pytest.fixture
def lane() -> Lane:
    return Lane()


BUY = order("buy", "0.1", "78000")
SELL = order("sell", "0.1", "77000")


def test_two_sealed_orders_meet_at_the_middle(lane: Lane) -> None:
    bought, sold = lane.batch_of((ALICE, BUY), (BOB, SELL))
    [trade] = lane.of_type(Trade)
    assert (trade.price, trade.size) == (7_750_000, 10_000_000)
    assert {trade.taker_order_id, trade.maker_order_id} == {bought, sold}
    [cleared] = lane.of_type(SealedCleared)
    assert (cleared.price, cleared.lots, cleared.orders) == (7_750_000, 10_000_000, 2)
    # 7,750 USDC; both pay the taker's 0.2 %.
    assert lane.balance(ALICE, "USDC") == (10**12 - 7_750 * USDC - 15_500_000, 0)
    assert lane.balance(BOB, "USDC") == (10**12 + 7_750 * USDC - 15_500_000, 0)
    assert lane.balance(ALICE, "BTC") == (1_010_000_000, 0)
    assert lane.balance(BOB, "BTC") == (990_000_000, 0)
    assert lane.balance(VALIDATOR_POOL, "USDC") == (31_000_000 * 7 // 10, 0)
    assert [update.state for update in lane.of_type(OrderUpdated)] == ["filled", "filled"]
    assert lane.exchange.state.markets[BTC].last_price == 7_750_000


def test_a_commitment_holds_its_bond_and_a_reveal_holds_the_order_instead(lane: Lane) -> None:
    commit, result = lane.commit(ALICE, BUY, bond="16.5")
    assert (result.code, result.items[0].status) == ("ok", "sealed")
    assert result.items[0].order_id == order_id(commit, 0)
    assert len(lane.of_type(SealedCommitted)) == 1
    assert lane.balance(ALICE, "USDC") == (10**12 - 16_500_000, 16_500_000)
    lane.open_window()
    assert lane.reveal(ALICE, commit, BUY).items[0].status == "revealed"
    assert len(lane.of_type(SealedRevealed)) == 1
    held = 7_800 * USDC * 1_002 // 1_000
    assert lane.balance(ALICE, "USDC") == (10**12 - held, held)


def test_the_bond_of_an_order_that_is_not_revealed_goes_to_the_treasury(lane: Lane) -> None:
    commit, _ = lane.commit(ALICE, BUY)
    lane.open_window()
    lane.close_and_clear()
    [burnt] = lane.of_type(BondBurnt)
    assert burnt.order_id == order_id(commit, 0)
    [ended] = lane.of_type(OrderRejected)
    assert (ended.order_id, ended.reason) == (burnt.order_id, "not_revealed")
    assert lane.balance(ALICE, "USDC") == (10**12 - 200 * USDC, 0)
    assert lane.balance(TREASURY, "USDC") == (200 * USDC, 0)
    assert not lane.exchange.state.sealed.by_commit


def test_the_window_opens_only_when_the_commitments_are_executed(lane: Lane) -> None:
    commit, _ = lane.commit(ALICE, BUY)
    height = lane.exchange.height
    assert lane.reveal(ALICE, commit, BUY).reason == "window_not_open"
    lane.apply(after_ms=TERMS.collect_ms)
    lane.apply(executed_height=height - 1)
    assert lane.stage == WAITING
    sent = lane.transaction(ALICE, RevealSealed(commit, BUY, SALT))
    outcome = lane.apply(sent, executed_height=height)  # the block that opens takes reveals
    assert outcome.results[0].code == "ok"


def test_the_window_waits_for_leaders_and_time() -> None:
    lane = Lane()
    lane.exchange = Exchange.genesis(make_settled_genesis((1,) * 9))
    commit, _ = lane.commit(ALICE, BUY)
    lane.apply(after_ms=TERMS.collect_ms)
    for leader in (0, 1, 1, 2, 3, 4, 5, 6):
        lane.apply(proposer=leader, after_ms=1_000)
    assert lane.stage == OPEN  # 7 leaders and 7 s
    assert lane.reveal(ALICE, commit, BUY).code == "ok"  # by leader 0
    lane.apply(proposer=7)
    assert lane.stage == CLOSED


def test_a_small_set_need_not_lead_whole() -> None:
    needed = [TERMS.leaders_needed(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 100)]
    assert needed == [1, 2, 3, 3, 4, 5, 5, 8, 8, 8]


def test_silent_validators_can_not_hold_the_window_open() -> None:
    lane = Lane()
    lane.exchange = Exchange.genesis(make_settled_genesis((1,) * 8))
    lane.commit(ALICE, BUY)
    lane.apply(after_ms=TERMS.collect_ms)
    lane.apply(proposer=1)
    lane.apply(proposer=1, after_ms=TERMS.window_max_ms)
    assert lane.stage == OPEN  # so far only two blocks could have had a reveal
    for _ in range(5):
        lane.apply(proposer=1)
    assert lane.stage == OPEN
    lane.apply(proposer=1)
    assert lane.stage == CLOSED


def test_what_is_left_joins_the_book_and_an_ioc_ends(lane: Lane) -> None:
    lane.place(CAROL, "sell", "0.05", "77500")
    big = order("buy", "0.3", "78000", client_id="big")
    ioc = order("buy", "0.1", "76000", tif="ioc")
    bought, _, ended = lane.batch_of((ALICE, big), (BOB, SELL), (ALICE, ioc))
    updates = {u.order.order_id: u for u in lane.of_type(OrderUpdated)}
    assert (updates[bought].state, updates[bought].order.filled) == (
        "partially_filled",
        15_000_000,  # 0.1 sealed, 0.05 from the book
    )
    assert (updates[ended].state, updates[ended].reason) == ("cancelled", "unfilled")
    assert [trade.price for trade in lane.of_type(Trade)] == [7_750_000, 7_750_000]
    assert lane.cancel(ALICE, client_id="big").code == "ok"
    assert lane.balance(ALICE, "USDC")[1] == 0


def test_leftovers_that_could_not_be_placed_end(lane: Lane) -> None:
    narrow = Lane(limits=AccountLimits(max_open_orders_per_account=1))
    narrow.place(ALICE, "buy", "0.1", "10")
    [left] = narrow.batch_of((ALICE, BUY))
    [update] = narrow.of_type(OrderUpdated)
    assert (update.order.order_id, update.reason) == (left, "too_many_open_orders")
    assert narrow.balance(ALICE, "USDC")[1] == 1_002_000


def test_a_sealed_market_order_is_bound_by_the_price_at_its_commit(lane: Lane) -> None:
    lane.place(CAROL, "sell", "0.1", "77000")
    lane.place(BOB, "buy", "0.1", "77000")
    market = order("buy", "0.1", slippage_ppm=10_000)
    lane.batch_of((ALICE, market), (BOB, order("sell", "0.1", "77770")))
    [trade] = lane.of_type(Trade)
    assert trade.price == 7_777_000
    lane.batch_of((ALICE, market), (BOB, order("sell", "0.1", "80000")))
    assert lane.of_type(Trade) == []
    assert lane.of_type(SealedCleared)[0].price == 0


def test_a_market_order_without_any_price_is_refused(lane: Lane) -> None:
    hidden = order("buy", "0.1")
    commit, _ = lane.commit(ALICE, hidden)
    lane.open_window()
    assert lane.reveal(ALICE, commit, hidden).reason == "no_liquidity"


@pytest.mark.parametrize(
    ("who", "shown", "reason"),
    [
        (BOB, BUY, "unknown_commit"),
        (ALICE, order("buy", "0.2", "78000"), "wrong_commitment"),
        (ALICE, order("buy", "0.1", "78000", market=ETH), "wrong_commitment"),
        (ALICE, order("buy", "0.1", "78000", subaccount=1), "wrong_commitment"),
    ],
)
def test_only_what_was_committed_can_be_revealed(
    lane: Lane, who: bytes, shown: PlaceOrder, reason: str
) -> None:
    commit, _ = lane.commit(ALICE, BUY)
    lane.open_window()
    assert lane.reveal(who, commit, shown).reason == reason
    assert lane.reveal(ALICE, commit, BUY).code == "ok"
    assert lane.reveal(ALICE, commit, BUY).reason == "already_revealed"


def test_a_copied_commitment_is_of_no_use(lane: Lane) -> None:
    copy = CommitSealed(0, BTC, "200", make_commitment(ALICE, BUY, SALT))
    sent = lane.transaction(BOB, copy)
    lane.apply(sent)
    lane.open_window()
    assert lane.reveal(BOB, sent.hash, BUY).reason == "wrong_commitment"


def test_without_the_funds_the_reveal_fails_and_the_bond_burns(lane: Lane) -> None:
    commit, _ = lane.commit(ALICE, BUY)
    lane.open_window()
    lane.transfer(ALICE, BOB, "999000")
    assert lane.reveal(ALICE, commit, BUY).reason == "insufficient_balance"
    lane.close_and_clear()
    assert len(lane.of_type(BondBurnt)) == 1


def test_a_failed_reveal_can_be_repaired_in_time(lane: Lane) -> None:
    commit, _ = lane.commit(ALICE, BUY)
    lane.open_window()
    lane.transfer(ALICE, BOB, "999000")
    assert lane.reveal(ALICE, commit, BUY).reason == "insufficient_balance"
    lane.transfer(BOB, ALICE, "20000")
    assert lane.reveal(ALICE, commit, BUY).code == "ok"


def test_the_bond_itself_may_pay_for_the_order(lane: Lane) -> None:
    lane.transfer(ALICE, BOB, "992184.4")
    commit, _ = lane.commit(ALICE, BUY, bond="15.6")
    lane.open_window()
    assert lane.reveal(ALICE, commit, BUY).code == "ok"
    assert lane.balance(ALICE, "USDC") == (0, 7_815_600_000)


@pytest.mark.parametrize(
    ("bond", "reason"),
    [("0.5", "bond_too_small"), ("1.0000001", "off_grid"), ("2000000", "insufficient_balance")],
)
def test_a_bond_is_paid_and_no_smaller_than_the_minimum(lane: Lane, bond: str, reason: str) -> None:
    assert lane.commit(ALICE, BUY, bond=bond)[1].reason == reason


def test_the_bond_bounds_the_size(lane: Lane) -> None:
    commit, _ = lane.commit(ALICE, BUY, bond="15.599999")
    lane.open_window()
    assert lane.reveal(ALICE, commit, BUY).reason == "bond_too_small"


def test_a_low_limit_does_not_make_a_sale_small(lane: Lane) -> None:
    lane.place(CAROL, "sell", "0.1", "78000")
    lane.place(BOB, "buy", "0.1", "78000")
    cheap = order("sell", "0.1", "1")
    commit, _ = lane.commit(ALICE, cheap, bond="15.599999")
    lane.open_window()
    assert lane.reveal(ALICE, commit, cheap).reason == "bond_too_small"


def test_nobody_trades_with_itself(lane: Lane) -> None:
    own = order("sell", "0.1", "78000", subaccount=0)
    first, _ = lane.commit(ALICE, BUY)
    second, _ = lane.commit(ALICE, own)
    beside = order("sell", "0.1", "78000.01")
    third, _ = lane.commit(ALICE, beside)
    lane.open_window()
    assert lane.reveal(ALICE, first, BUY).code == "ok"
    assert lane.reveal(ALICE, second, own).reason == "self_trade"
    assert lane.reveal(ALICE, third, beside).code == "ok"


def test_sealed_orders_can_not_be_cancelled(lane: Lane) -> None:
    hidden = order("buy", "0.1", "78000", client_id="mine")
    commit, _ = lane.commit(ALICE, hidden)
    assert lane.do(ALICE, CancelOrder(0, order_id(commit, 0), "")).reason == "unknown_order"
    assert lane.cancel(ALICE, client_id="mine").reason == "unknown_order"
    lane.open_window()
    assert lane.reveal(ALICE, commit, hidden).code == "ok"
    assert lane.cancel(ALICE, client_id="mine").reason == "unknown_order"
    assert lane.place(ALICE, "buy", "0.1", "70000", client_id="mine").reason == (
        "duplicate_client_id"
    )


def test_an_account_has_so_many_commitments(lane: Lane) -> None:
    commits = [
        lane.transaction(ALICE, CommitSealed(0, BTC, "1", keccak256(bytes([n]))))
        for n in range(COMMITS_PER_ACCOUNT_MAX + 1)
    ]
    reasons = [result.reason for result in lane.apply(*commits).results]
    assert reasons.count("too_many_commits") == 1
    lane.open_window()
    lane.close_and_clear()
    assert lane.commit(ALICE, BUY)[1].code == "ok"


@pytest.mark.parametrize("name", ["COMMITS_PER_MARKET_MAX", "COMMITS_PER_BATCH_MAX"])
def test_a_batch_has_so_many_commitments(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(f"omninode.dex.sealed.execution.{name}", 2)
    assert [lane.commit(who, BUY)[1].reason for who in (ALICE, BOB, CAROL)] == [
        "",
        "",
        "batch_full",
    ]
    other = order("buy", "1", "3000", market=ETH)
    expected = "" if name == "COMMITS_PER_MARKET_MAX" else "batch_full"
    assert lane.commit(CAROL, other)[1].reason == expected
    lane.open_window()
    assert lane.commit(CAROL, BUY)[1].reason == ""


def test_a_session_key_that_may_trade_may_seal(lane: Lane) -> None:
    lane.do(ALICE, ApproveAgent(AGENT, "", ("cancel",), lane.now_ms + 60_000))
    assert lane.commit(ALICE, BUY, agent=AGENT)[1].reason == "not_authorised"
    lane.do(ALICE, ApproveAgent(AGENT, "", ("trade",), lane.now_ms + 60_000))
    commit, _ = lane.commit(ALICE, BUY, agent=AGENT)
    lane.open_window()
    assert lane.reveal(ALICE, commit, BUY, agent=AGENT).code == "ok"


def test_a_batch_collects_while_another_is_revealed(lane: Lane) -> None:
    first, _ = lane.commit(ALICE, BUY)
    lane.open_window()
    second, _ = lane.commit(BOB, SELL)
    lane.apply(after_ms=TERMS.collect_ms)
    assert lane.reveal(BOB, second, SELL).reason == "window_not_open"
    assert lane.reveal(ALICE, first, BUY).code == "ok"
    lane.apply(after_ms=TERMS.window_ms)
    lane.apply()
    assert lane.stage == WAITING  # the second one follows in the block that clears the first
    lane.apply()
    assert lane.reveal(BOB, second, SELL).code == "ok"


def test_a_price_band_is_judged_by_the_price_at_the_commit() -> None:
    market = GenesisMarket(
        name=BTC,
        base="BTC",
        quote="USDC",
        tick="0.01",
        lot="0.00000001",
        price_band_ppm=100_000,
        reference_price="70000",
    )
    lane = Lane(markets=(market,))
    high = order("buy", "0.1", "77000.01")
    commit, _ = lane.commit(ALICE, high)
    lane.open_window()
    assert lane.reveal(ALICE, commit, high).reason == "price_out_of_range"


def test_a_restart_at_any_block_changes_nothing(lane: Lane) -> None:
    """What `load` gives goes on to the same hashes, at every stage of a batch."""
    copies: list[Exchange] = []

    def apply(*transactions: Any, **block: Any) -> None:
        copies.append(lane.reload())
        outcome = lane.apply(*transactions, **block)
        assert dict(lane.reload().records()) == lane.database
        height = outcome.height
        block = {"executed_height": height - 1} | block
        block.pop("after_ms", None)
        for copy in copies:
            same = copy.apply(BlockInput(height, lane.now_ms, lane.seed, transactions, **block))
            assert same.app_hash == outcome.app_hash

    hidden = [
        (ALICE, order("buy", "0.3", "78000", client_id="one")),
        (BOB, SELL),
        (CAROL, order("sell", "0.1", "77500.55", tif="ioc")),
        (CAROL, BUY),
    ]
    commits = [
        lane.transaction(who, CommitSealed(0, BTC, "200", make_commitment(who, what, SALT)))
        for who, what in hidden
    ]
    apply(*commits[:2])
    apply(*commits[2:], after_ms=TERMS.collect_ms)
    apply()
    apply(
        *(
            lane.transaction(who, RevealSealed(commit.hash, what, SALT))
            for (who, what), commit in zip(hidden[:3], commits[:3], strict=True)
        )
    )
    apply(after_ms=TERMS.window_ms)
    apply(beacon=keccak256(b"beacon"))
    assert len(lane.of_type(BondBurnt)) == 1
    assert len(lane.of_type(Trade)) == 2
    apply()


def test_terms_that_can_not_be_counted_are_no_genesis() -> None:
    with pytest.raises(ConfigError, match="more than 6 digits"):
        make_genesis(sealed=GenesisSealed(bond_minimum="0.0000001"))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"leaders": 0}, GenesisSealed)
