"""How an epoch ends in the core: the seal, fillers, and the next set's first view (P6)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from consensus_script import APP, START_MS, F, N, Script, World, X
from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.chain import FinalizedTip
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.records import WalCertificate, WalVote
from omninode.consensus.types import (
    Block,
    Certificate,
    NextEpoch,
    Seal,
    Vote,
    VotesSeen,
)
from omninode.errors import BrokenInvariant

CUT = 1
"""The first block is the cut of every epoch here."""


class EpochWorld(World):
    """A world whose first block is the cut, and the world after it."""

    def __init__(self, powers: tuple[int, ...] = (1, 1, 1, 1)) -> None:
        super().__init__(powers)
        self.after = World((1, 2, 1, 1, 1), epoch=1)
        following = self.after.validators
        seal = Seal(CUT, following.hash, following.seed, APP[101], APP[102])
        self.next_epoch = NextEpoch(seal, following)
        self.cut = self.block(1)
        executed = {"executed_height": 1, "executed_final_view": 1, "app_hash": APP[1]}
        self.sealing = self.block(2, self.cut.header, seal=seal, **executed)

    def filler(self, view: int, parent: Block | None = None, **fields: Any) -> Block:
        parent = parent or self.sealing
        return self.block(view, parent.header, **({"seal": parent.header.seal} | fields))

    def proof(self, *fillers: Block) -> EpochProof:
        last = fillers[-1] if fillers else self.sealing
        return EpochProof(
            self.sealing.header,
            tuple(block.header for block in fillers),
            self.certificate(F, last.header.view, last),
            self.next_epoch.validators,
        )


@pytest.fixture
def world() -> EpochWorld:
    return EpochWorld()


def idle_in(world: World, *views: int) -> int:
    """Return a validator that leads none of these views."""
    return next(i for i in range(world.count) if i not in {world.leader(view) for view in views})


def propose(script: Script, world: World, block: Block, parent: Block | None = None) -> Script:
    certificate = None
    if parent is not None:
        certificate = world.certificate(N, parent.header.view, parent)
    return script >> world.proposal(block, certificate) >> into.BodyReady(block.hash)


def votes_on(script: Script, world: World, block: Block, parent: Block | None = None) -> list[Vote]:
    """Return the votes that a proposal with its body brings about."""
    certificate = None
    if parent is not None:
        certificate = world.certificate(N, parent.header.view, parent)
    votes = (script >> world.proposal(block, certificate)).votes()
    return votes + (script >> into.BodyReady(block.hash)).votes()


def cut_is_final(world: EpochWorld, me: int, *, executed: bool = True) -> Script:
    """Return a core in view 2 that has the cut final, and executed."""
    script = world.armed(me)
    propose(script, world, world.cut)
    script >> into.PeerCertificate(None, world.certificate(N, 1, world.cut))
    script >> into.PeerCertificate(None, world.certificate(F, 1, world.cut))
    if executed:
        script >> into.Executed(1, APP[1], world.next_epoch)
    return script


def seal_is_notarized(world: EpochWorld, me: int) -> Script:
    """Return a core in view 3 whose newest notarized block seals the epoch."""
    script = cut_is_final(world, me)
    propose(script, world, world.sealing, world.cut)
    return script >> into.PeerCertificate(None, world.certificate(N, 2, world.sealing))


def epoch_is_over(world: EpochWorld, me: int, *, executed: bool = True) -> Script:
    script = seal_is_notarized(world, me)
    script >> into.PeerCertificate(None, world.certificate(F, 2, world.sealing))
    return script >> into.Executed(2, APP[2]) if executed else script


# Sealing.


def test_a_leader_that_has_executed_the_cut_seals(world: EpochWorld) -> None:
    script = cut_is_final(world, world.leader(2))
    script >> into.BlockBuilt(2, world.cut.hash, (APP[9],))
    (block,) = (effect.block for effect in script.all(out.WriteBlock))
    assert block.header.seal == world.next_epoch.seal
    assert block.header.executed_height == CUT
    assert block.transaction_ids == (APP[9],), "it is a block like any other"


def test_a_leader_that_has_not_executed_the_cut_does_not_seal(world: EpochWorld) -> None:
    script = cut_is_final(world, world.leader(2), executed=False)
    script >> into.BlockBuilt(2, world.cut.hash, ())
    (block,) = (effect.block for effect in script.all(out.WriteBlock))
    assert block.header.seal is None


def test_a_voter_takes_exactly_the_seal_of_its_own_execution(world: EpochWorld) -> None:
    script = cut_is_final(world, idle_in(world, 2))
    votes = votes_on(script, world, world.sealing, world.cut)
    assert [v.kind for v in votes] == [N]


@pytest.mark.parametrize("name", ["cut_height", "next_valset_hash", "snapshot_root", "none"])
def test_a_wrong_seal_or_none_is_nullified(world: EpochWorld, name: str) -> None:
    seal = world.next_epoch.seal
    wrong = {
        "cut_height": replace(seal, cut_height=0),
        "next_valset_hash": replace(seal, next_valset_hash=APP[7]),
        "snapshot_root": replace(seal, snapshot_root=APP[7]),
        "none": None,
    }[name]
    block = Block(replace(world.sealing.header, seal=wrong), ())
    script = cut_is_final(world, idle_in(world, 2))
    votes = votes_on(script, world, block, world.cut)
    assert [v.kind for v in votes] == [X]
    script >> into.PeerCertificate(None, world.certificate(N, 2, block))
    assert script.votes() == [], "nor is it voted final"


def test_a_seal_before_the_cut_is_executed_is_nullified(world: EpochWorld) -> None:
    early = world.block(2, world.cut.header, seal=world.next_epoch.seal)
    script = cut_is_final(world, idle_in(world, 2))
    votes = votes_on(script, world, early, world.cut)
    assert [v.kind for v in votes] == [X]


def test_a_voter_that_has_not_executed_the_cut_waits(world: EpochWorld) -> None:
    script = cut_is_final(world, idle_in(world, 2), executed=False)
    propose(script, world, world.sealing, world.cut)
    assert script.votes() == []
    script >> into.Executed(1, APP[1], world.next_epoch)
    assert [v.kind for v in script.votes()] == [N]


# Fillers.


def test_a_leader_fills_at_once_after_the_seal(world: EpochWorld) -> None:
    script = seal_is_notarized(world, world.leader(3))
    order = script.all(out.BuildBlock)[-1]
    assert not order.transactions_allowed
    assert order.empty_at_ms == world.sealing.header.time_ms
    script >> into.BlockBuilt(3, world.sealing.hash, (APP[9],))
    (block,) = (effect.block for effect in script.all(out.WriteBlock))
    header, parent = block.header, world.sealing.header
    assert (block.transaction_ids, block.votes_seen) == ((), ())
    assert (header.seal, header.executed_height) == (parent.seal, parent.executed_height)


def test_a_filler_is_notarized(world: EpochWorld) -> None:
    script = seal_is_notarized(world, idle_in(world, 2, 3))
    filler = world.filler(3)
    votes = votes_on(script, world, filler, world.sealing)
    assert [v.kind for v in votes] == [N]


@pytest.mark.parametrize(
    "fields",
    [
        {"ids": (APP[9],)},
        {"votes_seen": (VotesSeen(2, b"\7"),)},
        {"seal": None},
        {"seal": Seal(CUT, APP[1], APP[2], APP[3], APP[4])},
        {"executed_height": 2, "app_hash": APP[2]},
        {"executed_final_view": 2},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_filler_with_content_is_nullified(world: EpochWorld, fields: dict[str, Any]) -> None:
    script = seal_is_notarized(world, idle_in(world, 2, 3))
    filler = world.filler(3, **fields)
    votes = votes_on(script, world, filler, world.sealing)
    assert [v.kind for v in votes] == [X]


def test_finalizing_a_filler_finalizes_up_to_the_seal(world: EpochWorld) -> None:
    script = seal_is_notarized(world, idle_in(world, 2, 3))
    filler = world.filler(3)
    propose(script, world, filler, world.sealing)
    script >> into.PeerCertificate(None, world.certificate(N, 3, filler))
    certificate = world.certificate(F, 3, filler)
    script >> into.PeerCertificate(None, certificate)
    (final,) = script.all(out.Finalize)
    assert (final.blocks, final.fillers) == ((world.sealing,), (filler.header,))
    assert final.certificate == certificate
    assert script.core.final_header == world.sealing.header
    script >> into.Executed(2, APP[2])
    proof = script.core.epoch_end
    assert proof == world.proof(filler)


def test_nothing_is_voted_once_the_epoch_is_over(world: EpochWorld) -> None:
    script = epoch_is_over(world, world.leader(3), executed=False)
    assert script.core.is_epoch_over
    assert script.core.epoch_end is None, "not before it is executed"
    assert script.all(out.BuildBlock) == []
    for kind in msg.TimerKind:
        assert script.fire(kind).votes() == []
    propose(script, world, world.filler(script.core.view), world.sealing)
    assert script.votes() == []


def test_who_asks_for_anything_gets_the_end(world: EpochWorld) -> None:
    script = epoch_is_over(world, 0)
    script >> into.PeerAsksCertificates(1, 3, 3)
    certificate = world.certificate(F, 2, world.sealing)
    assert script.sent(msg.CertificateMessage)[0].certificate == certificate


def test_a_proof_brings_a_straggler_to_the_end(world: EpochWorld) -> None:
    script = seal_is_notarized(world, idle_in(world, 2, 3))
    first = world.filler(3)
    second = world.filler(4, first)
    script >> into.EpochProven(world.proof(first, second))
    (final,) = script.all(out.Finalize)
    assert final.blocks == (world.sealing,)
    assert final.fillers == (first.header, second.header)


def test_a_straggler_fetches_the_seal_that_a_proof_names(world: EpochWorld) -> None:
    script = cut_is_final(world, idle_in(world, 2, 3))
    script >> into.EpochProven(world.proof(world.filler(3)))
    assert [e.block_hash for e in script.all(out.FetchBlock)] == [world.sealing.hash]
    script >> into.BlockArrived(world.sealing)
    assert [final.blocks for final in script.all(out.Finalize)] == [(world.sealing,)]


def test_a_synced_run_ends_with_fillers(world: EpochWorld) -> None:
    script = Script(world.core(None)) >> into.Start()
    filler = world.filler(3)
    certificate = world.certificate(F, 3, filler)
    script >> into.BlocksSynced((world.cut, world.sealing, filler), certificate)
    (final,) = script.all(out.Finalize)
    assert (final.blocks, final.fillers) == ((world.cut, world.sealing), (filler.header,))


@pytest.mark.parametrize("decided", ["nothing", "otherwise"])
def test_a_final_seal_that_is_not_ours_halts(world: EpochWorld, decided: str) -> None:
    ours = None
    if decided == "otherwise":
        seal = replace(world.next_epoch.seal, snapshot_root=APP[50])
        ours = NextEpoch(seal, world.next_epoch.validators)
    script = Script(world.core(None)) >> into.Start()
    certificate = world.certificate(F, 2, world.sealing)
    script >> into.BlocksSynced((world.cut, world.sealing), certificate)
    assert script.core.halted is None
    script >> into.Executed(1, APP[1], ours)
    assert script.core.halted is not None


def test_a_final_block_that_should_have_sealed_halts(world: EpochWorld) -> None:
    executed = {"executed_height": 1, "executed_final_view": 1, "app_hash": APP[1]}
    unsealed = world.block(2, world.cut.header, **executed)
    script = cut_is_final(world, idle_in(world, 2))
    script >> into.BlocksSynced((unsealed,), world.certificate(F, 2, unsealed))
    assert script.core.halted is not None


# The next epoch.


def begun(world: EpochWorld, me: int, next_me: int | None = None) -> Script:
    """Return a core that has begun the next epoch."""
    script = epoch_is_over(world, me)
    script.core.begin_epoch(me if next_me is None else next_me)
    return script >> into.Start()


def test_views_go_on_and_the_same_vote_goes_on_voting(world: EpochWorld) -> None:
    after = world.after
    me = idle_in(after, 3)
    script = begun(world, me)
    core = script.core
    assert (core.epoch, core.view, core.final_height) == (1, 3, 2)
    assert core.is_armed, "nothing was lost: nobody need be asked"
    assert script.sent(msg.MemoryRequest) == []
    executed = {"executed_height": 2, "executed_final_view": 2, "app_hash": APP[2]}
    block = after.block(3, world.sealing.header, **executed)
    propose(script, after, block)
    assert [(v.kind, v.epoch, v.view) for v in script.votes()] == [(N, 1, 3)]
    script >> into.PeerCertificate(None, after.certificate(N, 3, block, by=(0, 1, 2, 3)))
    script >> into.PeerCertificate(None, after.certificate(F, 3, block, by=(0, 1, 2, 3)))
    (final,) = script.all(out.Finalize)
    assert final.blocks == (block,)


def test_the_first_leader_proposes_without_a_certificate(world: EpochWorld) -> None:
    me = world.after.leader(3)
    script = begun(world, me if me < 4 else 0, me)
    script >> into.BlockBuilt(3, world.sealing.hash, ())
    proposals = [m.proposal for m in script.sent(msg.ProposalMessage)]
    if not script.core.is_armed:  # A newcomer asks first.
        return
    (proposal,) = proposals
    assert proposal.parent_certificate is None
    assert proposal.block.header.valset_hash == world.after.validators.hash
    assert proposal.block.header.seal is None
    assert proposal.block.votes_seen == ()


def test_a_newcomer_asks_what_is_remembered_of_it(world: EpochWorld) -> None:
    script = Script(world.core(None)) >> into.Start()
    script.core._signer = world.signer(4)
    certificate = world.certificate(F, 2, world.sealing)
    script >> into.BlocksSynced((world.cut, world.sealing), certificate)
    script >> into.Executed(1, APP[1], world.next_epoch) >> into.Executed(2, APP[2])
    script.core.begin_epoch(4)
    script >> into.Start()
    assert not script.core.is_armed
    assert script.sent(msg.MemoryRequest) == [msg.MemoryRequest(1)]
    for peer in range(4):
        script >> into.PeerMemory(peer, 3, ())
    assert script.core.is_armed


def test_who_lost_memory_in_the_last_epoch_asks_again(world: EpochWorld) -> None:
    me = idle_in(world, 1, 2)
    script = Script(world.core(me)) >> into.Start()
    forgotten = world.vote(X, 1, me)
    for peer in world.others(me):
        script >> into.PeerMemory(peer, 1, (forgotten,))
    script >> into.BlocksSynced((world.cut, world.sealing), world.certificate(F, 2, world.sealing))
    script >> into.Executed(1, APP[1], world.next_epoch) >> into.Executed(2, APP[2])
    script.core.begin_epoch(me)
    script >> into.Start()
    assert not script.core.is_armed


def test_who_was_told_of_later_views_than_the_seals_asks_again(world: EpochWorld) -> None:
    """An earlier life may have seen the epoch's end before its peers did, and voted after it."""
    me = idle_in(world, 1, 2)
    script = Script(world.core(me)) >> into.Start()
    for peer in world.others(me):
        script >> into.PeerMemory(peer, 3, ())
    script >> into.BlocksSynced((world.cut, world.sealing), world.certificate(F, 2, world.sealing))
    script >> into.Executed(1, APP[1], world.next_epoch) >> into.Executed(2, APP[2])
    script.core.begin_epoch(me)
    assert not (script >> into.Start()).core.is_armed


