"""What the shell may ask a core: is this message worth a signature check, where do we stand."""

from __future__ import annotations

import pytest

from consensus_script import APP, DELTA_MS, START_MS, F, N, Script, World, X
from omninode.consensus import inputs as into
from omninode.consensus.limits import VIEWS_AHEAD_MAX, VIEWS_KEPT_BEHIND_FINAL
from omninode.consensus.messages import TimerKind
from omninode.errors import BrokenInvariant

ME = 0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def script(world: World) -> Script:
    """A core in view 3, the two views before nullified."""
    script = world.armed(ME)
    for view in (1, 2):
        script >> into.PeerCertificate(1, world.certificate(X, view, by=(1, 2, 3)))
    return script


def test_a_vote_is_worth_checking_once(script: Script, world: World) -> None:
    vote = world.vote(X, 3, 1)
    assert script.core.wants_vote(vote)
    script >> into.PeerVote(1, vote)
    assert not script.core.wants_vote(vote)


def test_votes_for_a_certificate_that_exists_are_not_checked(script: Script, world: World) -> None:
    block = world.block(3)
    script >> into.PeerCertificate(1, world.certificate(N, 3, block))
    late = world.vote(N, 3, 3, block)
    assert script.core.wants_vote(late), "it says that a validator is alive"
    script >> into.PeerVote(3, world.vote(X, 4, 3))
    assert not script.core.wants_vote(late)


def test_a_stragglers_vote_is_worth_an_answer(script: Script, world: World) -> None:
    assert script.core.wants_vote(world.vote(X, 1, 3))
    script >> into.PeerVote(3, world.vote(X, 3, 3))
    old = world.vote(N, 2, 3, world.block(2))
    script >> into.PeerVote(3, old)
    assert not script.core.wants_vote(old)
    script.at(START_MS + DELTA_MS).fire(TimerKind.CLOCK)
    assert script.core.wants_vote(old), "the view is long over: it says it again"


def test_votes_far_ahead_only_tell_that_we_are_behind(script: Script, world: World) -> None:
    far = 3 + VIEWS_AHEAD_MAX + 1
    assert script.core.wants_vote(world.vote(N, far, 2, world.block(far)))
    script >> into.PeerVote(2, world.vote(N, far, 2, world.block(far)))
    assert script.core._state.views.find(far) is None


def test_who_contradicted_itself_is_not_listened_to(script: Script, world: World) -> None:
    first, second = world.block(3), world.block(3, time_ms=START_MS + 77)
    leader = first.header.proposer
    script >> into.PeerVote(leader, world.vote(N, 3, leader, first))
    script >> into.PeerVote(leader, world.vote(N, 3, leader, second))
    assert not script.core.wants_vote(world.vote(F, 3, leader, second))
    script >> world.proposal(first)
    third = world.proposal(world.block(3, time_ms=START_MS + 78)).proposal
    assert not script.core.wants_proposal(third)


def test_certificates_and_proposals(script: Script, world: World) -> None:
    core, block = script.core, world.block(3)
    proposal = world.proposal(block).proposal
    assert core.wants_proposal(proposal)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    assert not core.wants_proposal(proposal)
    assert core.holds_block(block.hash)
    certificate = world.certificate(F, 3, block)
    assert core.wants_certificate(certificate)
    script >> into.PeerCertificate(1, certificate)
    assert not core.wants_certificate(certificate)
    assert core.final_certificate == certificate
    assert not core.wants_proposal(proposal)
    assert not core.holds_block(block.hash)
    late = world.certificate(X, 3, by=(1, 2, 3))
    assert core.wants_certificate(late), "a contradiction would be evidence"
    for height in range(2, VIEWS_KEPT_BEHIND_FINAL + 3):
        child = world.block(core.view, core.final_header)
        certificate = world.certificate(F, core.view, child)
        script >> into.BlocksSynced((child,), certificate)
        assert core.final_height == height
    assert not core.wants_certificate(late)


def test_where_we_stand(world: World) -> None:
    core = world.core(ME)
    script = Script(core) >> into.Start()
    assert (core.view, core.leader, core.is_armed) == (1, core.leader_of(1), False)
    assert core.waiting_for() == "memory"
    for peer in (1, 2, 3):
        script >> into.PeerMemory(peer, 1, ())
    assert core.waiting_for() == "proposal"
    script.fire(TimerKind.LEADER)
    assert core.waiting_for() == "nullification"
    assert core.votes_in_view() == [(X,), (), (), ()]
    assert (core.final_height, core.executed_height, core.halted) == (0, 0, None)
    block = world.block(2)
    script >> into.PeerCertificate(1, world.certificate(F, 2, block))
    assert core.waiting_for() == "blocks"
    assert Script(world.core(None)).core.waiting_for() == "proposal"


def test_execution_out_of_order_is_our_own_defect(script: Script) -> None:
    with pytest.raises(BrokenInvariant, match="not final"):
        script >> into.Executed(1, APP[1])
