"""Transactions of blocks: fetched when they are missing, judged by their bytes alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from driver_world import DELTA_MS, VOTE_KEYS, Node, World, make_genesis, until
from omninode.consensus.driver.limits import REPLY_BYTES_MAX
from omninode.consensus.driver.questions import (
    BLOCK_PROTOCOL,
    TRANSACTIONS_PROTOCOL,
    BlockReply,
    TransactionsReply,
    TransactionsRequest,
)
from omninode.consensus.messages import Message, ProposalMessage
from omninode.consensus.types import Block, Proposal, Vote, VoteKind, body_root, vote_digest
from omninode.crypto import keccak256
from omninode.encoding import decode, encode


def decoded(frame: bytes) -> Message:
    message: Message = decode(frame, Message, size_max=len(frame))  # type: ignore[arg-type]
    return message


def signed_proposal(world: World, proposal: Proposal, ids: tuple[bytes, ...]) -> bytes:
    """Return a leader's proposal with other transactions, rightly signed by it."""
    header = replace(proposal.block.header, body_root=body_root(ids))
    digest = vote_digest(
        world.genesis.hash,
        VoteKind.NOTARIZE,
        epoch=header.epoch,
        view=header.view,
        block_hash=header.hash,
    )
    signature = VOTE_KEYS[header.proposer].sign(digest)
    vote = Vote(
        VoteKind.NOTARIZE, header.epoch, header.view, header.hash, header.proposer, signature
    )
    return encode(ProposalMessage(Proposal(Block(header, ids), vote, proposal.parent_certificate)))


def leader(nodes: list[Node]) -> Node:
    return nodes[nodes[0].core.leader]


def questions(world: World, protocol: str) -> list[tuple[str, str]]:
    return [(asker, asked) for asker, asked, p in world.hub.asked if p == protocol]


