"""Pages of certificates at a bounded rate, and bounded memory (PROTOCOL.md P2)."""

from __future__ import annotations

import random
import sys

import pytest

from consensus_script import START_MS, F, N, Script, World, X
from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.core import Core
from omninode.consensus.limits import (
    CERTIFIED_VIEWS_KEPT_MAX,
    HELP_CREDIT_MAX,
    HELP_CREDIT_PER_SECOND,
    PAGE_VIEWS,
    VIEWS_AHEAD_MAX,
    VIEWS_KEPT_BEHIND_FINAL,
    VOTE_VIEWS_KEPT,
)
from omninode.consensus.types import Certificate, Header
from omninode.consensus.views import ViewRanges

ME, PEER = 0, 3


@pytest.fixture
def world() -> World:
    return World()


def nullify(script: Script, world: World, views: range) -> None:
    """Have views nullified; signatures are nobody's business here."""
    signatures = tuple(world.vote(X, 1, i).signature for i in (0, 1, 2))
    for view in views:
        certificate = Certificate(X, 0, view, bytes(32), (0, 1, 2), signatures)
        script >> into.PeerCertificate(1, certificate)


def kilobytes_of_views(core: Core) -> int:
    """Estimate what the records of views take."""
    total = 0
    for record in core._state.views._records.values():
        total += sys.getsizeof(record) + sys.getsizeof(record.notarizations)
        if (certificate := record.nullification) is not None:
            total += sys.getsizeof(certificate) + sys.getsizeof(certificate.signers)
            total += sum(map(sys.getsizeof, certificate.signatures))
    return total // 1024


def test_a_page_is_bounded(world: World) -> None:
    script = world.armed(ME)
    nullify(script, world, range(1, 1_000))
    script >> into.PeerAsksCertificates(PEER, 1, 2**62)
    sent = [m.certificate.view for m in script.sent(msg.CertificateMessage)]
    assert sent == list(range(999, 1_000 - PAGE_VIEWS, -1)), "newest first"
    assert {e.to for e in script.all(out.Send)} == {PEER}


@pytest.mark.parametrize(("low", "high"), [(5, 4), (2**62, 2**62), (2**62, 0)])
def test_senseless_questions_get_nothing(world: World, low: int, high: int) -> None:
    script = world.armed(ME)
    nullify(script, world, range(1, 10))
    assert (script >> into.PeerAsksCertificates(PEER, low, high)).seen == []


def test_a_peers_credit_runs_out_and_refills(world: World) -> None:
    script = world.armed(ME)
    nullify(script, world, range(1, 300))
    answered = 0
    for _ in range(100):
        script >> into.PeerAsksCertificates(PEER, 1, PAGE_VIEWS)
        answered += len(script.all(out.Send))
    assert answered == HELP_CREDIT_MAX // 3, "a certificate costs its three signatures"
    script >> into.PeerAsksCertificates(1, 1, PAGE_VIEWS)
    assert len(script.all(out.Send)) == PAGE_VIEWS, "each peer has its own"
    script.at(START_MS + 10) >> into.PeerAsksCertificates(PEER, 1, PAGE_VIEWS)
    assert len(script.all(out.Send)) == HELP_CREDIT_PER_SECOND // 100 // 3


def test_views_without_a_certificate_are_answered_with_our_votes(world: World) -> None:
    script = world.armed(ME)
    script.fire(msg.TimerKind.LEADER)
    script >> into.PeerAsksCertificates(PEER, 1, 1)
    assert script.seen == [out.Send(PEER, msg.VoteMessage(world.vote(X, 1, ME)))]


