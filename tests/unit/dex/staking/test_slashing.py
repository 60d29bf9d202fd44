"""Evidence: what convicts, what it takes, and what it can not be."""

from __future__ import annotations

import pytest

from exchange_world import TREASURY, VALIDATORS
from omninode.consensus.types import Vote, VoteKind
from omninode.dex.bridge.deposits import ADD_STAKE, REGISTER, UNJAIL, UNSTAKE
from omninode.dex.events import StakeIgnored
from omninode.dex.staking.events import Slashed
from omninode.dex.staking.statements import ReportEvidence
from omninode.encoding import amount_from_bytes
from staking_world import (
    NEWCOMER,
    OWNERS,
    POWER,
    UNIT,
    StakedWorld,
    change,
    identity_of,
    make_staked_genesis,
    vote,
)

NOTARIZE, FINALIZE, NULLIFY = VoteKind.NOTARIZE, VoteKind.FINALIZE, VoteKind.NULLIFY
REPORTER = VALIDATORS[0].address


@pytest.fixture
def world() -> StakedWorld:
    return StakedWorld(make_staked_genesis((POWER,) * 7, settled=True))


def double(world: StakedWorld, index: int) -> ReportEvidence:
    key = VALIDATORS[index]
    return ReportEvidence(vote(world, key, NOTARIZE, b"a"), vote(world, key, NOTARIZE, b"b"))


@pytest.mark.parametrize(
    ("first", "second", "offence"),
    [
        ((NOTARIZE, b"a"), (NOTARIZE, b"b"), "conflicting_notarize"),
        ((FINALIZE, b"a"), (FINALIZE, b"b"), "conflicting_finalize"),
        ((FINALIZE, b"a"), (NULLIFY, b""), "nullify_finalize"),
        ((NULLIFY, b""), (FINALIZE, b"a"), "nullify_finalize"),
        ((FINALIZE, b"a"), (NOTARIZE, b"b"), "finalize_mismatch"),
    ],
)
def test_contradicting_votes_convict(
    world: StakedWorld, first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes], offence: str
) -> None:
    key = VALIDATORS[3]
    evidence = ReportEvidence(vote(world, key, *first), vote(world, key, *second))
    assert world.say(REPORTER, evidence) == ("ok", "")
    (slashed,) = world.of_type(Slashed)
    assert (slashed.owner, slashed.offence) == (OWNERS[3], offence)
    assert world.member(OWNERS[3]).status == "tombstoned"
    part = 3 * 1_000_000 * POWER // (7 * POWER)
    assert slashed.ppm == part
    taken = POWER * UNIT * part // 1_000_000
    assert amount_from_bytes(slashed.amount) == taken
    assert world.balance(TREASURY, "XOM") == (taken, 0)
    assert world.balance(OWNERS[3], "XOM", 1_000) == (POWER * UNIT - taken, 0)
    world.load()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((NOTARIZE, b"a"), (NULLIFY, b"")),
        ((NOTARIZE, b"a"), (NOTARIZE, b"a")),
        ((FINALIZE, b"a"), (NOTARIZE, b"a")),
        ((NULLIFY, b""), (NULLIFY, b"")),
    ],
)
def test_votes_that_may_stand_side_by_side_convict_nobody(
    world: StakedWorld, first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes]
) -> None:
    key = VALIDATORS[3]
    evidence = ReportEvidence(vote(world, key, *first), vote(world, key, *second))
    assert world.say(REPORTER, evidence) == ("rejected", "no_offence")
    assert world.member(OWNERS[3]).status == "active"


