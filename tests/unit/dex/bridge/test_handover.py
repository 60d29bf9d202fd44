"""Handovers: who signs them, when they count, and what becomes of checkpoints meanwhile."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from exchange_world import ALICE, VALIDATORS, World, make_settled_genesis
from omninode.consensus.types import Validator, ValidatorSet
from omninode.crypto import SigningKey
from omninode.dex.actions import SignCheckpoint, SignHandover
from omninode.dex.bridge.evm import handover_digest, validator_set_hash, validator_set_words
from omninode.dex.bridge.handover import Handovers
from omninode.dex.bridge.limits import HANDOVERS_KEPT, PENDING_HANDOVERS_MAX
from omninode.dex.events import CheckpointMade, HandoverCertified
from omninode.errors import Rejected

NEWCOMER = SigningKey(b"\x5a" * 32)


def following(current: ValidatorSet, epoch: int, *powers: int) -> ValidatorSet:
    """A set of the same people, and perhaps a newcomer, with these powers; 0 leaves."""
    template = current.validators[0]
    people = [*VALIDATORS[:4], NEWCOMER]
    members: list[Validator] = [
        msgspec.structs.replace(template, address=key.address, power=power)
        for key, power in zip(people, powers, strict=False)
        if power
    ]
    return ValidatorSet(epoch, tuple(members), seed=current.seed)


class Moving(World):
    """A settled exchange whose validators change by hand."""

    def __init__(self) -> None:
        super().__init__(make_settled_genesis())

    @property
    def handovers(self) -> Handovers:
        return self.exchange.state.bridge.handovers

    def move(self, epoch: int, *powers: int) -> ValidatorSet:
        """Let a set take over with the next block."""
        state = self.exchange.state
        state.validator_set = following(state.validator_set, epoch, *powers)
        self.apply()
        return state.validator_set

    def hand_over(self, key: SigningKey, next_epoch: int) -> str:
        digest = self.handovers.pending[next_epoch].digest
        action = SignHandover(next_epoch, key.sign(digest))
        outcome = self.apply(self.transaction(key.address, action))
        assert dict(self.exchange.records()) == self.database
        return outcome.results[0].reason


def test_an_epoch_that_changes_no_power_is_none_to_the_contract() -> None:
    world = Moving()
    world.move(1, 1, 1, 1, 1)
    world.move(2, 1, 1, 1, 1)
    assert (world.handovers.epoch, world.handovers.pending) == (0, {})
    assert b"be" not in world.database


def test_the_old_set_certifies_with_more_than_two_thirds() -> None:
    world = Moving()
    old = world.exchange.state.validator_set
    new = following(old, 3, 1, 1, 1, 1, 2)
    world.handovers.propose(new)
    world.handovers.propose(new)
    new_hash = validator_set_hash(3, validator_set_words(new))
    expected = handover_digest(
        0, next_epoch=3, next_set_hash=new_hash, domain=world.exchange.state.bridge.domain
    )
    assert world.handovers.pending[3].digest == expected
    assert world.handovers.epoch == 0
    assert world.hand_over(VALIDATORS[3], 3) == ""
    assert world.hand_over(VALIDATORS[0], 3) == ""
    assert world.of_type(HandoverCertified) == []
    assert world.hand_over(VALIDATORS[2], 3) == ""
    (event,) = world.of_type(HandoverCertified)
    assert [place for place, _ in event.certified.signatures] == [0, 2, 3]
    assert event.certified.handover.words == validator_set_words(old)
    # The contract is told of it once the exchange itself has moved on.
    assert world.handovers.after(0) is None
    world.move(3, 1, 1, 1, 1, 2)
    assert world.handovers.after(0) == event.certified
    assert (world.handovers.epoch, world.handovers.pending) == (3, {})
    again = world.reload().state.bridge.handovers
    assert (again.epoch, again.words) == (3, validator_set_words(new))
    assert again.after(0) == event.certified
    assert [again.set_hash(epoch) for epoch in (0, 3, 4)] == [
        validator_set_hash(0, validator_set_words(old)),
        new_hash,
        None,
    ]


def test_who_has_left_still_signs_and_nobody_else_does() -> None:
    world = Moving()
    world.move(1, 0, 1, 1, 1, 1)
    first, action = VALIDATORS[0], SignHandover(1, bytes(65))
    assert world.do(ALICE, action).reason == "not_authorised"
    assert world.do(first.address, SignCheckpoint(1, bytes(65))).reason == "not_authorised"
    assert world.do(first.address, action).reason == "bad_signature"
    assert world.hand_over(NEWCOMER, 1) == "not_authorised"
    assert world.hand_over(first, 1) == ""
    assert world.do(first.address, action).reason == "not_authorised"
    assert world.hand_over(VALIDATORS[1], 1) == ""
    assert world.do(VALIDATORS[1].address, action).reason == "already_signed"
    assert world.hand_over(VALIDATORS[2], 1) == ""
    assert world.do(VALIDATORS[3].address, action).reason == "handover_closed"
    assert world.handovers.after(0) is not None


def test_powers_count_not_heads() -> None:
    world = Moving()
    old = following(world.exchange.state.validator_set, 0, 7, 1, 1, 1)
    handovers = Handovers(world.exchange.state.bridge.domain, old)
    handovers.propose(following(old, 1, 1, 1, 1, 1))
    for key in VALIDATORS[1:4]:
        digest = handovers.pending[1].digest
        assert handovers.sign(1, key.sign(digest), signer=key.address) is None
    assert handovers.sign(1, VALIDATORS[0].sign(digest), signer=VALIDATORS[0].address) is not None


def test_checkpoints_follow_the_settlement_epoch() -> None:
    world = Moving()
    while not world.of_type(CheckpointMade):
        world.apply()
    (first,) = world.of_type(CheckpointMade)
    assert first.checkpoint.epoch == 0
    world.move(1, 1, 1, 1, 1)
    checkpoints = world.exchange.state.bridge.checkpoints
    assert list(checkpoints.pending) == [1]
    world.move(2, 1, 1, 1, 1, 1)
    (second,) = world.of_type(CheckpointMade)
    assert (second.checkpoint.number, second.checkpoint.epoch) == (2, 2)
    assert list(checkpoints.pending) == [2]
    assert dict(world.exchange.records()) == world.database
    # Five sign now, and their places are those of the new set.
    for key in (NEWCOMER, *VALIDATORS[:3]):
        signature = key.sign(checkpoints.pending[2].digest)
        assert world.do(key.address, SignCheckpoint(2, signature)).code == "ok"
    assert checkpoints.certified is not None
    assert [place for place, _ in checkpoints.certified.signatures] == [0, 1, 2, 4]
    assert checkpoints.certified.checkpoint.epoch == 2


def test_the_chain_of_handovers_stays_whole_while_nobody_signs() -> None:
    world = Moving()
    for epoch in range(1, PENDING_HANDOVERS_MAX + 4):
        world.move(epoch, 1, 1, 1, 1, 1 + epoch % 5)
    assert len(world.handovers.pending) == PENDING_HANDOVERS_MAX
    assert dict(world.exchange.records()) == world.database
    chain = [pending.handover for pending in world.handovers.pending.values()]
    assert chain[0].epoch == 0
    assert chain[-1].next_epoch == world.handovers.epoch == PENDING_HANDOVERS_MAX + 3
    for one, two in pairwise(chain):
        assert one.next_epoch == two.epoch
        assert one.next_set_hash == validator_set_hash(two.epoch, two.words)


def test_the_oldest_certified_are_forgotten() -> None:
    current = make_settled_genesis().validator_set
    handovers = Handovers(Moving().exchange.state.bridge.domain, current)
    for epoch in range(1, HANDOVERS_KEPT + 3):
        handovers.move(following(current, epoch, 1, 1, 1, 1, 1 + epoch % 2))
        for key in (*VALIDATORS[:4], NEWCOMER):
            if epoch in handovers.pending and handovers.pending[epoch].awaits(key.address):
                digest = handovers.pending[epoch].digest
                handovers.sign(epoch, key.sign(digest), signer=key.address)
    assert list(handovers.certified) == list(range(2, HANDOVERS_KEPT + 2))
    assert handovers.newly_certified >= {0, 1}


def test_an_unknown_handover_is_refused() -> None:
    handovers = Moving().handovers
    with pytest.raises(Rejected, match="no handover to epoch 1 waits"):
        handovers.sign(1, bytes(65), signer=VALIDATORS[0].address)
