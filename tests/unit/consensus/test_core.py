"""The protocol's steps, one script each (PROTOCOL.md P2, P3)."""

from __future__ import annotations

import pytest

from consensus_script import APP, DELTA_MS, START_MS, TIMING, F, N, Script, World, X
from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.limits import MAX_LAG
from omninode.consensus.messages import TimerId, TimerKind
from omninode.consensus.types import Block, Header, Seal, Vote

ME = 0


@pytest.fixture
def world() -> World:
    return World()


def follow(script: Script, world: World, block: Block) -> Script:
    """Have a block proposed to us with its body at hand."""
    return script >> world.proposal(block) >> into.BodyReady(block.hash)


def finalize(script: Script, world: World, block: Block) -> Script:
    """Bring a block to finality by certificates."""
    view = block.header.view
    follow(script, world, block)
    script >> into.PeerCertificate(1, world.certificate(N, view, block))
    return script >> into.PeerCertificate(1, world.certificate(F, view, block))


def foreign_view(world: World, at_least: int = 1) -> int:
    """Return a view that we do not lead."""
    view = at_least
    while world.leader(view) == ME:
        view += 1
    return view


def at_view(world: World, view: int) -> Script:
    """Return a core in `view`, all earlier ones nullified."""
    script = world.armed(ME)
    for old in range(1, view):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    assert script.core.view == view
    return script