def test_other_views_and_other_keys_convict_nobody(world: StakedWorld) -> None:
    key = VALIDATORS[3]
    a, b = vote(world, key, NOTARIZE, b"a"), vote(world, key, NOTARIZE, b"b", view=6)
    assert world.say(REPORTER, ReportEvidence(a, b))[1] == "no_offence"
    b = vote(world, VALIDATORS[4], NOTARIZE, b"b")
    assert world.say(REPORTER, ReportEvidence(a, b))[1] == "different_signers"
    b = vote(world, key, NOTARIZE, b"b")
    forged = Vote(b.kind, b.epoch, b.view, b.block_hash, b.validator, bytes(65))
    assert world.say(REPORTER, ReportEvidence(a, forged))[1] == "bad_signature"
    nameless = Vote(FINALIZE, a.epoch, a.view, bytes(32), a.validator, a.signature)
    assert world.say(REPORTER, ReportEvidence(a, nameless))[1] == "bad_signature"
    stranger = StakedWorld(make_staked_genesis((POWER,) * 6))
    foreign = double(stranger, 3)
    assert world.say(REPORTER, foreign)[1] in ("different_signers", "unknown_offender")


def test_an_offender_is_convicted_once(world: StakedWorld) -> None:
    assert world.say(REPORTER, double(world, 3)) == ("ok", "")
    taken = world.balance(TREASURY, "XOM")
    assert world.say(REPORTER, double(world, 3))[1] == "already_convicted"
    assert world.balance(TREASURY, "XOM") == taken


def test_a_lone_small_one_loses_five_percent() -> None:
    world = StakedWorld(make_staked_genesis((POWER,) * 6 + (1_000,)))
    world.say(REPORTER, double(world, 6))
    assert world.of_type(Slashed)[0].ppm == 50_000


def test_a_third_that_attacks_together_loses_everything(world: StakedWorld) -> None:
    for index in (4, 5, 6):
        world.say(REPORTER, double(world, index))
    for index in (4, 5, 6):
        assert world.stake_of(OWNERS[index]) == (0, 0), "also who was convicted first"
    assert world.balance(TREASURY, "XOM") == (3 * POWER * UNIT, 0)
    world.load()


def test_what_lies_an_unbonding_time_back_does_not_count(world: StakedWorld) -> None:
    world.say(REPORTER, double(world, 4))
    before = world.stake_of(OWNERS[4])
    for _ in range(30):
        world.apply(after_ms=1_000)
    world.say(REPORTER, double(world, 5))
    (slashed,) = world.of_type(Slashed)
    assert slashed.owner == OWNERS[5]
    assert sum(world.stake_of(OWNERS[4])) <= sum(before)
    world.load()


def test_stake_on_its_way_back_is_slashed_too(world: StakedWorld) -> None:
    world.bring(change(UNSTAKE, OWNERS[3], 9_000))
    world.say(REPORTER, double(world, 3))
    taken = amount_from_bytes(world.of_type(Slashed)[0].amount)
    assert taken == POWER * UNIT * 428_571 // 1_000_000
    assert world.stake_of(OWNERS[3])[0] == 0
    staking = world.exchange.state.staking
    assert staking.unbonding(OWNERS[3]) == POWER * UNIT - taken
    world.load()


def test_a_tombstone_leaves_the_set_and_never_comes_back(world: StakedWorld) -> None:
    world.say(REPORTER, double(world, 3))
    world.run_to_epoch(1)
    assert len(world.set.validators) == 6
    for kind, amount in ((ADD_STAKE, 1), (UNJAIL, 0)):
        world.bring(change(kind, OWNERS[3], amount))
        assert world.of_type(StakeIgnored)[0].reason == "not_staking"
    while sum(world.stake_of(OWNERS[3])):
        world.apply(after_ms=1_000)
    assert world.member(OWNERS[3]).status == "tombstoned"
    again = identity_of(world, OWNERS[9], VALIDATORS[3])
    world.bring(change(REGISTER, OWNERS[9], POWER, again))
    assert world.of_type(StakeIgnored)[0].reason == "key_in_use"
    world.load()


def test_who_never_registered_can_not_be_convicted(world: StakedWorld) -> None:
    evidence = ReportEvidence(
        vote(world, NEWCOMER, NOTARIZE, b"a"), vote(world, NEWCOMER, NOTARIZE, b"b")
    )
    assert world.say(REPORTER, evidence)[1] == "unknown_offender"
    assert world.say(NEWCOMER.address, evidence)[1] == "not_authorised"