def test_who_left_the_set_follows(world: EpochWorld) -> None:
    script = epoch_is_over(world, 3)
    script.core.begin_epoch(None)
    script >> into.Start()
    assert script.core.me is None
    assert (script.core.epoch, script.core.view) == (1, 3)
    block = world.after.block(3, world.sealing.header)
    assert propose(script, world.after, block).votes() == []


def test_an_epoch_does_not_begin_before_the_last_one_ended(world: EpochWorld) -> None:
    script = epoch_is_over(world, 0, executed=False)
    with pytest.raises(BrokenInvariant, match="not over"):
        script.core.begin_epoch(0)


def test_what_is_of_another_epoch_changes_nothing(world: EpochWorld) -> None:
    script = begun(world, idle_in(world.after, 3))
    old_certificate: Certificate = world.certificate(X, 3, by=(0, 1, 2, 3))
    old_vote: Vote = world.vote(X, 3, 1)
    filler = world.filler(3)
    for event in (
        into.PeerCertificate(None, old_certificate),
        into.PeerVote(1, old_vote),
        world.proposal(filler, world.certificate(N, 2, world.sealing)),
        into.BlockArrived(filler),
        into.BodyReady(filler.hash),
        into.BlockBuilt(3, filler.hash, ()),
        into.BlocksSynced((filler,), world.certificate(F, 3, filler)),
        into.EpochProven(world.proof(filler)),
        into.PeerMemory(1, 9, (old_vote,)),
    ):
        script >> event
        assert script.votes() == []
        assert script.all(out.WriteCertificate) == []
        assert script.all(out.Finalize) == []
    assert script.core.view == 3
    assert script.core._state.views.votes(3).of_validator(1) == []


