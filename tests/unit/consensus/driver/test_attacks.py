"""What a dishonest validator may send: it pays or waits, the node goes on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from driver_world import DELTA_MS, START_MS, VOTE_KEYS, Node, World, until
from omninode.consensus import messages as msg
from omninode.consensus.driver.limits import (
    PENDING_MESSAGE_BYTES_MAX,
    WORK_BURST,
    WORK_PER_SECOND,
)
from omninode.consensus.limits import MEMORY_VOTES_MAX
from omninode.consensus.types import (
    Block,
    Certificate,
    Proposal,
    Vote,
    VoteKind,
    body_root,
    vote_digest,
)
from omninode.crypto import ZERO_HASH, keccak256
from omninode.encoding import encode
from omninode.errors import BrokenInvariant, PeerFault, StorageFault

HUGE = 2**63 - 1
LIAR = 3


def vote(world: World, kind: VoteKind, view: int, block_hash: bytes, who: int = LIAR) -> Vote:
    """Sign any vote with a validator's key."""
    digest = vote_digest(world.genesis.hash, kind, epoch=0, view=view, block_hash=block_hash)
    return Vote(kind, 0, view, block_hash, who, VOTE_KEYS[who].sign(digest))


def certificate(world: World, kind: VoteKind, view: int, block_hash: bytes) -> Certificate:
    """Make a certificate of the first three validators."""
    votes = [vote(world, kind, view, block_hash, who) for who in range(3)]
    return Certificate(
        kind, 0, view, block_hash, (0, 1, 2), tuple(vote.signature for vote in votes)
    )


def proposal(world: World, node: Node, view: int, **changes: Any) -> Proposal:
    """Make a proposal for a view, signed by the validator that it names."""
    final = node.core.final_header
    values: dict[str, Any] = {
        "view": view,
        "height": final.height + 1,
        "parent_hash": final.hash,
        "parent_view": final.view,
        "time_ms": world.clock.now_ms(),
        "proposer": node.core.leader_of(view),
        "body_root": body_root(()),
        "executed_height": final.height,
        "executed_final_view": final.view,
        "app_hash": node.execution.exchange.app_hash,
    }
    header = replace(final, **(values | changes))
    own = vote(world, VoteKind.NOTARIZE, header.view, header.hash, header.proposer)
    return Proposal(Block(header, ()), own, None)


def led_by(node: Node, index: int, above: int) -> int:
    """Return the first view above another one that a validator leads."""
    return next(
        view for view in range(above + 1, above + 200) if node.core.leader_of(view) == index
    )


async def give(world: World, message: object, sender: int = LIAR, receiver: int = 0) -> None:
    node = world.hub.nodes[f"peer{receiver}"]
    await node.consensus.inbox.receive(f"peer{sender}", encode(message))


async def refused(world: World, message: object, sender: int = LIAR) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        await give(world, message, sender)
    return caught.value


