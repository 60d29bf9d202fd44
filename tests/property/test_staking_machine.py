"""Random lives of a validator set: stake, exits, silence, evidence, audits, restarts anywhere.

After every block the world checks conservation, every stake and every book (`check_state`); here a
second exchange, loaded from the database now and then, must go the same way, and no set may break
what a set must never break.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from omninode.consensus.participation.power import PPM, cap_ppm
from omninode.consensus.types import ValidatorSet, VoteKind
from omninode.crypto import SigningKey, keccak256
from omninode.dex.bridge.deposits import (
    ADD_STAKE,
    EXIT,
    REGISTER,
    UNJAIL,
    UNSTAKE,
    StakeChange,
)
from omninode.dex.exchange import Exchange
from omninode.dex.outcomes import EpochCut
from omninode.dex.staking.statements import ReportEvidence, Synced
from omninode.dex.transaction import Transaction
from staking_world import (
    POWER,
    UNIT,
    StakedWorld,
    change,
    identity_of,
    make_staked_genesis,
    vote,
)

FIRST = 5
BLOCKS = 400
KEYS = tuple(SigningKey(keccak256(b"validator %d" % n)) for n in range(10))
OWNERS = tuple(keccak256(b"owner %d" % n)[-20:] for n in range(10))
RAMP_PPM = 100_000


class Life:
    """A world, what may happen in it, and what was seen so far."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = StakedWorld(make_staked_genesis((POWER,) * FIRST, settled=True))
        self.pending = 0
        self.cuts = 0
        self.replica: Exchange | None = None

    def step(self) -> None:
        """Make one block of whatever comes, and check what it decided."""
        rng, world = self.rng, self.world
        body: list[Transaction] = []
        if rng.random() < 0.15:
            world.log.add(self.change())
        if rng.random() < 0.3 and self.pending < len(world.log.deposits):
            body += self.attest()
        if rng.random() < 0.2:
            body += self.say()
        if rng.random() < 0.05:
            body.append(self.accuse())
        count = len(world.set.validators)
        if rng.random() < 0.1:
            world.present = None if rng.random() < 0.6 else range(max(1, count - 1))
        before, members = world.set, world.exchange.state.validator_set
        outcome = world.apply(*body, after_ms=rng.choice((20, 100, 100, 400)))
        self.pending = world.exchange.state.bridge.deposits.credited.count
        if outcome.cut is not None:
            self.check_cut(before, outcome.cut)
        assert world.set is members or world.set.epoch == members.epoch + 1

    def change(self) -> StakeChange:
        rng = self.rng
        owner = rng.choice(OWNERS)
        kind = rng.choice((REGISTER, REGISTER, ADD_STAKE, UNSTAKE, EXIT, UNJAIL, UNJAIL))
        if kind == REGISTER:
            place = OWNERS.index(owner)
            key = KEYS[place if rng.random() < 0.9 else rng.randrange(10)]
            identity = identity_of(self.world, owner, key, peer_id=f"Qm{'x' * (place + 1)}")
            return change(REGISTER, owner, rng.randrange(500, 30_000), identity)
        amount = rng.randrange(1, 12_000) if kind in (ADD_STAKE, UNSTAKE) else 0
        return change(kind, owner, amount)

    def attest(self) -> list[Transaction]:
        """Some or all validators attest what the log has."""
        world, end = self.world, len(self.world.log.deposits)
        action = world.log.attestation(max(self.pending, end - 64), end)
        addresses = [validator.address for validator in world.set.validators]
        some = self.rng.sample(addresses, self.rng.randrange(1, len(addresses) + 1))
        return [world.transaction(address, action) for address in some]

    def say(self) -> Sequence[Transaction]:
        registry = self.world.exchange.state.staking.registry
        waiting = [m.address for m in registry if m.status == "candidate" and not m.is_synced]
        return [self.world.transaction(address, Synced()) for address in waiting[:2]]

    def accuse(self) -> Transaction:
        """Report two votes; now and then they prove something."""
        rng, world = self.rng, self.world
        key = rng.choice(KEYS)
        kinds = rng.choices((VoteKind.NOTARIZE, VoteKind.FINALIZE), k=2)
        blocks = (b"a", b"b" if rng.random() < 0.1 else b"a")
        pair = (vote(world, key, kind, block) for kind, block in zip(kinds, blocks, strict=True))
        reporter = rng.choice(world.set.validators).address
        return world.transaction(reporter, ReportEvidence(*pair))

    def check_cut(self, before: ValidatorSet, cut: EpochCut) -> None:
        """What leaves may leave; what comes is bounded, staked, and no more than was admitted."""
        self.cuts += 1
        staking = self.world.exchange.state.staking
        old = {validator.address: validator.power for validator in before.validators}
        new = {validator.address: validator.power for validator in cut.validators.validators}
        assert cut.validators.epoch == before.epoch + 1
        assert new
        assert len(new) == len(cut.validators.validators)
        come = sum(max(0, power - old.get(address, 0)) for address, power in new.items())
        kept = set(old) & set(new)
        if kept:
            assert come <= max(1, sum(old.values()) * RAMP_PPM // PPM)
        assert [a for a in old if a in new] == list(new)[: len(kept)]
        for address, power in new.items():
            member = staking.registry.by_address(address)
            if len(new) > 1:
                assert member is not None
                assert member.status == "active"
                assert power <= staking.stake(member.owner) // UNIT
            weight = next(v.weight for v in cut.validators.validators if v.address == address)
            assert power * 10_000 <= weight <= power * 20_000


@pytest.mark.parametrize("offset", range(4))
def test_any_life_of_a_set_keeps_what_must_hold(seed: int, offset: int) -> None:
    life = Life(1_000 * seed + offset)
    for turn in range(BLOCKS):
        life.step()
        if turn % 23 == 0:
            life.world.load()
    assert life.cuts >= 8
    assert life.pending > 5


def test_a_replica_that_restarts_often_says_the_same(seed: int) -> None:
    """The second exchange executes what the first did, from its own records only."""
    one, two = Life(seed), Life(seed)
    for turn in range(BLOCKS // 2):
        if turn % 11 == 5:
            two.world.exchange = two.world.load()
        one.step()
        two.step()
        assert one.world.exchange.app_hash == two.world.exchange.app_hash, turn


def test_nobody_is_admitted_above_the_cap(seed: int) -> None:
    """Right after an addition, a share that grew is at most the cap of that moment."""
    rng = random.Random(seed)
    world = StakedWorld(make_staked_genesis((POWER,) * FIRST, settled=True))
    staking = world.exchange.state.staking
    for _ in range(40):
        owner = rng.choice(OWNERS[:FIRST])
        before = staking.stake(owner)
        world.bring(change(ADD_STAKE, owner, rng.randrange(1, 20_000)))
        if staking.stake(owner) > before:
            capped = [staking.stake(member.owner) for member in staking.capped()]
            assert staking.stake(owner) * PPM <= cap_ppm(len(capped)) * sum(capped)