def test_ten_thousand_nullified_views_are_walked_by_pages(world: World) -> None:
    """The straggler's vote is needed for the next block: it proves every view in between to
    itself."""
    views = 10_000
    view = next(v for v in range(views + 1, views + 99) if world.leader(v) == 1)
    helper = world.armed(1)
    nullify(helper, world, range(1, view))
    assert kilobytes_of_views(helper.core) < 12 * 1024
    straggler = world.armed(ME)
    block = world.block(view)
    last = helper.core._state.views.record(view - 1).nullification
    assert last is not None
    straggler >> into.PeerCertificate(1, last)
    straggler >> world.proposal(block)
    questions = straggler.sent(msg.NeedMessage)
    straggler >> into.BodyReady(block.hash)
    pages, certificates, now_ms = 0, 0, START_MS
    while questions:
        (question,) = questions
        pages, now_ms = pages + 1, now_ms + 40
        helper.at(now_ms) >> into.PeerAsksCertificates(ME, question.from_view, question.to_view)
        answers = helper.sent(msg.CertificateMessage)
        questions = []
        for answer in answers:
            certificates += 1
            straggler.at(now_ms) >> into.PeerCertificate(1, answer.certificate)
            questions += straggler.sent(msg.NeedMessage)
    assert straggler.votes() == [world.vote(N, view, ME, block)]
    assert pages == -(-(view - 2) // PAGE_VIEWS)
    assert certificates == view - 2
    assert kilobytes_of_views(straggler.core) < 12 * 1024


def test_endless_nullified_views_stay_bounded_and_provable(world: World) -> None:
    script = world.armed(ME)
    last = CERTIFIED_VIEWS_KEPT_MAX + 2_000
    nullify(script, world, range(1, last))
    assert len(script.core._state.views) <= CERTIFIED_VIEWS_KEPT_MAX + 1
    view = next(v for v in range(last, last + 99) if world.leader(v) != ME)
    nullify(script, world, range(last, view))
    block = world.block(view)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    assert script.votes() == [world.vote(N, view, ME, block)], "dropped, but not forgotten"


def test_memory_is_bounded_after_thousands_of_blocks(world: World) -> None:
    script = world.armed(ME)
    parent: Header = world.genesis
    for view in range(1, 2_000):
        block = world.block(view, parent)
        if block.header.proposer != ME:
            script >> world.proposal(block) >> into.BodyReady(block.hash)
        for peer in (1, 2, 3):
            script >> into.PeerVote(peer, world.vote(N, view, peer, block))
        for peer in (1, 2, 3):
            script >> into.PeerVote(peer, world.vote(F, view, peer, block))
        if block.header.proposer == ME:
            script >> into.BlockArrived(block)
        assert script.core.final_height == view
        script >> into.Executed(view, bytes(32))
        parent = block.header
    state = script.core._state
    assert len(state.views) <= VIEWS_KEPT_BEHIND_FINAL + 2
    assert len(state.chain) == 0
    assert len(state.executed._expected) == 0
    assert len(state.executed._final_views) <= 2
    asking = script.core._asking
    assert len(asking._asked) + len(asking._wanted) < 8


def test_a_liar_can_not_fill_our_memory(world: World) -> None:
    script = world.armed(ME)
    nullify(script, world, range(1, 200))
    before = len(script.core._state.views)
    rng = random.Random(5)
    for _ in range(5_000):
        view = rng.choice([rng.randrange(1, 400), rng.randrange(2**62)])
        block = world.block(view, time_ms=START_MS + rng.randrange(1, 2**40))
        script >> into.PeerVote(PEER, world.vote(rng.choice([N, X]), view, PEER, block))
        script >> world.proposal(block)
    state = script.core._state
    assert len(state.views) <= before + VIEWS_AHEAD_MAX + VOTE_VIEWS_KEPT
    assert len(state.chain) <= VIEWS_AHEAD_MAX + VOTE_VIEWS_KEPT + 1


def test_ranges_are_a_set(rng: random.Random) -> None:
    for _ in range(200):
        ranges, model = ViewRanges(), set[int]()
        for view in rng.sample(range(60), rng.randrange(1, 60)):
            ranges.add(view)
            model.add(view)
            for end in range(60):
                if end + 1 in model:
                    continue
                start = end + 1
                while start - 1 in model:
                    start -= 1
                assert ranges.run_start(end) == start
        ranges.drop_below(30)
        for end in range(31, 60):
            if end + 1 not in model and end in model:
                start = end
                while start - 1 in model:
                    start -= 1
                assert ranges.run_start(end) == start
