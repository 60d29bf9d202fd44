"""Patience, repetition, skipping silent leaders, pulling finality (PROTOCOL.md P3)."""

from __future__ import annotations

import pytest

from consensus_script import APP, DELTA_MS, START_MS, TIMING, F, N, Script, World, X
from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.leaders import LeaderSchedule, LeaderWatch
from omninode.consensus.limits import MISSED_TURNS, SILENT_VIEWS
from omninode.consensus.messages import TimerId, TimerKind
from omninode.consensus.pacemaker import Pacemaker
from omninode.consensus.timing import Timing

ME = 0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def view(world: World) -> int:
    """A view that we do not lead."""
    return next(v for v in range(1, 100) if world.leader(v) != ME)


@pytest.fixture
def script(world: World, view: int) -> Script:
    """A core in `view`."""
    script = world.armed(ME)
    for old in range(1, view):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    return script


def leader_timers(script: Script) -> list[int]:
    return [e.delay_ms for e in script.all(out.SetTimer) if e.timer.kind is TimerKind.LEADER]


def test_back_off_is_integers_and_at_most_fourfold() -> None:
    timing = Timing(100, 50, 2_000)
    patience = [timing.patience_ms(views) for views in range(9)]
    assert patience == [200, 200, 200, 300, 450, 675, 800, 800, 800]
    assert timing.advance_ms(10**9) == 1_200


def test_hasty_views_double_patience_twice_and_are_forgotten_by_finality() -> None:
    timing = Timing(100, 50, 2_000)
    assert [timing.patience_ms(9, n) for n in (0, 7, 8, 15, 16, 99)] == [
        800, 800, 1_600, 1_600, 3_200, 3_200
    ]  # fmt: skip
    assert timing.advance_ms(9, 16) == 4_800
    pace = Pacemaker(timing)
    for _ in range(100):
        pace.was_hasty()
    first = [pace.enter(view, final_view=0, idle_wait_ms=0)[0].delay_ms for view in (1, 9)]
    assert first == [800, 3_200]
    later = [pace.enter(n + 9, final_view=n + 8, idle_wait_ms=0)[0].delay_ms for n in range(30)]
    assert later == [800] * 8 + [400] * 8 + [200] * 14


def test_leaders_are_drawn_by_power() -> None:
    world = World((1, 2, 3, 4))
    schedule = LeaderSchedule(world.validators)
    led = [0, 0, 0, 0]
    for view in range(10_000):
        led[schedule.leader(view)] += 1
    assert all(abs(led[i] - 1_000 * (i + 1)) < 150 for i in range(4))
    assert [schedule.leader(v) for v in range(50)] == [world.leader(v) for v in range(50)]


def test_an_idle_leader_has_the_idle_interval(world: World) -> None:
    script = Script(world.core(ME)) >> into.Start()
    assert leader_timers(script)[-1] == TIMING.idle_block_interval_ms + TIMING.patience_ms(0)


def test_a_pending_transaction_starts_patience_once(script: Script, view: int) -> None:
    script >> into.PendingChanged(pending=True)
    assert leader_timers(script) == [TIMING.patience_ms(view)]
    script >> into.PendingChanged(pending=True)
    assert leader_timers(script) == []


def test_a_proposal_on_the_table_starts_patience(script: Script, world: World, view: int) -> None:
    script >> world.proposal(world.block(view))
    assert leader_timers(script) == [TIMING.patience_ms(view)]


def test_a_third_of_the_power_at_work_starts_patience(
    script: Script, world: World, view: int
) -> None:
    a, b = world.others(ME, world.leader(view))
    script >> into.PeerVote(a, world.vote(X, view, a))
    assert leader_timers(script) == [], "one of four may be a liar"
    script >> into.PeerVote(b, world.vote(X, view, b))
    assert leader_timers(script) == [TIMING.patience_ms(view)]


def test_lost_patience_nullifies_and_repeats(script: Script, world: World, view: int) -> None:
    script.fire(TimerKind.LEADER)
    vote = world.vote(X, view, ME)
    (
        script
        << out.WriteVote(vote)
        << out.Send(None, msg.VoteMessage(vote))
        << out.SetTimer(TimerId(TimerKind.RETRY, view), DELTA_MS)
    )
    script.fire(TimerKind.RETRY)
    assert script.votes() == [], "said again, not signed again"
    script << out.Send(None, msg.VoteMessage(vote))
    script << out.SetTimer(TimerId(TimerKind.RETRY, view), 2 * DELTA_MS)


def test_a_vote_ends_patience_with_the_leader(script: Script, world: World, view: int) -> None:
    block = world.block(view)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    assert script.fire(TimerKind.LEADER).votes() == []
    assert script.fire(TimerKind.ADVANCE).votes() == [world.vote(X, view, ME)]
    # S3: who nullified does not finalize, though the block is notarized in the end.
    script >> into.PeerCertificate(1, world.certificate(N, view, block, by=(1, 2, 3)))
    assert script.votes() == []


