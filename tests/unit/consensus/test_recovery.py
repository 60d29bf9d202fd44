"""After a restart: replay, voting again (PROTOCOL.md P7), stragglers, block sync, halting (P5)."""

from __future__ import annotations

import pytest

from consensus_script import APP, DELTA_MS, START_MS, F, N, Script, World, X
from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.chain import FinalizedTip
from omninode.consensus.limits import MEMORY_VOTES_MAX
from omninode.consensus.messages import TimerKind
from omninode.consensus.records import WalBlock, WalCertificate, WalVote
from omninode.consensus.types import Block, Header

ME = 0


@pytest.fixture
def world() -> World:
    return World()


def run_of_blocks(world: World, count: int) -> list[Block]:
    """Return a chain of blocks of the views 1, 2, … without executed states in their headers."""
    blocks: list[Block] = []
    parent: Header = world.genesis
    for view in range(1, count + 1):
        blocks.append(world.block(view, parent))
        parent = blocks[-1].header
    return blocks


def test_nobody_votes_before_two_thirds_have_spoken(world: World) -> None:
    script = Script(world.core(ME)) >> into.Start()
    script << out.Send(None, msg.MemoryRequest())
    assert script.fire(TimerKind.LEADER).votes() == []
    script >> into.PeerMemory(1, 1, ())
    assert script.fire(TimerKind.LEADER).votes() == []
    script.fire(TimerKind.MEMORY)
    assert [e.to for e in script.all(out.Send)] == [2, 3], "who has not answered is asked again"
    script >> into.PeerMemory(1, 1, ())
    assert not script.core.is_armed, "one peer counts once"
    script >> into.PeerMemory(2, 1, ())
    assert script.core.is_armed
    assert script.fire(TimerKind.LEADER).votes() == [world.vote(X, 1, ME)]