async def test_what_a_leader_did_not_spread_is_fetched_from_it(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    world.gossip = lambda _from, _to: False
    proposer = leader(nodes)
    started_ms = world.clock.now_ms()
    # One: what a leader has left over it hands to the next, which is asked for it then.
    await world.final(await world.submit(proposer))
    assert world.clock.now_ms() - started_ms < 2 * DELTA_MS
    asked = questions(world, TRANSACTIONS_PROTOCOL)
    assert set(asked) == {(n.name, proposer.name) for n in nodes if n is not proposer}
    assert all(node.peers.penalties == [] for node in nodes)
    world.agree()


async def test_a_leader_that_does_not_answer_is_not_waited_for_alone(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    proposer = leader(nodes)
    lacking = next(node for node in nodes if node is not proposer)
    world.gossip = lambda _from, to: to is not lacking
    world.hub.bend_answer = lambda asked, _p, a: None if asked == proposer.name else a
    started_ms = world.clock.now_ms()
    await world.final(await world.submit(proposer))
    assert world.clock.now_ms() - started_ms < 5 * DELTA_MS


async def test_a_block_that_all_others_have_executed_is_fetched_whole(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    proposer = leader(nodes)
    late = next(node for node in nodes if node is not proposer)
    world.gossip = lambda _from, to: to is not late

    # Nobody answers it before all others have executed the block and dropped its transactions.
    world.hub.bend_answer = lambda _asked, _protocol, _answer: None
    ids = await world.submit(proposer, 3)
    others = [node for node in nodes if node is not late]
    await world.final(ids, *others)
    await until(lambda: not any(i in node.admission._pool for node in others for i in ids))
    assert late.height == 0
    world.hub.bend_answer = lambda _asked, _protocol, answer: answer
    await world.final(ids, late)
    assert (late.name, proposer.name) in questions(world, TRANSACTIONS_PROTOCOL)
    assert questions(world, BLOCK_PROTOCOL)
    assert world.agree() >= 1


@pytest.mark.parametrize(
    "garble",
    [
        lambda _reply: b"\xc1\xc1",
        lambda reply: encode(TransactionsReply(tuple(r + b"\0" for r in reply.transactions))),
        lambda reply: encode(TransactionsReply((*reply.transactions, b"unasked"))),
        lambda reply: encode(TransactionsReply(reply.transactions * 2)),
        lambda _reply: encode(TransactionsReply((b"",))),
    ],
)
async def test_a_false_answer_costs_its_sender_and_not_the_block(
    world: World, mock_clock: MockClock, garble: Callable[[TransactionsReply], bytes]
) -> None:
    nodes = await world.start_armed()
    proposer = leader(nodes)
    lacking, liar = [node for node in nodes if node is not proposer][:2]
    world.gossip = lambda _from, to: to is not lacking

    def bend(asked: str, protocol: str, answer: bytes) -> bytes | None:
        if asked == proposer.name:
            return None
        if asked != liar.name or protocol != TRANSACTIONS_PROTOCOL:
            return answer
        return garble(decode(answer, TransactionsReply, size_max=REPLY_BYTES_MAX))

    world.hub.bend_answer = bend
    await world.final(await world.submit(proposer))
    assert {peer for peer, _, _ in lacking.peers.penalties} <= {liar.name}
    invalid = [
        view
        for view in range(1, lacking.core.view)
        if (record := lacking.core._state.views.find(view)) is not None and record.invalid
    ]
    assert invalid == []


@pytest.mark.parametrize("what", ["unsigned", "malformed", "twice", "too many", "too large"])
async def test_a_block_that_can_never_be_valid_is_nullified(
    world: World, mock_clock: MockClock, what: str
) -> None:
    if what == "too large":
        params = replace(world.genesis.consensus, block_bytes_max=400)
        world.use_genesis(make_genesis(consensus=params))
    elif what == "too many":
        params = replace(world.genesis.consensus, block_transactions_max=3)
        world.use_genesis(make_genesis(consensus=params))
    nodes = await world.start_armed()
    liar = leader(nodes)
    bad_view = liar.core.view
    good = [world.order(n).raw for n in range(8)]
    raws = {
        "unsigned": (good[0][:-10] + bytes(10),),
        "malformed": (b"no transaction",),
        "twice": (good[0], good[0]),
        "too many": tuple(good),
        "too large": tuple(good[:3]),
    }[what]
    ids = tuple(keccak256(raw) for raw in raws)

    def bend_frame(sender: str, _receiver: str, frame: bytes) -> bytes:
        if sender == liar.name:
            message = decoded(frame)
            if isinstance(message, ProposalMessage) and message.proposal.vote.view == bad_view:
                return signed_proposal(world, message.proposal, ids)
        return frame

    async def serve(_peer: str, payload: bytes) -> bytes:
        request = decode(payload, TransactionsRequest, size_max=len(payload))
        return encode(TransactionsReply(tuple(r for r in raws if keccak256(r) in request.ids)))

    world.hub.bend_frame = bend_frame
    liar.handlers[TRANSACTIONS_PROTOCOL] = serve
    honest = [node for node in nodes if node is not liar]
    await world.final(await world.submit(honest[0]), *honest)
    assert all(node.core._state.views.find(bad_view).invalid for node in honest)  # type: ignore[union-attr]
    assert {
        height_block.header.view
        for height in range(1, honest[0].height + 1)
        if (height_block := honest[0].state.chain.block(height)) is not None
    }.isdisjoint({bad_view})
    world.agree(*honest)


async def test_thirty_thousand_missing_transactions_are_asked_for_in_pieces(
    world: World, mock_clock: MockClock
) -> None:
    world.use_genesis(
        make_genesis(consensus=replace(world.genesis.consensus, block_transactions_max=100_000))
    )
    nodes = await world.start_armed()
    liar = leader(nodes)
    bad_view = liar.core.view
    ids = tuple(keccak256(n.to_bytes(4, "big")) for n in range(40_000))
    sizes: list[int] = []

    def bend_frame(sender: str, _receiver: str, frame: bytes) -> bytes:
        if sender == liar.name:
            message = decoded(frame)
            if isinstance(message, ProposalMessage) and message.proposal.vote.view == bad_view:
                return signed_proposal(world, message.proposal, ids)
        return frame

    for node in nodes:

        async def serve(
            peer: str, payload: bytes, answer: object = node.handlers[TRANSACTIONS_PROTOCOL]
        ) -> bytes:
            sizes.append(len(payload))
            return await answer(peer, payload)  # type: ignore[no-any-return, operator]

        node.handlers[TRANSACTIONS_PROTOCOL] = serve
    world.hub.bend_frame = bend_frame
    honest = [node for node in nodes if node is not liar]
    await world.final(await world.submit(honest[0]), *honest)
    assert sizes
    assert max(sizes) < 1 << 20


async def test_blocks_that_nobody_has_do_not_keep_the_places_of_others(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    fetching = nodes[0].consensus.bodies.fetching
    for n in range(100):
        nodes[0].consensus.bodies.fetch(keccak256(b"nothing%d" % n), None)
    assert 50 < len(fetching._asked_in_view) <= 64
    await world.grow(nodes[1], 10, others=nodes)
    await trio.sleep(1)
    assert len(fetching._asked_in_view) == 0


async def test_a_fetched_block_must_be_the_one_asked_for(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 2, others=nodes)
    block = nodes[0].state.chain.stored_block(1)
    other = nodes[0].state.chain.stored_block(2)
    assert block is not None
    assert other is not None
    answers = iter(
        [
            encode(BlockReply(other.block, other.transactions)),
            encode(BlockReply(block.block, ())),
            b"\xc1",
        ]
    )
    world.hub.bend_answer = lambda _asked, _protocol, answer: next(answers, answer)
    bodies = nodes[0].consensus.bodies
    bodies.fetch(block.block.hash, None)
    await until(lambda: block.block.hash in bodies._held)
    assert len({peer for peer, _, _ in nodes[0].peers.penalties}) == 3


async def test_a_block_is_served_between_its_execution_and_its_storage(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    ids = await world.submit(nodes[0])
    await until(lambda: nodes[0].height == 1)
    header = nodes[0].core.final_header
    reply = decode(
        await nodes[0].consensus.bodies.serve_block("peer1", header.hash),
        BlockReply,
        size_max=REPLY_BYTES_MAX,
    )
    assert reply.block is not None
    assert reply.block.header == header
    await world.final(ids)


async def test_proposals_that_the_core_gave_up_are_not_held_for_ever(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    node = nodes[0]
    bodies = node.consensus.bodies
    head = node.core.final_header
    for n in range(200):
        header = replace(head, height=head.height + 1, view=1, time_ms=head.time_ms + n)
        bodies.hold(Block(header, ()), ())
    assert len(bodies._held) >= 200
    await world.grow(node, 80, others=nodes)
    assert len(bodies._held) < 100
