"""What owners ask of the contract: registration, adding, taking back, exit, jail and its end."""

from __future__ import annotations

from typing import Any

import pytest

from omninode.bls import BeaconKey
from omninode.crypto import SigningKey, keccak256
from omninode.dex.bridge.deposits import ADD_STAKE, EXIT, REGISTER, UNJAIL, UNSTAKE
from omninode.dex.events import StakeIgnored, WithdrawalRequested
from omninode.dex.staking.events import StakeRefused, StakeReleased
from omninode.dex.staking.limits import UNBONDINGS_PER_OWNER_MAX
from omninode.dex.staking.statements import Synced
from omninode.encoding import amount_from_bytes
from staking_world import (
    EPOCH_MS,
    NEWCOMER,
    OWNERS,
    POWER,
    UNBONDING_MS,
    UNIT,
    StakedWorld,
    change,
    identity_of,
    make_staked_genesis,
)

OWNER = OWNERS[9]


@pytest.fixture
def world() -> StakedWorld:
    return StakedWorld(make_staked_genesis(settled=True))


def register(world: StakedWorld, amount: int = POWER, **fields: Any) -> str:
    """Register a newcomer; returns why it was ignored."""
    world.bring(change(REGISTER, OWNER, amount, identity_of(world, OWNER, **fields)))
    return reason(world)


def reason(world: StakedWorld) -> str:
    ignored = world.of_type(StakeIgnored)
    return ignored[0].reason if ignored else ""


def test_a_fifth_validator_joins_by_the_ramp(world: StakedWorld) -> None:
    assert register(world) == ""
    member = world.member(OWNER)
    assert member.status == "candidate"
    assert member.address == NEWCOMER.address
    assert world.balance(OWNER, "XOM", 1_000) == (POWER * UNIT, 0)
    world.run_to_epoch(1)
    assert world.set.index_of(NEWCOMER.address) is None, "it has not caught up"
    assert world.say(NEWCOMER.address, Synced()) == ("ok", "")
    assert world.say(NEWCOMER.address, Synced())[1] == "already_synced"
    powers = []
    for epoch in (2, 3, 4):
        world.run_to_epoch(epoch)
        powers.append(world.set.validators[4].power)
    assert powers == [4_000, 8_400, POWER]
    assert world.set.validators[4].address == NEWCOMER.address
    assert member.status == "active"


def test_only_a_candidate_or_a_validator_speaks(world: StakedWorld) -> None:
    assert world.say(NEWCOMER.address, Synced())[1] == "not_authorised"
    assert world.say(world.set.validators[0].address, Synced())[1] == "not_candidate"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"key": SigningKey(keccak256(b"validator 1"))}, "key_in_use"),
        ({"peer_id": "peer2"}, "peer_in_use"),
        ({"beacon_key": BeaconKey(b"\x05" * 32).public_key}, "bad_beacon_proof"),
        ({"beacon_proof": bytes(96)}, "bad_beacon_proof"),
        ({"moniker": ""}, "bad_identity"),
        ({"genesis_hash": bytes(32)}, "bad_vote_signature"),
    ],
)
def test_a_wrong_identity_is_ignored_and_its_money_credited(
    world: StakedWorld, fields: dict[str, Any], expected: str
) -> None:
    key = fields.pop("key", NEWCOMER)
    genesis_hash = fields.pop("genesis_hash", None)
    if genesis_hash is None:
        identity = identity_of(world, OWNER, key, **fields)
    else:
        identity = identity_of(StakedWorld(), OWNER, key)
    world.bring(change(REGISTER, OWNER, POWER, identity))
    assert reason(world) == expected
    assert OWNER not in world.exchange.state.staking.registry.members
    assert world.balance(OWNER, "XOM") == (POWER * UNIT, 0)
    world.load()


def test_somebody_elses_identity_is_worth_nothing(world: StakedWorld) -> None:
    world.bring(change(REGISTER, OWNERS[8], POWER, identity_of(world, OWNER)))
    assert reason(world) == "bad_vote_signature"


def test_a_beacon_key_with_its_proof_is_taken(world: StakedWorld) -> None:
    key = BeaconKey(b"\x05" * 32)
    proof = key.prove_possession()
    assert register(world, beacon_key=key.public_key, beacon_proof=proof) == ""
    assert world.member(OWNER).beacon_key == key.public_key


def test_less_than_the_minimum_is_no_stake(world: StakedWorld) -> None:
    assert register(world, 999) == "below_minimum"
    assert register(world, 1_000) == ""
    assert register(world, 1_000) == "already_registered"
    assert world.balance(OWNER, "XOM") == (1_999 * UNIT, 0)


def test_the_cap_refuses_the_excess_and_only_that(world: StakedWorld) -> None:
    world.bring(change(ADD_STAKE, OWNERS[0], 5_000))
    (refused,) = world.of_type(StakeRefused)
    accepted = 5_000 * UNIT - amount_from_bytes(refused.amount)
    stake = POWER * UNIT + accepted
    total = 4 * POWER * UNIT + accepted
    assert refused.reason == "cap_exceeded"
    assert stake * 1_000_000 <= 312_500 * total < (stake + 2) * 1_000_000
    assert world.balance(OWNERS[0], "XOM")[0] == amount_from_bytes(refused.amount)
    world.bring(change(ADD_STAKE, OWNERS[0], 1))
    assert reason(world) == "cap_exceeded"
    world.load()


