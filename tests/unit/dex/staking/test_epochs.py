"""Epochs over a chain of blocks: cut, sealing, scores, jail, rewards, and what a restart keeps."""

from __future__ import annotations

import pytest

from exchange_world import ALICE, TREASURY, World, make_genesis
from omninode.consensus.types import FIRST_SCORE
from omninode.crypto import SigningKey
from omninode.dex.actions import Transfer
from omninode.dex.fees import VALIDATOR_POOL
from omninode.dex.outcomes import BlockInput
from omninode.dex.staking.events import EpochBegan, EpochEnded, Rewarded, ValidatorChanged
from omninode.encoding import amount_from_bytes, decode, encode
from omninode.errors import BrokenInvariant, Malformed
from staking_world import (
    BLOCKS_MIN,
    EPOCH_MS,
    OWNERS,
    POWER,
    RESERVE,
    UNIT,
    StakedWorld,
    make_staked_genesis,
)


def test_genesis_stakes_are_balances_of_their_owners() -> None:
    world = StakedWorld()
    for owner in OWNERS[:4]:
        assert world.balance(owner, "XOM", 1_000) == (POWER * UNIT, 0)
        assert world.member(owner).status == "active"
    assert [v.power for v in world.set.validators] == [POWER] * 4


def test_the_cut_is_the_first_block_late_and_high_enough() -> None:
    world = StakedWorld()
    for _ in range(EPOCH_MS // 100 - 1):
        assert world.apply().cut is None
    cut = world.apply().cut
    assert cut is not None
    assert cut.height == EPOCH_MS // 100
    assert cut.validators.epoch == 1
    assert world.number == 0
    slow = StakedWorld()
    for _ in range(BLOCKS_MIN - 1):
        assert slow.apply(after_ms=EPOCH_MS).cut is None
    assert slow.apply(after_ms=1).cut is not None


def test_the_sealing_block_lets_the_next_set_take_over_at_its_end() -> None:
    world = StakedWorld()
    while world.apply().cut is None:
        pass
    assert world.outcome is not None
    assert world.outcome.cut is not None
    decided = world.outcome.cut.validators
    sealing = world.apply()
    assert sealing.cut is None
    assert world.set == decided
    assert world.number == decided.epoch == 1
    assert world.exchange.state.epochs.start_height == sealing.height
    assert [e.epoch for e in world.of_type(EpochBegan)] == [1]


def test_there_is_one_cut_an_epoch_however_long_the_seal_takes() -> None:
    world = StakedWorld()
    while world.apply().cut is None:
        pass
    world._is_sealing = False
    for _ in range(2 * EPOCH_MS // 100):
        assert world.apply().cut is None
    world._is_sealing = True
    world.apply()
    assert world.number == 1


def test_a_seal_without_a_cut_is_a_defect() -> None:
    world = StakedWorld()
    block = BlockInput(1, world.now_ms + 1, world.seed, (), seals=True)
    with pytest.raises(BrokenInvariant, match="no cut"):
        world.exchange.apply(block)


def test_without_staking_nothing_of_it_runs() -> None:
    world = World(make_genesis())
    exchange = world.exchange
    for height in range(1, 30):
        block = BlockInput(height, exchange.time_ms + EPOCH_MS, world.seed, (), seals=True)
        assert exchange.apply(block).cut is None
    assert exchange.state.validator_set is exchange.rules.validator_set
    assert not any(key[:1] == b"v" for key in world.records())


def test_a_restart_anywhere_gives_the_same_hashes() -> None:
    world = StakedWorld()
    for _ in range(3 * EPOCH_MS // 100):
        other = world.load()
        assert other.state.validator_set == world.set
        assert other.state.epochs.next_set == world.exchange.state.epochs.next_set
        before = world.exchange
        world.apply()
        assert world.exchange is before
        assert world.exchange.app_hash == world.reload().app_hash


def test_a_restarted_exchange_goes_on_with_the_same_hashes() -> None:
    one, two = StakedWorld(), StakedWorld()
    two.absent_leaders = one.absent_leaders = (2,)
    for turn in range(2 * EPOCH_MS // 100 + 5):
        if turn % 7 == 0:
            two.exchange = two.load()
        assert one.apply().app_hash == two.apply().app_hash


def test_scores_follow_what_the_chain_shows() -> None:
    world = StakedWorld()
    world.present = (0, 1, 2)
    world.absent_leaders = (1,)
    world.run_to_epoch(1)
    full, lazy_leader, _, silent = (world.member(owner) for owner in OWNERS[:4])
    assert full.report is not None
    assert lazy_leader.report is not None
    assert silent.report is not None
    assert full.report.components[:3] == (10_000, full.report.components[1], 10_000)
    assert lazy_leader.report.done == 0
    assert lazy_leader.report.assigned > 0
    assert lazy_leader.report.components[1] < full.report.components[1]
    assert silent.report.components[0] == silent.report.components[2] == 0
    assert silent.score < lazy_leader.score < full.score
    assert full.report.previous_score == FIRST_SCORE
    assert full.score == (3 * FIRST_SCORE + full.report.raw) // 4
    weights = {v.address: v.weight for v in world.set.validators}
    assert weights[full.address] == POWER * (10_000 + full.score)


def test_who_misses_too_much_goes_to_jail_and_out_of_the_set() -> None:
    world = StakedWorld()
    world.present = (0, 1, 2)
    events = world.run_to_epoch(1)
    silent = world.member(OWNERS[3])
    assert silent.status == "jailed"
    assert [e.reason for e in events if isinstance(e, ValidatorChanged)] == ["missed_votes"]
    assert len(world.set.validators) == 3
    assert world.set.index_of(silent.address) is None
    assert world.stake_of(OWNERS[3]) == (POWER, 0)


def test_jail_leaves_two_thirds_of_the_power() -> None:
    world = StakedWorld(make_staked_genesis((POWER,) * 6))
    world.present = (0, 1)
    world.run_to_epoch(1)
    assert len(world.set.validators) == 4
    jailed = [m.address for m in world.exchange.state.staking.registry if m.status == "jailed"]
    missing = sorted(v.address for v in world.exchange.rules.validator_set.validators[2:])
    assert sorted(jailed) == missing[:2]


def test_few_blocks_send_nobody_to_jail() -> None:
    world = StakedWorld()
    world.present = (0, 1, 2)
    for _ in range(BLOCKS_MIN - 1):
        world.apply(after_ms=EPOCH_MS)
    world.run_to_epoch(1)
    assert len(world.set.validators) == 4


def test_inflation_comes_out_of_the_reserve_and_nothing_is_lost() -> None:
    world = StakedWorld()
    reserve = world.balance(RESERVE, "XOM")[0]
    events = world.run_to_epoch(1)
    (ended,) = [e for e in events if isinstance(e, EpochEnded)]
    rewards = [amount_from_bytes(e.amount) for e in events if isinstance(e, Rewarded)]
    inflation = amount_from_bytes(ended.inflation)
    outside = (300_000 + 4 * POWER) * UNIT
    assert inflation == outside * 20_000 * EPOCH_MS // (1_000_000 * 31_557_600_000)
    assert world.balance(RESERVE, "XOM")[0] == reserve - inflation
    assert len(rewards) == 4
    treasury = world.balance(TREASURY, "XOM")[0]
    assert sum(rewards) + treasury == inflation
    assert treasury < 10


def test_an_empty_reserve_pays_what_it_has() -> None:
    world = StakedWorld(make_staked_genesis(staking={"inflation_ppm": 1_000_000}))
    key = SigningKey(b"\x09" * 32)
    world.transfer(RESERVE, key.address, "999999.999999", asset="XOM")
    world.run_to_epoch(1)
    assert world.balance(RESERVE, "XOM") == (0, 0)
    world.run_to_epoch(2)


def test_the_validators_pool_of_fees_is_paid_out() -> None:
    world = StakedWorld()
    world.transfer(ALICE, VALIDATOR_POOL, "1000")
    world.present = (0, 1, 2)
    world.run_to_epoch(1)
    assert world.balance(VALIDATOR_POOL, "USDC") == (0, 0)
    paid = [world.balance(owner, "USDC")[0] for owner in OWNERS[:4]]
    assert paid[3] == 0, "the jailed one gets nothing"
    assert sum(paid) + world.balance(TREASURY, "USDC")[0] == 1_000 * 10**6
    assert max(paid[:3]) < 334 * 10**6


def test_nobody_names_a_stakes_subaccount() -> None:
    raw = encode(Transfer(1_000, ALICE, 0, "XOM", "1"))
    with pytest.raises(Malformed, match="999"):
        decode(raw, Transfer, size_max=1_000)
