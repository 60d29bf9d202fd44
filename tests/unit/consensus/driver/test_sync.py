"""Block sync: what a node missed, and what peers may try meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from driver_world import Node, World, until
from omninode.consensus.driver.limits import SYNC_REPLY_BYTES_MAX
from omninode.consensus.driver.questions import (
    BLOCKS_PROTOCOL,
    BlocksReply,
    BlocksRequest,
)
from omninode.consensus.types import Block, VoteKind
from omninode.encoding import decode, encode

MISSED = 300


async def left_behind(world: World, blocks: int = MISSED) -> tuple[list[Node], Node]:
    """Return three validators with a chain, and a fourth that has nothing of it yet."""
    nodes = await world.start_armed(0, 1, 2)
    await world.grow(nodes[0], blocks, others=nodes[1:])
    late = await world.start_node("peer3", 3)
    return nodes, late


def runs(world: World, asker: Node) -> int:
    asked = [q for q in world.hub.asked if q[0] == asker.name and q[2] == BLOCKS_PROTOCOL]
    return len(asked)


@pytest.mark.slow
async def test_a_node_that_missed_300_blocks_gets_them_by_runs_and_votes_again(
    world: World, mock_clock: MockClock
) -> None:
    nodes, late = await left_behind(world)
    await until(lambda: late.height >= MISSED)
    assert runs(world, late) < 12
    assert late.peers.penalties == []
    assert all(node.peers.penalties == [] for node in nodes)
    await until(lambda: late.core.is_armed)
    await nodes[0].stop()
    await world.final(await world.submit(late, 3))
    assert world.agree() > MISSED
    assert not late.consensus.sync.is_behind


@pytest.mark.slow
async def test_sync_goes_on_while_the_others_trade(world: World, mock_clock: MockClock) -> None:
    nodes, late = await left_behind(world, 60)
    world.hub.delay_ms = 15
    await world.grow(nodes[0], 60, others=nodes[1:])
    await until(lambda: late.height >= 120)
    # A run that comes after the live protocol was faster is nobody's fault.
    assert late.peers.penalties == []
    world.agree()


async def test_a_node_cut_off_for_a_while_catches_up(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    world.hub.isolate("peer3")
    await world.grow(nodes[0], 40, others=nodes[1:3])
    world.hub.join("peer3")
    await until(lambda: nodes[3].height >= 40)
    await world.final(await world.submit(nodes[3]))
    world.agree()


def _sent(reply: BlocksReply, at: int, **changes: Any) -> BlocksReply:
    blocks = list(reply.blocks)
    blocks[at] = replace(blocks[at], **changes)
    return replace(reply, blocks=tuple(blocks))


def _changed_transaction(reply: BlocksReply) -> BlocksReply:
    raw = reply.blocks[0].transactions[0]
    return _sent(reply, 0, transactions=(raw[:-1] + bytes((raw[-1] ^ 1,)),))


def _changed_header(reply: BlocksReply) -> BlocksReply:
    block = reply.blocks[1].block
    header = replace(block.header, time_ms=block.header.time_ms + 1)
    return _sent(reply, 1, block=Block(header, block.transaction_ids))


def _shortened(reply: BlocksReply) -> BlocksReply:
    return replace(reply, blocks=reply.blocks[:-1])


def _unlinked(reply: BlocksReply) -> BlocksReply:
    return replace(reply, blocks=reply.blocks[1:])


def _forged_signature(reply: BlocksReply) -> BlocksReply:
    assert reply.certificate is not None
    first, *others = reply.certificate.signatures
    forged = (first[:-2] + bytes((first[-2] ^ 1, first[-1])), *others)
    return replace(reply, certificate=replace(reply.certificate, signatures=forged))


def _no_quorum(reply: BlocksReply) -> BlocksReply:
    assert reply.certificate is not None
    less = replace(
        reply.certificate,
        signers=reply.certificate.signers[:2],
        signatures=reply.certificate.signatures[:2],
    )
    return replace(reply, certificate=less)


def _notarization(reply: BlocksReply) -> BlocksReply:
    assert reply.certificate is not None
    return replace(reply, certificate=replace(reply.certificate, kind=VoteKind.NOTARIZE))


def _nothing_sent(reply: BlocksReply) -> BlocksReply:
    return _sent(reply, 0, transactions=())


@pytest.mark.parametrize(
    "tamper",
    [
        _changed_transaction,
        _changed_header,
        _shortened,
        _unlinked,
        _forged_signature,
        _no_quorum,
        _notarization,
        _nothing_sent,
    ],
)
async def test_a_peer_pays_for_a_run_that_it_bent(
    world: World, mock_clock: MockClock, tamper: Callable[[BlocksReply], BlocksReply]
) -> None:
    nodes = await world.start_armed(0, 1, 2)
    await world.grow(nodes[0], 20, others=nodes[1:])

    bent: list[str] = []

    def bend(asked: str, protocol: str, answer: bytes) -> bytes:
        if bent or protocol != BLOCKS_PROTOCOL:
            return answer
        reply = decode(answer, BlocksReply, size_max=SYNC_REPLY_BYTES_MAX)
        if not reply.blocks:
            return answer
        bent.append(asked)
        return encode(tamper(reply))

    world.hub.bend_answer = bend
    late = await world.start_node("peer3", 3)
    await until(lambda: late.height >= 20)
    assert late.peers.penalties == [(bent[0], "bad_sync_reply", 50)]
    world.agree()


async def test_a_peer_pays_for_an_answer_that_is_none(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed(0, 1, 2)
    await world.grow(nodes[0], 20, others=nodes[1:])
    world.hub.bend_answer = lambda asked, _protocol, answer: b"\xc1" if asked == "peer1" else answer
    late = await world.start_node("peer3", 3)
    late.consensus.sync.request("peer1")
    await until(lambda: late.height >= 20)
    assert {peer for peer, _, _ in late.peers.penalties} == {"peer1"}


async def test_a_peer_that_never_answers_delays_sync_once(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    world.hub.isolate("peer3")
    await world.grow(nodes[0], 40, others=nodes[:3])
    asked: list[str] = []

    def bend(peer: str, protocol: str, answer: bytes) -> bytes | None:
        if protocol != BLOCKS_PROTOCOL:
            return answer
        asked.append(peer)
        return None if peer == asked[0] else answer

    world.hub.bend_answer = bend
    world.hub.join("peer3")
    late, started_ms = nodes[3], world.clock.now_ms()
    await until(lambda: late.height >= 40)
    assert asked
    assert world.clock.now_ms() - started_ms < 1_200
    late.consensus.sync.request(None)
    asked_before = len(asked)
    await trio.sleep(0.5)
    assert asked[0] not in asked[asked_before:]


async def test_one_peer_that_answers_is_enough(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    world.hub.isolate("peer3")
    await world.grow(nodes[0], 40, others=nodes[:3])
    asked: list[str] = []

    def bend(peer: str, protocol: str, answer: bytes) -> bytes | None:
        if protocol != BLOCKS_PROTOCOL or peer == "peer3":
            return answer
        if peer not in asked:
            asked.append(peer)
        return None if peer in asked[:2] else answer

    world.hub.bend_answer = bend
    world.hub.join("peer3")
    late, started_ms = nodes[3], world.clock.now_ms()
    await until(lambda: late.height >= 40)
    assert len(asked) == 3
    assert world.clock.now_ms() - started_ms < 2_200


async def test_what_a_peer_claims_does_not_make_a_node_look_behind(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 5, others=nodes[1:])
    assert not any(node.consensus.sync.is_behind for node in nodes)
    observer = await world.start_node("observer")
    await until(lambda: observer.height >= 5)
    assert not observer.consensus.sync.is_behind


async def test_a_peer_gets_no_more_runs_than_its_credit_allows(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 10, others=nodes[1:])
    serve, question = nodes[0].consensus.sync.serve, encode(BlocksRequest(1))
    served = 0
    for _ in range(10_000):
        answer = await serve("stranger", question)
        if not decode(answer, BlocksReply, size_max=SYNC_REPLY_BYTES_MAX).blocks:
            break
        served += 1
    assert 100 < served < 10_000
    assert decode(
        await serve("another", question), BlocksReply, size_max=SYNC_REPLY_BYTES_MAX
    ).blocks
    await trio.sleep(1)
    assert decode(
        await serve("stranger", question), BlocksReply, size_max=SYNC_REPLY_BYTES_MAX
    ).blocks


async def test_an_observer_asks_one_peer_a_turn(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 3, others=nodes[1:])
    observer = await world.start_node("observer")
    await until(lambda: observer.height >= 3)
    await trio.sleep(0.5)
    world.hub.asked.clear()
    await trio.sleep(10)
    assert 30 <= runs(world, observer) <= 60


@pytest.mark.slow
async def test_executing_a_long_run_leaves_other_tasks_their_turn(
    world: World, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, late = await left_behind(world, 100)
    in_a_row = longest = 0
    execute = late.execution.execute

    def counted(*arguments: Any, **options: Any) -> bytes:
        nonlocal in_a_row, longest
        in_a_row += 1
        longest = max(longest, in_a_row)
        return execute(*arguments, **options)

    async def other_task() -> None:
        nonlocal in_a_row
        while True:
            await trio.lowlevel.checkpoint()
            in_a_row = 0

    monkeypatch.setattr(late.execution, "execute", counted)
    async with trio.open_nursery() as nursery:
        world.clock.busy += 1  # the other task never blocks, so time is moved by hand
        nursery.start_soon(other_task)
        with trio.fail_after(1_000):
            while late.height < 100:
                world.clock._clock.jump(0.001)
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    world.clock.busy -= 1
    assert 1 <= longest <= 2