def test_what_is_asked_back_waits_and_is_withdrawn(world: StakedWorld) -> None:
    world.bring(change(UNSTAKE, OWNERS[0], 4_000))
    assert world.stake_of(OWNERS[0]) == (6_000, 4_000)
    world.run_to_epoch(1)
    assert world.set.validators[0].power == 6_000
    world.load()
    withdrawals = world.exchange.state.bridge.withdrawals.count
    while not world.of_type(StakeReleased):
        world.apply(after_ms=1_000)
    (request,) = world.of_type(WithdrawalRequested)
    assert (request.account, request.recipient) == (OWNERS[0], OWNERS[0])
    assert amount_from_bytes(request.amount) == 4_000 * UNIT
    assert world.stake_of(OWNERS[0]) == (6_000, 0)
    assert world.exchange.state.bridge.withdrawals.count == withdrawals + 1
    world.load()


def test_what_is_asked_back_too_much_of_is_refused(world: StakedWorld) -> None:
    world.bring(change(UNSTAKE, OWNERS[0], 9_001))
    assert reason(world) == "below_minimum"
    world.bring(change(UNSTAKE, OWNERS[0], 10_001))
    assert reason(world) == "insufficient_stake"
    world.bring(*(change(UNSTAKE, OWNERS[0], 1) for _ in range(UNBONDINGS_PER_OWNER_MAX + 1)))
    assert reason(world) == "too_many_unbondings"
    assert world.stake_of(OWNERS[0])[1] == UNBONDINGS_PER_OWNER_MAX


def test_a_validator_exits_and_its_stake_comes_back(world: StakedWorld) -> None:
    owner = OWNERS[1]
    world.bring(change(EXIT, owner))
    assert world.member(owner).status == "exiting"
    world.bring(change(EXIT, owner))
    assert reason(world) == "not_staking"
    world.run_to_epoch(1)
    assert len(world.set.validators) == 3
    assert world.member(owner).status == "unbonding"
    assert world.stake_of(owner) == (0, POWER)
    left_ms = world.now_ms
    while world.stake_of(owner)[1]:
        world.apply(after_ms=1_000)
    assert UNBONDING_MS - EPOCH_MS <= world.now_ms - left_ms <= UNBONDING_MS + EPOCH_MS
    assert owner not in world.exchange.state.staking.registry.members
    world.load()


def test_a_candidate_exits_at_once(world: StakedWorld) -> None:
    register(world)
    world.bring(change(EXIT, OWNER))
    assert world.member(OWNER).status == "unbonding"
    assert world.stake_of(OWNER) == (0, POWER)


def test_without_settlement_stake_becomes_free() -> None:
    world = StakedWorld()
    state = world.exchange.state
    state.staking.begin_unbonding(OWNERS[0], 1_000 * UNIT)
    while not world.of_type(StakeReleased):
        world.apply(after_ms=UNBONDING_MS // 4)
    free = world.balance(OWNERS[0], "XOM")[0]
    assert 1_000 * UNIT <= free < 1_001 * UNIT


def test_out_of_jail_after_a_whole_epoch_and_a_word(world: StakedWorld) -> None:
    owner = OWNERS[3]
    world.present = (0, 1, 2)
    world.bring(change(UNJAIL, owner))
    assert reason(world) == "not_jailed"
    world.run_to_epoch(1)
    assert world.member(owner).status == "jailed"
    world.bring(change(UNJAIL, owner))
    assert reason(world) == "still_jailed"
    world.run_to_epoch(2)
    world.bring(change(UNJAIL, owner))
    assert reason(world) == ""
    assert world.member(owner).status == "candidate"
    world.run_to_epoch(3)
    assert len(world.set.validators) == 3
    world.say(world.member(owner).address, Synced())
    world.run_to_epoch(4)
    assert world.set.validators[3].power == 3_000, "a tenth of the total"


def test_who_is_unknown_changes_nothing(world: StakedWorld) -> None:
    for kind in (ADD_STAKE, UNSTAKE):
        world.bring(change(kind, OWNER, 1))
        assert reason(world) == "not_registered"
    for kind in (EXIT, UNJAIL):
        world.bring(change(kind, OWNER))
        assert reason(world) == "not_registered"


def test_the_last_validator_stays() -> None:
    world = StakedWorld(make_staked_genesis((POWER,), settled=True))
    world.bring(change(EXIT, OWNERS[0]))
    world.run_to_epoch(2)
    assert [v.power for v in world.set.validators] == [POWER]
    while world.stake_of(OWNERS[0])[1]:
        world.apply(after_ms=1_000)
    world.run_to_epoch(world.number + 2)
    assert len(world.set.validators) == 1
