"""Which votes a block shows of its ancestors, and which claims a voter refuses."""

from __future__ import annotations

import pytest

from consensus_script import APP, F, N, Script, World, X
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.records import WalBlock, WalCertificate, WalVote
from omninode.consensus.types import (
    LATE_VOTES_MAX,
    VOTES_SEEN_MAX,
    Block,
    Proposal,
    Vote,
    VotesSeen,
)
from omninode.consensus.votes_seen import entries, gather, mask_of, members_of

ALL = 0b1111


@pytest.fixture
def world() -> World:
    return World()


def follower_of(world: World, *views: int) -> int:
    """Return a validator that leads none of these views."""
    return next(i for i in range(world.count) if i not in {world.leader(view) for view in views})


def notarized(script: Script, world: World, block: Block, parent: Block | None = None) -> None:
    certificate = None if parent is None else world.certificate(N, parent.header.view, parent)
    script >> world.proposal(block, certificate) >> into.BodyReady(block.hash)
    script >> into.PeerCertificate(None, world.certificate(N, block.header.view, block))


def test_bitmaps_come_back() -> None:
    for members in ([], [0], [7], [8], [0, 3, 9, 999]):
        assert members_of(mask_of(members)) == members
    assert entries({5: 1, 3: 1 << 8, 4: 0}) == (VotesSeen(3, b"\0\1"), VotesSeen(5, b"\1"))


def shown_by_leader(world: World, *extra: into.Input) -> Proposal:
    """Return what the leader of view 3 proposes on notarized blocks of views 1 and 2."""
    me = world.leader(3)
    first = world.block(1)
    second = world.block(2, first.header)
    script = world.armed(me)
    notarized(script, world, first)
    notarized(script, world, second, first)
    for event in extra:
        script >> event
    assert script.core.view == 3
    script >> into.BlockBuilt(3, second.hash, ())
    (proposal,) = (message.proposal for message in script.sent(msg.ProposalMessage))
    return proposal


def test_a_leader_shows_what_it_knows_and_no_more(world: World) -> None:
    first = world.block(1)
    late = world.vote(N, 1, 3, first)
    proposal = shown_by_leader(world, into.PeerVote(3, late))
    shown = {entry.view: members_of(entry.signers[0]) for entry in proposal.block.votes_seen}
    assert shown[1] == [0, 1, 2, 3]
    assert set(shown[2]) >= {0, 1, 2}
    certificate = proposal.parent_certificate
    assert certificate is not None
    assert certificate.signers == (0, 1, 2)
    claims = {(v.view, v.validator) for v in proposal.late_votes}
    assert claims >= {(1, 0), (1, 1), (1, 2), (1, 3)}
    assert not claims & {(2, signer) for signer in certificate.signers}, "those need no late vote"


def test_what_a_leader_shows_its_voters_believe(world: World) -> None:
    proposal = shown_by_leader(world)
    me = follower_of(world, 3)
    first = world.block(1)
    second = world.block(2, first.header)
    script = world.armed(me)
    notarized(script, world, first)
    notarized(script, world, second, first)
    script >> into.PeerProposal(world.leader(3), proposal) >> into.BodyReady(proposal.block.hash)
    assert [v.kind for v in script.votes()] == [N]


def judged(world: World, votes_seen: tuple[VotesSeen, ...], *late: Vote) -> list[Vote]:
    """Return how a voter votes on a block in view 3 that shows this."""
    me = follower_of(world, 3)
    first = world.block(1)
    second = world.block(2, first.header, votes_seen=(VotesSeen(1, b"\1"),))
    script = world.armed(me)
    notarized(script, world, first)
    script >> world.proposal(second, world.certificate(N, 1, first)) >> into.BodyReady(second.hash)
    script >> into.PeerCertificate(None, world.certificate(N, 2, second))
    block = world.block(3, second.header, votes_seen=votes_seen)
    script >> world.proposal(block, world.certificate(N, 2, second), *late)
    script >> into.BodyReady(block.hash)
    return script.votes()


@pytest.mark.parametrize("kind", [N, F])
def test_signers_of_the_parents_certificate_and_late_votes_justify(
    world: World, kind: object
) -> None:
    first = world.block(1)
    late = world.vote(kind, 1, 3, first)  # type: ignore[arg-type]
    votes = judged(world, (VotesSeen(1, b"\x08"), VotesSeen(2, b"\x07")), late)
    assert [v.kind for v in votes] == [N]


