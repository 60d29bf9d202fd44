"""Four validators in one process, with everything but sockets, on virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from driver_world import DELTA_MS, IDLE_MS, Node, World, make_genesis, until
from omninode.consensus.messages import Message, PendingMessage
from omninode.encoding import decode


def leader(nodes: list[Node]) -> Node:
    return nodes[nodes[0].core.leader]


async def test_a_transaction_becomes_final_on_all_nodes_at_once(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    started_ms = world.clock.now_ms()
    ids = await world.submit(nodes[0], 3)
    await world.final(ids)
    assert world.clock.now_ms() - started_ms < 60
    assert world.agree() >= 1
    assert world.hub.faults == []


async def test_without_transactions_blocks_are_an_idle_interval_apart(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await until(lambda: min(node.height for node in nodes) >= 5)
    chain = nodes[0].state.chain
    times = [chain.block(height).header.time_ms for height in range(1, 6)]  # type: ignore[union-attr]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(abs(gap - IDLE_MS) < 20 for gap in gaps), gaps


async def test_a_transaction_ends_an_idle_wait(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    await until(lambda: min(node.height for node in nodes) >= 2)
    for _ in range(10):
        await trio.sleep(0.4)
        started_ms = world.clock.now_ms()
        await world.final(await world.submit(nodes[1]))
        assert world.clock.now_ms() - started_ms < 60


async def test_under_load_blocks_follow_at_the_shortest_interval(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    started_ms, before = world.clock.now_ms(), nodes[0].height
    ids = []
    for n in range(100):
        ids += await world.submit(nodes[n % 4])
        await trio.sleep(0.01)
    await world.final(ids)
    took_ms = world.clock.now_ms() - started_ms
    assert took_ms < 1_150
    assert nodes[0].height - before >= took_ms // (world.interval_ms + 10)
    world.agree()


async def test_a_silent_validator_does_not_stop_the_others(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start(0, 1, 2)
    for node in nodes * 3:
        await world.final(await world.submit(node))
    assert world.agree() >= 9


async def test_what_only_one_validator_holds_is_handed_to_the_leader(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    world.gossip = lambda _from, _to: False
    handed: list[tuple[str, str]] = []

    def watch(sender: str, receiver: str, frame: bytes) -> bytes:
        message: Message = decode(frame, Message, size_max=len(frame))  # type: ignore[arg-type]
        if isinstance(message, PendingMessage):
            handed.append((sender, receiver))
        return frame

    world.hub.bend_frame = watch
    other = nodes[(nodes[0].core.leader + 1) % 4]
    receiver = leader(nodes).name
    started_ms = world.clock.now_ms()
    ids = await world.submit(other)
    await world.final(ids)
    assert handed[0] == (other.name, receiver)
    assert world.clock.now_ms() - started_ms < DELTA_MS + 2 * DELTA_MS


async def test_a_backlog_is_not_handed_to_every_leader(world: World, mock_clock: MockClock) -> None:
    params = replace(world.genesis.consensus, block_transactions_max=5)
    world.use_genesis(make_genesis(consensus=params))
    nodes = await world.start_armed()
    handed = 0

    def watch(_sender: str, _receiver: str, frame: bytes) -> bytes:
        nonlocal handed
        message: Message = decode(frame, Message, size_max=len(frame))  # type: ignore[arg-type]
        if isinstance(message, PendingMessage):
            handed += len(message.transactions)
        return frame

    world.hub.bend_frame = watch
    ids = []
    for n in range(200):
        ids.append(await nodes[n % 4].submit(world.order(n % 8)))
        await trio.sleep(0.002)
    await world.final(ids)
    assert nodes[0].height >= 40
    assert handed < 100


async def test_an_observer_follows(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    observer = await world.start_node("observer")
    ids = await world.submit(nodes[0], 5)
    await world.final(ids)
    assert observer.core.me is None
    assert world.agree() == min(n.height for n in (*nodes, observer))
    assert observer.vote_log.torn_bytes == 0


async def test_what_got_lost_on_its_way_from_an_observer_is_sent_again(
    world: World, mock_clock: MockClock
) -> None:
    await world.start_armed()
    observer = await world.start_node("observer")
    world.gossip = lambda sender, _to: sender is not observer
    ids = await world.submit(observer, 3)
    await trio.sleep(0.5)
    world.gossip = lambda _from, _to: True
    await world.final(ids)
    spread = len(observer.broadcasts)
    await trio.sleep(10)
    assert len(observer.broadcasts) == spread


async def test_a_restarted_validator_goes_on(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    await world.final(await world.submit(nodes[0], 3))
    await nodes[2].stop()
    await world.final(await world.submit(nodes[0], 3))
    back = await world.start_node("peer2", 2)
    await until(lambda: back.core.is_armed)
    await nodes[0].stop()
    await world.final(await world.submit(back, 3))
    assert world.agree() >= 3


@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize("is_final", [False, True])
async def test_the_chain_goes_on_when_all_restart(
    world: World, mock_clock: MockClock, is_final: bool, crashed: bool
) -> None:
    nodes = await world.start_armed()
    ids = await world.submit(nodes[0], 20)
    if is_final:
        await world.final(ids)
    before = {node.name: node.state.chain.head() for node in nodes}
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.crash if crashed else node.stop)
    nodes = await world.start_armed()
    for node in nodes:
        head, earlier = node.state.chain.head(), before[node.name]
        assert head is not None
        assert earlier is not None
        assert head.height >= earlier.height
    ids += await world.submit(nodes[3])
    await world.final(ids)
    world.agree()