def test_a_timer_of_another_view_does_nothing(script: Script, view: int) -> None:
    script >> into.TimerFired(TimerId(TimerKind.LEADER, view + 1))
    assert script.seen == []


def test_the_leader_repeats_its_proposal(world: World) -> None:
    view = world.led_by(ME)
    script = world.armed(ME)
    for old in range(1, view):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    script >> into.BlockBuilt(view, world.genesis.hash, ())
    (first,) = script.sent(msg.ProposalMessage)
    script.fire(TimerKind.ADVANCE)
    script.fire(TimerKind.RETRY)
    assert script.sent(msg.ProposalMessage) == [first]


def test_a_leader_that_gives_up_is_not_waited_for(script: Script, world: World, view: int) -> None:
    leader = world.leader(view)
    script >> into.PeerVote(leader, world.vote(X, view, leader))
    assert script.votes() == [world.vote(X, view, ME)]


def test_finality_that_does_not_come_is_pulled_from_one_peer(
    script: Script, world: World, view: int
) -> None:
    block = world.block(view)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    script >> into.PeerCertificate(1, world.certificate(N, view, block))
    script << out.SetTimer(TimerId(TimerKind.FINALITY, view + 1), DELTA_MS)
    asked = []
    for _ in range(3):
        script.fire(TimerKind.FINALITY)
        (question,) = [e for e in script.all(out.Send) if isinstance(e.message, msg.NeedMessage)]
        assert question.message == msg.NeedMessage(view, view)
        asked.append(question.to)
        script << out.SetTimer(TimerId(TimerKind.FINALITY, view + 1), 2 * DELTA_MS)
    assert sorted(asked) == [1, 2, 3], "another one each time"
    script >> into.PeerCertificate(1, world.certificate(F, view, block))
    assert script.core.final_height == 1
    assert script.fire(TimerKind.FINALITY).seen == []


def test_unfinal_ancestors_hurry_the_next_leader(script: Script, world: World, view: int) -> None:
    block = world.block(view)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    script >> into.PeerCertificate(1, world.certificate(N, view, block))
    assert leader_timers(script.fire(TimerKind.FINALITY)) == [TIMING.patience_ms(view + 1)]


def test_an_unfinal_parent_quickens_empty_blocks(world: World) -> None:
    view = world.led_by(ME, at_least=2)
    script = world.armed(ME)
    for old in range(1, view - 1):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    block = world.block(view - 1)
    if block.header.proposer == ME:
        pytest.skip("two turns in a row")
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    script >> into.PeerCertificate(1, world.certificate(N, view - 1, block))
    order = script.all(out.BuildBlock)[-1]
    assert (order.parent, order.ancestors) == (block.header, (block.hash,))
    assert order.empty_at_ms == block.header.time_ms + DELTA_MS
    script >> into.PeerCertificate(1, world.certificate(F, view - 1, block))
    order = script.all(out.BuildBlock)[-1]
    assert order.empty_at_ms == block.header.time_ms + TIMING.idle_block_interval_ms
    assert order.ancestors == (block.hash,), "final, but not executed yet"
    script >> into.Executed(1, APP[1])
    assert script.all(out.BuildBlock)[-1].ancestors == ()


def test_a_silent_leader_is_skipped_until_it_is_heard(world: World) -> None:
    watch = LeaderWatch(4)
    for _ in range(SILENT_VIEWS):
        watch.passed(1, proposal_seen=True)
    assert not watch.is_silent(2)
    watch.passed(1, proposal_seen=True)
    assert watch.is_silent(2)
    watch.heard(2)
    assert not watch.is_silent(2)
    watch.jumped()
    assert not any(watch.is_silent(i) for i in range(4))


def test_a_leader_that_votes_but_never_proposes_is_skipped_most_of_the_time() -> None:
    watch = LeaderWatch(4)
    skipped = 0
    for turn in range(32):
        skipped += watch.is_silent(3)
        watch.passed(3, proposal_seen=False)
        watch.heard(3)
        if turn < MISSED_TURNS - 1:
            assert not watch.is_silent(3)
    assert 24 <= skipped <= 28
    watch.proposed(3)
    assert not watch.is_silent(3)


def test_a_peer_far_ahead_is_asked_how_it_came_there(script: Script, world: World) -> None:
    ahead = script.core.view + 40
    script >> into.PeerVote(2, world.vote(X, ahead, 2))
    script << out.Send(2, msg.NeedMessage(ahead - 1, ahead - 1))
    script >> into.PeerVote(3, world.vote(X, ahead, 3))
    assert script.sent(msg.NeedMessage) == [], "not more than once in Δ"
    script.at(START_MS + DELTA_MS) >> into.PeerVote(3, world.vote(X, ahead, 3))
    script << out.Send(3, msg.NeedMessage(ahead - 1, ahead - 1))


def test_a_nullification_far_ahead_brings_us_there(script: Script, world: World) -> None:
    script >> into.PeerCertificate(2, world.certificate(X, 500, by=(1, 2, 3)))
    assert script.core.view == 501
    assert script.all(out.ViewEntered)[-1].ancestors == ()