def test_records_of_the_next_epoch_are_taken_back_in_it(world: EpochWorld) -> None:
    after = world.after
    me = idle_in(world, 1, 2, 3)
    executed = ((1, APP[1]), (2, APP[2]))
    tip = FinalizedTip(world.sealing.header, world.proof().certificate, executed)
    core = after.core(me, finalized=tip)
    for record in (
        WalVote(world.vote(N, 3, me, world.filler(3))),
        WalCertificate(world.certificate(X, 3)),
        WalVote(after.vote(X, 3, me)),
    ):
        core.replay(record)
    script = Script(core, now_ms=START_MS) >> into.Start()
    assert (core.epoch, core.view) == (1, 3)
    for peer in range(5):
        if peer != me:
            script >> into.PeerMemory(peer, 3, ())
    script.fire(msg.TimerKind.RETRY)
    assert [m.vote for m in script.sent(msg.VoteMessage)] == [after.vote(X, 3, me)]


# The beacon.


class Beacon:
    """A beacon key whose signatures name their message."""

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key

    def sign(self, message: bytes) -> bytes:
        return message * 3


def test_a_leader_signs_the_beacon() -> None:
    key = b"\1" * 48
    world = World(beacon_keys=dict.fromkeys(range(4), key))
    script = world.armed(world.leader(1), beacon=Beacon(key))
    script >> into.BlockBuilt(1, world.genesis.hash, ())
    (block,) = (effect.block for effect in script.all(out.WriteBlock))
    assert len(block.header.beacon_proof) == 96
    assert block.header.beacon != world.genesis.beacon
    voter = world.armed(idle_in(world, 1))
    assert [v.kind for v in votes_on(voter, world, block)] == [N]


@pytest.mark.parametrize("beacon", [None, Beacon(b"\2" * 48)])
def test_a_leader_without_its_beacon_key_does_not_propose(beacon: Beacon | None) -> None:
    world = World(beacon_keys=dict.fromkeys(range(4), b"\1" * 48))
    me = world.leader(1)
    script = world.armed(me, beacon=beacon)
    assert script.core.leader == me
    assert script.all(out.BuildBlock) == []


@pytest.mark.parametrize("proof", [b"", b"x"])
def test_a_block_without_its_beacon_proof_is_nullified(proof: bytes) -> None:
    world = World(beacon_keys=dict.fromkeys(range(4), b"\1" * 48))
    script = world.armed(idle_in(world, 1))
    block = world.block(1, beacon_proof=proof)
    assert [v.kind for v in votes_on(script, world, block)] == [X]