def test_memory_is_asked_for_also_while_views_are_shorter_than_the_timer(world: World) -> None:
    script = Script(world.core(ME)) >> into.Start()
    asked = 0
    for view in range(1, 21):
        script.at(script.now_ms + DELTA_MS // 2)
        script >> into.PeerCertificate(1, world.certificate(X, view, by=(1, 2, 3)))
        assert script.core.view == view + 1
        asked += out.Send(2, msg.MemoryRequest()) in script.all(out.Send)
    assert asked == 5, "every 2Δ"
    script >> into.PeerMemory(1, 21, ()) >> into.PeerMemory(2, 21, ())
    assert script.core.is_armed


def test_what_peers_remember_of_us_is_taken_over_and_logged(world: World) -> None:
    block = world.block(4)
    mine = world.vote(N, 4, ME, block)
    script = Script(world.core(ME)) >> into.Start()
    script >> into.PeerCertificate(1, world.certificate(X, 3, by=(1, 2, 3)))
    script >> into.PeerMemory(1, 4, (mine,))
    script << out.WriteVote(mine)
    script >> into.PeerMemory(2, 4, ())
    # Something was lost, so more may be: no vote in a view that somebody has reached, nor the next.
    assert script.core.is_armed
    assert script.fire(TimerKind.LEADER).votes() == []
    script >> into.PeerMemory(3, 4, ())
    assert script.fire(TimerKind.ADVANCE).votes() == [world.vote(X, 4, ME)], "all have answered"


def test_views_that_honest_validators_left_behind_are_not_voted_in(world: World) -> None:
    script = Script(world.core(ME)) >> into.Start()
    script >> into.PeerMemory(1, 30, ()) >> into.PeerMemory(2, 2**62, ())
    assert script.core.is_armed
    assert script.fire(TimerKind.LEADER).votes() == []
    script >> into.PeerCertificate(1, world.certificate(X, 29, by=(1, 2, 3)))
    assert script.core.view == 30
    assert script.fire(TimerKind.LEADER).votes() == [world.vote(X, 30, ME)], (
        "a liar can not stop us"
    )


def test_two_memories_of_one_key_take_no_side(world: World) -> None:
    a, b = world.block(1), world.block(1, time_ms=START_MS + 99)
    core = world.core(ME)
    core.replay(WalVote(world.vote(N, 1, ME, a)))
    script = Script(core) >> into.Start()
    script >> into.PeerMemory(1, 1, (world.vote(N, 1, ME, b),))
    assert script.votes() == []
    script >> into.PeerMemory(2, 1, ()) >> into.PeerMemory(3, 1, ())
    assert script.fire(TimerKind.ADVANCE).votes() == []


def test_peers_are_told_where_we_are_and_what_they_signed(world: World) -> None:
    script = world.armed(ME)
    for view in range(1, 6):
        script >> into.PeerVote(2, world.vote(X, view, 2))
        script >> into.PeerCertificate(1, world.certificate(X, view, by=(1, 2, 3)))
    script >> into.PeerAsksMemory(2)
    (answer,) = script.sent(msg.MemoryAnswer)
    assert answer.view == 6
    assert answer.votes == tuple(world.vote(X, v, 2) for v in (5, 4, 3, 2, 1))
    assert len(answer.votes) <= MEMORY_VOTES_MAX
    script << out.Send(2, msg.CertificateMessage(world.certificate(X, 5, by=(1, 2, 3))))


def test_a_replayed_core_remembers_and_counts_its_votes(world: World) -> None:
    block = world.block(1)
    core = world.core(ME)
    core.replay(WalBlock(block, ()))
    core.replay(WalVote(world.vote(N, 1, ME, block)))
    script = Script(core) >> into.Start()
    for peer in (1, 2, 3):
        script >> into.PeerMemory(peer, 1, ())
    assert script.fire(TimerKind.LEADER).votes() == []
    script.fire(TimerKind.RETRY)
    if block.header.proposer == ME:
        assert script.sent(msg.ProposalMessage)
    else:
        script << out.Send(None, msg.VoteMessage(world.vote(N, 1, ME, block)))
    script >> into.PeerVote(1, world.vote(N, 1, 1, block))
    script >> into.PeerVote(2, world.vote(N, 1, 2, block))
    assert script.core.view == 2, "ours was the third vote"
    assert [v.kind for v in script.votes()] == [F]


def test_a_vote_whose_block_was_lost_binds_but_is_not_said(world: World) -> None:
    block = world.block(1)
    core = world.core(ME)
    core.replay(WalVote(world.vote(N, 1, ME, block)))
    script = Script(core) >> into.Start()
    for peer in (1, 2, 3):
        script >> into.PeerMemory(peer, 1, ())
    script.fire(TimerKind.RETRY)
    assert script.sent(msg.VoteMessage) == []
    script >> into.PeerAsksCertificates(1, 1, 1)
    assert script.sent(msg.VoteMessage) == []
    script >> into.PeerVote(1, world.vote(N, 1, 1, block))
    script >> into.PeerVote(2, world.vote(N, 1, 2, block))
    assert script.core.view == 1, "it does not count"
    assert script.fire(TimerKind.ADVANCE).votes() == [world.vote(X, 1, ME)]


def test_a_log_brings_back_what_was_final_but_not_stored(world: World) -> None:
    blocks = run_of_blocks(world, 3)
    core = world.core(ME)
    for block in blocks:
        core.replay(WalBlock(block, ()))
        core.replay(WalCertificate(world.certificate(N, block.header.view, block)))
    core.replay(WalCertificate(world.certificate(F, 3, blocks[2])))
    script = Script(core) >> into.Start()
    (final,) = script.all(out.Finalize)
    assert final.blocks == tuple(blocks)
    assert script.core.view == 4


def test_a_stored_tip_is_where_a_core_begins(world: World) -> None:
    blocks = run_of_blocks(world, 3)
    tip = FinalizedTip(
        blocks[1].header,
        world.certificate(F, 2, blocks[1]),
        tuple((height, APP[height]) for height in range(3)),
    )
    core = world.core(ME, finalized=tip)
    core.replay(WalBlock(blocks[0], ()))
    core.replay(WalBlock(blocks[2], ()))
    core.replay(WalCertificate(world.certificate(F, 3, blocks[2])))
    script = Script(core) >> into.Start()
    assert script.all(out.Finalize)[0].blocks == (blocks[2],)
    assert (script.core.executed_height, script.core.final_height) == (2, 3)


def test_far_behind_means_block_sync(world: World) -> None:
    script = world.armed(ME)
    blocks = run_of_blocks(world, 20)
    script >> into.PeerCertificate(1, world.certificate(F, 20, blocks[19]))
    script << out.FetchBlock(
        blocks[19].hash, 20, world.leader(20) if world.leader(20) != ME else None
    )
    (script >> into.BlockArrived(blocks[19])) << out.SyncBlocks(1, None)
    wrong = (blocks[0], blocks[2])
    script >> into.BlocksSynced(wrong, world.certificate(F, 3, blocks[2]))
    assert script.core.final_height == 0, "no run of blocks"
    script >> into.BlocksSynced(tuple(blocks[:16]), world.certificate(F, 16, blocks[15]))
    assert script.core.final_height == 16
    script >> into.BlocksSynced(tuple(blocks[10:19]), world.certificate(F, 19, blocks[18]))
    assert script.core.final_height == 20, "the pending finalization does the rest"
    assert script.core.view == 21


def test_a_straggler_is_brought_to_our_view(world: World) -> None:
    script = world.armed(ME)
    for view in range(1, 50):
        script >> into.PeerCertificate(1, world.certificate(X, view, by=(0, 1, 2)))
    script >> into.PeerVote(3, world.vote(X, 4, 3))
    last = msg.CertificateMessage(world.certificate(X, 49, by=(0, 1, 2)))
    assert script.all(out.Send) == [out.Send(3, last)]
    script >> into.PeerVote(3, world.vote(X, 4, 3))
    assert script.all(out.Send) == [], "at most once in Δ"
    script.at(START_MS + DELTA_MS) >> into.PeerVote(3, world.vote(X, 4, 3))
    script << out.Send(3, last)


def test_a_straggler_behind_finality_gets_the_finalization(world: World) -> None:
    script = world.armed(ME)
    (block,) = run_of_blocks(world, 1)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    script >> into.PeerCertificate(1, world.certificate(N, 1, block))
    script >> into.PeerCertificate(1, world.certificate(F, 1, block))
    for view in range(2, 9):
        script >> into.PeerCertificate(1, world.certificate(X, view, by=(0, 1, 2)))
    script >> into.PeerVote(3, world.vote(X, 1, 3))
    sent = [m.certificate for m in script.sent(msg.CertificateMessage)]
    assert sent == [
        world.certificate(X, 8, by=(0, 1, 2)),
        world.certificate(F, 1, block),
    ]


def test_a_straggler_that_can_not_nullify_is_helped_too(world: World) -> None:
    """It voted to finalize, so it may not nullify; it can only repeat what it said."""
    script = world.armed(ME)
    (block,) = run_of_blocks(world, 1)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    certificate = world.certificate(N, 1, block)
    script >> into.PeerCertificate(1, certificate)
    late = world.vote(F, 1, 3, block)
    script >> into.PeerVote(3, late)
    assert script.sent(msg.CertificateMessage) == []
    script.at(START_MS + DELTA_MS) >> into.PeerVote(3, late)
    assert certificate in [m.certificate for m in script.sent(msg.CertificateMessage)]


def test_a_final_header_with_another_state_halts(world: World) -> None:
    script = world.armed(ME)
    first = world.block(1)
    script >> into.BlocksSynced((first,), world.certificate(F, 1, first))
    script >> into.Executed(1, APP[1])
    second = world.block(2, first.header, executed_height=1, app_hash=APP[77])
    script >> into.BlocksSynced((second,), world.certificate(F, 2, second))
    script << out.Halt(1, APP[77], APP[1])
    assert script.all(out.Finalize) == []
    assert (script >> into.Executed(2, APP[2])).seen == [], "nothing more is said"
    assert script.core.waiting_for() == "halted"


def test_a_state_that_differs_from_a_final_header_halts(world: World) -> None:
    script = world.armed(ME)
    first = world.block(1)
    second = world.block(2, first.header, executed_height=1, app_hash=APP[77])
    script >> into.BlocksSynced((first, second), world.certificate(F, 2, second))
    (script >> into.Executed(1, APP[1])) << out.Halt(1, APP[77], APP[1])


def test_a_finalization_past_our_final_block_halts(world: World) -> None:
    script = world.armed(ME)
    ours, theirs = world.block(1), world.block(1, time_ms=START_MS + 99)
    script >> into.BlocksSynced((ours,), world.certificate(F, 1, ours))
    child = world.block(2, theirs.header)
    script >> into.PeerCertificate(1, world.certificate(F, 2, child))
    script >> into.BlockArrived(child)
    script << out.Halt(2, child.hash, ours.hash)