def test_a_proposal_is_checked_logged_voted_and_sent_in_this_order(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    block = world.block(view, ids=(APP[1],))
    (script >> world.proposal(block)) << out.CheckBody(block, world.leader(view))
    assert script.votes() == []
    vote = world.vote(N, view, ME, block)
    (
        (script >> into.BodyReady(block.hash))
        << out.WriteBlock(block)
        << out.WriteVote(vote)
        << out.Send(None, msg.VoteMessage(vote))
        << out.SetTimer(TimerId(TimerKind.ADVANCE, view), TIMING.advance_ms(view))
    )


def test_votes_to_finality(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    block = world.block(view)
    follow(script, world, block)
    a, b = world.others(ME, world.leader(view))
    assert script.votes() == [world.vote(N, view, ME, block)]
    notarize = into.PeerVote(a, world.vote(N, view, a, block))
    # The leader's vote came with the proposal, ours counts at once: this is the third of four.
    vote = world.vote(F, view, ME, block)
    (script >> notarize) << out.WriteVote(vote) << out.Send(None, msg.VoteMessage(vote))
    assert script.core.view == view + 1
    assert script.all(out.ViewEntered)[-1].ancestors == (block.hash,)
    script >> into.PeerVote(a, world.vote(F, view, a, block))
    script >> into.PeerVote(b, world.vote(F, view, b, block))
    (final,) = script.all(out.Finalize)
    assert final.blocks == (block,)
    assert final.certificate.signers == tuple(sorted((ME, a, b)))
    assert script.core.final_header == block.header


def test_nobody_broadcasts_certificates_while_all_is_well(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    block = world.block(view)
    sent: list[object] = []
    for event in (
        world.proposal(block),
        into.BodyReady(block.hash),
        *(into.PeerVote(i, world.vote(N, view, i, block)) for i in world.others(ME)),
        *(into.PeerVote(i, world.vote(F, view, i, block)) for i in world.others(ME)),
        into.Executed(1, APP[1]),
    ):
        script >> event
        sent += script.sent(msg.CertificateMessage)
    assert script.core.final_height == 1
    assert sent == []


def test_the_leader_orders_logs_and_proposes(world: World) -> None:
    view = world.led_by(ME)
    script = at_view(world, view)
    order = out.BuildBlock(
        view=view,
        parent=world.genesis,
        ancestors=(),
        transactions_allowed=True,
        not_before_ms=START_MS + TIMING.min_block_interval_ms,
        empty_at_ms=START_MS + TIMING.idle_block_interval_ms,
    )
    script = at_view(world, view - 1) if view > 1 else Script(world.core(ME))
    if view > 1:
        certificate = world.certificate(X, view - 1, by=(1, 2, 3))
        (script >> into.PeerCertificate(1, certificate)) << order
    else:
        script = world.armed(ME)
        script << order
    script.at(START_MS + 70) >> into.BlockBuilt(view, world.genesis.hash, (APP[9],))
    (written,) = script.all(out.WriteBlock)
    header = written.block.header
    assert (header.time_ms, header.height, header.executed_height) == (START_MS + 70, 1, 0)
    vote = world.vote(N, view, ME, written.block)
    (proposal,) = script.sent(msg.ProposalMessage)
    assert (proposal.proposal.vote, proposal.proposal.parent_certificate) == (vote, None)
    script << out.WriteBlock(written.block) << out.WriteVote(vote)
    script << out.Send(None, msg.ProposalMessage(proposal.proposal))
    script >> into.BlockBuilt(view, world.genesis.hash, ())
    assert script.votes() == [], "one block a view"


def test_time_goes_up_even_if_the_clock_does_not(world: World) -> None:
    view = world.led_by(ME, at_least=2)
    script = at_view(world, view)
    script.at(START_MS - 10_000) >> into.BlockBuilt(view, world.genesis.hash, ())
    (written,) = script.all(out.WriteBlock)
    assert written.block.header.time_ms == START_MS + 1


def test_only_the_leaders_first_block_counts(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    stranger = world.block(view, proposer=world.others(ME, world.leader(view))[0])
    assert script >> world.proposal(stranger)
    assert script.all(out.CheckBody) == []
    first, second = world.block(view), world.block(view, time_ms=START_MS + 60)
    script >> world.proposal(first)
    script >> world.proposal(second)
    assert script.all(out.CheckBody) == []
    (evidence,) = script.all(out.ReportEvidence)
    assert {evidence.first.block_hash, evidence.second.block_hash} == {first.hash, second.hash}
    # Who has shown two faces has lost our patience, but not our eyes: the first block is voted on.
    assert (script >> into.BodyReady(first.hash)).votes() == [world.vote(N, view, ME, first)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"genesis_hash": APP[5]},
        {"valset_hash": APP[5]},
        {"evidence_root": APP[5]},
        {"seal": Seal(0, APP[1], APP[2], APP[3], APP[4])},
        {"beacon_proof": b"x"},
        {"height": 2},
        {"time_ms": START_MS},
        {"executed_height": 1},
        {"app_hash": APP[7]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_block_that_can_never_be_valid_is_nullified_at_once(
    world: World, wrong: dict[str, object]
) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    block = world.block(view, **wrong)
    script >> world.proposal(block)
    votes = script.votes() or (script >> into.BodyReady(block.hash)).votes()
    assert votes == [world.vote(X, view, ME)]


def test_a_body_that_can_never_be_valid_is_nullified(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    block = world.block(view, ids=(APP[1],))
    script >> world.proposal(block) >> into.BodyInvalid(block.hash)
    assert script.votes() == [world.vote(X, view, ME)]


def test_a_block_ahead_of_the_clock_waits(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    block = world.block(view, time_ms=START_MS + 800)
    follow(script, world, block)
    assert script.votes() == []
    script << out.SetTimer(TimerId(TimerKind.CLOCK, view), 300)
    script.at(START_MS + 300).fire(TimerKind.CLOCK)
    assert script.votes() == [world.vote(N, view, ME, block)]


def test_a_voter_waits_until_it_has_executed_the_same(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    first = world.block(view)
    finalize(script, world, first)
    assert script.core.final_height == 1
    next_view = foreign_view(world, view + 1)
    for old in range(view + 1, next_view):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    second = world.block(
        next_view, first.header, executed_height=1, executed_final_view=view, app_hash=APP[1]
    )
    assert follow(script, world, second).votes() == []
    assert (script >> into.Executed(1, APP[1])).votes() == [world.vote(N, next_view, ME, second)]


def test_a_voter_with_another_state_nullifies(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    first = world.block(view)
    finalize(script, world, first)
    next_view = foreign_view(world, view + 1)
    for old in range(view + 1, next_view):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    second = world.block(
        next_view, first.header, executed_height=1, executed_final_view=view, app_hash=APP[99]
    )
    follow(script, world, second)
    assert (script >> into.Executed(1, APP[1])).votes() == [world.vote(X, next_view, ME)]


def test_finality_that_the_leader_names_is_pulled(world: World) -> None:
    view = foreign_view(world)
    script = at_view(world, view)
    first = world.block(view)
    follow(script, world, first)
    script >> into.PeerCertificate(1, world.certificate(N, view, first))
    next_view = foreign_view(world, view + 1)
    for old in range(view + 1, next_view):
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    second = world.block(
        next_view, first.header, executed_height=1, executed_final_view=view, app_hash=APP[1]
    )
    script >> world.proposal(second)
    script << out.Send(world.leader(next_view), msg.NeedMessage(view, view))


def test_missing_nullifications_are_pulled_in_one_page(world: World) -> None:
    view = foreign_view(world, 5)
    script = world.armed(ME)
    last = world.certificate(X, view - 1, by=(1, 2, 3))
    script >> into.PeerCertificate(1, last)
    assert script.core.view == view
    block = world.block(view)
    script >> world.proposal(block)
    script << out.Send(world.leader(view), msg.NeedMessage(1, view - 2))
    script >> into.BodyReady(block.hash)
    assert script.sent(msg.NeedMessage) == [], "one page at a time"
    for old in range(1, view - 1):
        assert script.votes() == []
        script >> into.PeerCertificate(1, world.certificate(X, old, by=(1, 2, 3)))
    assert script.votes() == [world.vote(N, view, ME, block)]


def test_an_unknown_parent_is_fetched(world: World) -> None:
    script = world.armed(ME)
    view = foreign_view(world, 2)
    parent = world.block(view - 1)
    block = world.block(view, parent.header)
    certificate = world.certificate(N, view - 1, parent)
    script >> world.proposal(block, certificate)
    assert script.core.view == view
    source = world.leader(view - 1)
    fetch = out.FetchBlock(parent.hash, view - 1, source if source != ME else None)
    script << fetch
    script >> into.BodyReady(block.hash)
    assert script.all(out.FetchBlock) == [], "asked once"
    script >> into.BlockArrived(parent)
    kinds = [(v.kind, v.view) for v in script.votes()]
    assert (F, view - 1) in kinds


def test_a_block_that_nobody_asked_for_is_not_taken(world: World) -> None:
    script = world.armed(ME)
    stray = world.block(1)
    script >> into.BlockArrived(stray)
    assert len(script.core._state.chain) == 0


def test_a_leader_that_missed_a_view_proposes_nothing_until_it_knows_how_the_view_ended() -> None:
    """A final block that it does not hold would be contradicted; with 40 of 100, to the end."""
    world = World((40, 30, 30))
    me = world.leader(2)
    hidden = world.block(1)
    script = world.armed(me) >> into.PeerCertificate(None, world.certificate(F, 1, hidden))
    assert (script.core.view, script.core.leader) == (2, me)
    assert script.all(out.BuildBlock) == []
    script >> into.BlockArrived(hidden)
    assert [order.parent for order in script.all(out.BuildBlock)] == [hidden.header]


def test_execution_that_lags_makes_blocks_empty(world: World) -> None:
    script = world.armed(ME)
    parent: Header = world.genesis
    while parent.height < MAX_LAG or script.core.leader != ME:
        block = world.block(script.core.view, parent)
        follow(script, world, block)
        certificate = world.certificate(N, script.core.view, block)
        script >> into.PeerCertificate(1, certificate)
        order = script.all(out.BuildBlock)[-1] if script.core.leader == ME else None
        certificate = world.certificate(F, block.header.view, block)
        script >> into.PeerCertificate(1, certificate)
        parent = block.header
    assert order is not None
    assert not order.transactions_allowed
    assert order.empty_at_ms == parent.time_ms + DELTA_MS
    assert len(order.ancestors) == parent.height, "what is not executed is not to be included again"
    script >> into.Executed(1, APP[1])
    for height in range(2, parent.height + 1):
        script >> into.Executed(height, APP[height])
    order = script.all(out.BuildBlock)[-1]
    assert order.transactions_allowed
    assert order.ancestors == ()


def test_a_full_block_far_above_execution_is_nullified(world: World) -> None:
    script = world.armed(ME)
    parent: Header = world.genesis
    # A leader that was silent for long is nullified without being heard: take one that was not.
    while parent.height < MAX_LAG or script.core.leader == ME or script.core._state.has_voted():
        block = world.block(script.core.view, parent)
        finalize(script, world, block)
        parent = block.header
    full = world.block(script.core.view, parent, ids=(APP[1],))
    assert (script >> world.proposal(full)).votes() == [world.vote(X, script.core.view, ME)]


def test_a_single_validator_is_a_network(world: World) -> None:
    world = World((5,))
    script = Script(world.core(0)) >> into.Start()
    assert script.core.is_armed
    parent = world.genesis
    for height in range(1, 6):
        script >> into.BlockBuilt(script.core.view, parent.hash, ())
        (final,) = script.all(out.Finalize)
        parent = final.blocks[0].header
        assert parent.height == height
        script >> into.Executed(height, APP[height])


def test_power_counts_not_heads() -> None:
    world = World((10, 1, 1, 1, 1))
    view = next(v for v in range(1, 200) if world.leader(v) not in (0, 1))
    script = world.armed(1)
    for old in range(1, view):
        script >> into.PeerCertificate(0, world.certificate(X, old, by=(0,)))
    block = world.block(view)
    follow(script, world, block)
    for other in (2, 3, 4):
        script >> into.PeerVote(other, world.vote(N, view, other, block))
    assert script.core.view == view, "four of five heads, four of fourteen powers"
    script >> into.PeerVote(0, world.vote(N, view, 0, block))
    assert script.core.view == view + 1


def test_exactly_two_thirds_is_no_quorum() -> None:
    world = World((2, 2, 2))
    script = world.armed(0)
    view = script.core.view
    script.fire(TimerKind.LEADER)
    script >> into.PeerVote(1, world.vote(X, view, 1))
    assert script.core.view == view
    script >> into.PeerVote(2, world.vote(X, view, 2))
    assert script.core.view == view + 1


def test_an_observer_follows_and_never_votes(world: World) -> None:
    script = Script(world.core(None)) >> into.Start()
    block = world.block(1)
    script >> world.proposal(block) >> into.BodyReady(block.hash)
    votes: list[Vote] = script.votes()
    script >> into.PeerCertificate(None, world.certificate(N, 1, block))
    votes += script.votes()
    script >> into.PeerCertificate(None, world.certificate(F, 1, block))
    votes += script.votes()
    (final,) = script.all(out.Finalize)
    assert final.blocks == (block,)
    for kind in TimerKind:
        votes += script.fire(kind).votes()
    assert votes == []


def test_a_block_that_may_not_be_proposed_is_not_ordered_again(world: World) -> None:
    """A finalize vote that we were told of, for a block that we do not know, is in the way (S4)."""
    view = world.led_by(ME)
    script = Script(world.core(ME)) >> into.Start()
    for earlier in range(1, view):
        script >> into.PeerCertificate(1, world.certificate(X, earlier, by=(1, 2, 3)))
    elsewhere = world.block(view, time_ms=START_MS + 7)
    for peer in (1, 2, 3):
        script >> into.PeerMemory(peer, view, (world.vote(F, view, ME, elsewhere),))
    orders = len(script.all(out.BuildBlock))
    script >> into.BlockBuilt(view, world.genesis.hash, ())
    assert script.votes() == []
    assert (orders, script.all(out.BuildBlock)) == (1, [])