@pytest.mark.parametrize(
    ("votes_seen", "late"),
    [
        ((VotesSeen(2, b"\x08"),), ()),  # not a signer
        ((VotesSeen(1, b"\x02"),), ()),  # no late vote
        ((VotesSeen(2, b"\x10"),), ()),  # nobody has this index
        ((VotesSeen(2, b"\x07\x00"),), ()),  # another way to say the same
        ((VotesSeen(2, b"\x00"),), ()),  # nobody
        ((VotesSeen(0, b"\x07"),), ()),  # genesis has no voters
        ((VotesSeen(3, b"\x07"),), ()),  # itself
        ((VotesSeen(2, b"\x01"), VotesSeen(2, b"\x02")), ()),  # twice
        ((VotesSeen(2, b"\x01"), VotesSeen(1, b"\x02")), ((N, 1, 1),)),  # out of order
        ((VotesSeen(1, b"\x01"),), ((N, 1, 0),)),  # shown by the parent already
        ((VotesSeen(2, b"\x07"),), ((N, 1, 3),)),  # a late vote that shows nothing
        ((VotesSeen(1, b"\x02"),), ((N, 1, 1), (F, 1, 1))),  # two for one
        ((VotesSeen(1, b"\x02"),), ((X, 1, 1),)),  # no vote for the block
        ((VotesSeen(1, b"\x02"),), ((N, 1, 2),)),  # somebody else's
    ],
)
def test_what_is_not_justified_is_nullified(
    world: World, votes_seen: tuple[VotesSeen, ...], late: tuple[tuple[object, int, int], ...]
) -> None:
    first = world.block(1)
    votes = [
        world.vote(kind, view, by, None if kind is X else first)  # type: ignore[arg-type]
        for kind, view, by in late
    ]
    assert [v.kind for v in judged(world, votes_seen, *votes)] == [X]


def test_a_vote_for_another_block_of_the_view_shows_nothing(world: World) -> None:
    other = world.block(1, ids=(APP[1],))
    votes = judged(world, (VotesSeen(1, b"\x02"),), world.vote(N, 1, 1, other))
    assert [v.kind for v in votes] == [X]


def test_a_chain_shows_its_last_eight_ancestors_and_nobody_twice(world: World) -> None:
    chain: list[Block] = []
    for view in range(1, 20):
        parent = chain[-1].header if chain else None
        certificate = world.certificate(N, view - 1, chain[-1]) if chain else None
        ancestry = chain[: -VOTES_SEEN_MAX - 1 : -1]
        shown = gather(ancestry, certificate, lambda _: ALL)
        if chain:
            assert shown[-1] == VotesSeen(view - 1, b"\x0f")
        assert len(shown) <= 1, "all others were shown before"
        chain.append(world.block(view, parent, votes_seen=shown))
    unseen = [world.block(view) for view in range(1, 9)]
    assert [e.view for e in gather(unseen[::-1], None, lambda _: ALL)] == list(range(1, 9))


def test_late_votes_are_bounded(world: World) -> None:
    blocks = [world.block(view) for view in range(8, 0, -1)]
    shown = gather(blocks, None, lambda _: (1 << 300) - 1)
    assert sum(entry.signers.count(255) * 8 for entry in shown) <= LATE_VOTES_MAX
    assert [entry.view for entry in shown] == [6, 7, 8], "the newest come first"


def test_a_leader_whose_late_votes_are_lost_sends_its_vote_alone(world: World) -> None:
    proposal = shown_by_leader(world)
    me = world.leader(3)
    script = Script(world.core(me))
    first = world.block(1)
    second = world.block(2, first.header)
    for record in (
        WalBlock(first, ()),
        WalCertificate(world.certificate(N, 1, first)),
        WalBlock(second, ()),
        WalCertificate(world.certificate(N, 2, second)),
        WalBlock(proposal.block, ()),
        WalVote(proposal.vote),
    ):
        script.core.replay(record)
    script >> into.Start()
    for peer in world.others(me):
        script >> into.PeerMemory(peer, 1, ())
    assert script.core.is_armed
    script.fire(msg.TimerKind.RETRY)
    assert script.sent(msg.ProposalMessage) == []
    assert [message.vote for message in script.sent(msg.VoteMessage)] == [proposal.vote]