async def test_foreign_words_are_refused(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    view = nodes[0].core.view
    other = vote(world, VoteKind.NULLIFY, view, ZERO_HASH, 1)
    assert (await refused(world, msg.VoteMessage(other))).reason == "foreign_vote"
    bad = replace(other, validator=HUGE)
    assert (await refused(world, msg.VoteMessage(bad))).reason == "foreign_vote"
    theirs = proposal(world, nodes[0], led_by(nodes[0], 1, view))
    assert (await refused(world, msg.ProposalMessage(theirs))).reason == "not_the_leader"
    early = proposal(world, nodes[0], led_by(nodes[0], 1, view), proposer=LIAR)
    assert (await refused(world, msg.ProposalMessage(early))).reason == "not_the_leader"
    with pytest.raises(PeerFault, match="only validators"):
        await nodes[0].consensus.inbox.receive("stranger", encode(msg.MemoryRequest()))


async def test_rubbish_is_malformed(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    good = encode(msg.VoteMessage(vote(world, VoteKind.NULLIFY, 1, ZERO_HASH)))
    for frame in (b"", b"\xc1", good[:-1], good + b"\0", b"\x92\xa4vote\xc0", b"\x91" * 5_000):
        with pytest.raises(PeerFault) as caught:
            await nodes[0].consensus.inbox.receive("peer3", frame)
        assert caught.value.reason == "malformed"


@pytest.mark.parametrize("number", [0, 1, HUGE])
async def test_numbers_at_the_edge_break_nothing(
    world: World, mock_clock: MockClock, number: int
) -> None:
    """Whatever a validator signs, the node either takes it, drops it, or makes it pay."""
    nodes = await world.start_armed()
    await world.grow(nodes[0], 3, others=nodes)
    final = nodes[0].core.final_header
    messages: list[object] = [
        msg.NeedMessage(number, HUGE),
        msg.NeedMessage(HUGE, number),
        msg.MemoryRequest(),
        msg.MemoryAnswer(number, ()),
        msg.MemoryAnswer(number, (vote(world, VoteKind.NULLIFY, number, ZERO_HASH, 0),)),
    ]
    for kind in VoteKind:
        block_hash = ZERO_HASH if kind is VoteKind.NULLIFY else final.hash
        messages.append(msg.VoteMessage(vote(world, kind, number, block_hash)))
        messages.append(msg.VoteMessage(vote(world, kind, number, keccak256(b"other"))))
        messages.append(msg.VoteMessage(vote(world, kind, number, ZERO_HASH)))
    view = led_by(nodes[0], LIAR, nodes[0].core.view)
    for changes in (
        {"time_ms": number},
        {"height": number},
        {"parent_view": number},
        {"executed_height": number},
        {"executed_final_view": number},
        {"epoch": number},
        {"version": number},
        {"parent_hash": keccak256(b"parent")},
        {"parent_hash": ZERO_HASH},
    ):
        for ahead in range(3):
            made = proposal(world, nodes[0], led_by(nodes[0], LIAR, view + ahead), **changes)
            messages.append(msg.ProposalMessage(made))
    for message in messages:
        for receiver in range(3):
            try:
                await give(world, message, receiver=receiver)
            except PeerFault:
                continue
    honest = nodes[:3]
    await world.final(await world.submit(nodes[0], 3), *honest)
    world.agree(*honest)


async def test_a_leader_that_says_two_things_is_noted_and_the_chain_goes_on(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    view = led_by(nodes[0], LIAR, nodes[0].core.view)
    for receiver in range(3):
        for n in range(3):
            made = proposal(world, nodes[0], view, time_ms=START_MS + 200 + n)
            await give(world, msg.ProposalMessage(made), receiver=receiver)
    assert len(nodes[0].consensus.evidence) == 1
    await nodes[3].stop()
    await world.final(await world.submit(nodes[0], 3))
    world.agree()


async def test_a_flood_waits_and_others_do_not(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 5, others=nodes)
    old = encode(msg.VoteMessage(vote(world, VoteKind.NULLIFY, 1, ZERO_HASH)))
    floods = {
        "votes": old,
        "questions": encode(msg.NeedMessage(1, 256)),
        "memory": encode(msg.MemoryRequest()),
    }
    for frame in floods.values():
        started_s, count = trio.current_time(), 3 * (WORK_BURST + WORK_PER_SECOND)
        taken = 0

        async def flood(frame: bytes = frame, count: int = count) -> None:
            nonlocal taken
            for _ in range(count):
                await nodes[0].consensus.inbox.receive("peer3", frame)
                taken += 1

        with trio.move_on_after(1):
            await flood()
        assert taken < WORK_BURST + WORK_PER_SECOND
        assert trio.current_time() - started_s >= 1
        before_ms = world.clock.now_ms()
        await world.final(await world.submit(nodes[1]), *nodes[:3])
        assert world.clock.now_ms() - before_ms < 4 * DELTA_MS
        await trio.sleep(WORK_BURST / WORK_PER_SECOND + 1)


async def test_an_honest_pace_never_waits(world: World, mock_clock: MockClock) -> None:
    world.interval_ms = 5
    nodes = await world.start_armed()
    await world.grow(nodes[0], 50, others=nodes)
    work = nodes[0].consensus.inbox._work
    assert all(work._now_spent(f"peer{n}") < WORK_BURST / 4 for n in range(1, 4))


async def test_memory_that_was_not_asked_for_is_not_looked_at(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await trio.sleep(1)
    forged = replace(vote(world, VoteKind.NULLIFY, 9, ZERO_HASH, 0), signature=bytes(65))
    # Everybody has answered once: another answer is dropped unread, even a forged one.
    await give(world, msg.MemoryAnswer(HUGE, (forged,)))
    too_many = msg.MemoryAnswer(1, (forged,) * (MEMORY_VOTES_MAX + 1))
    assert (await refused(world, too_many)).reason == "too_much"
    assert nodes[0].core.is_armed


async def test_forged_memory_of_a_restarted_validator_costs_its_sender(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed(0, 1, 2)
    await world.grow(nodes[0], 3, others=nodes)
    world.hub.cut.add(frozenset(("peer3", "peer0")))
    late = await world.start_node("peer3", 3)
    forged = replace(vote(world, VoteKind.NULLIFY, 9, ZERO_HASH, LIAR), signature=bytes(65))
    with pytest.raises(PeerFault) as caught:
        await late.consensus.inbox.receive("peer0", encode(msg.MemoryAnswer(3, (forged,))))
    assert caught.value.penalty == 100


async def test_memory_as_large_as_it_may_be_is_taken(world: World, mock_clock: MockClock) -> None:
    await world.start_armed(0, 1, 2)
    world.hub.isolate("peer3")
    late = await world.start_node("peer3", 3)
    votes = tuple(
        vote(world, VoteKind.NULLIFY, view, ZERO_HASH, LIAR)
        for view in range(1, MEMORY_VOTES_MAX + 1)
    )
    for sender in range(3):
        answer = encode(msg.MemoryAnswer(HUGE, votes))
        await late.consensus.inbox.receive(f"peer{sender}", answer)
    assert late.core.is_armed


async def test_more_pending_than_a_message_holds_is_refused(
    world: World, mock_clock: MockClock
) -> None:
    await world.start_armed()
    large = msg.PendingMessage((bytes(PENDING_MESSAGE_BYTES_MAX + 1),))
    assert (await refused(world, large)).reason == "too_much"


async def test_a_certificate_that_brings_nothing_new_is_paid_for(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 3, others=nodes)
    # Somebody collected enough nullify votes for a view that became final all the same: nothing
    # that the core keeps, but rightly signed.
    old = encode(msg.CertificateMessage(certificate(world, VoteKind.NULLIFY, 1, ZERO_HASH)))
    work = nodes[0].consensus.inbox._work
    before = work._now_spent("peer3")
    await nodes[0].consensus.inbox.receive("peer3", old)
    assert work._now_spent("peer3") - before >= 1 + 3


async def test_nothing_is_heard_before_the_start(world: World, mock_clock: MockClock) -> None:
    node = Node(world, "peer0", 0)
    await node.open()
    try:
        message = msg.VoteMessage(vote(world, VoteKind.NULLIFY, 1, ZERO_HASH))
        await node.consensus.inbox.receive("peer3", encode(message))
        assert node.core.view == 0
        assert node.core.votes_in_view() == [()] * 4
    finally:
        node.vote_log.close()
        node.state.database.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("a defect"), BrokenInvariant),
        (StorageFault("No space left on device"), StorageFault),
    ],
)
async def test_a_step_that_fails_half_way_ends_the_node(
    world: World,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: type[Exception],
) -> None:
    """Also where a peer's stream swallowed the error; a disk's fault keeps its name."""
    await world.start_armed(1, 2, 3)
    node = Node(world, "peer0", 0)
    ended: list[BaseException] = []

    async def run() -> None:
        try:
            await node.run()
        except* told as group:
            ended.append(group)

    world.nursery.start_soon(run)
    await until(lambda: "peer0" in world.hub.nodes and node.core.is_armed)

    def broken(_vote: Vote) -> None:
        raise error

    monkeypatch.setattr(node.core, "_on_vote", broken)
    message = msg.VoteMessage(vote(world, VoteKind.NULLIFY, node.core.view, ZERO_HASH))
    with pytest.raises(type(error)):
        await node.consensus.inbox.receive("peer3", encode(message))
    await until(lambda: ended)
