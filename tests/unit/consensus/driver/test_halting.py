"""A node whose state is not the network's stops voting, and only it does."""

from __future__ import annotations

from dataclasses import replace

import trio
from trio.testing import MockClock

from driver_world import Node, World, until
from omninode.consensus import inputs as into
from omninode.consensus.messages import MemoryRequest
from omninode.dex.outcomes import BlockInput, BlockOutcome
from omninode.encoding import encode

WRONG = b"\xee" * 32


def poison(node: Node) -> None:
    """Give a node another app hash than the others from now on, as a defect of its own would."""
    exchange = node.state.exchange
    apply = exchange.apply

    def wrong(block: BlockInput) -> BlockOutcome:
        return replace(apply(block), app_hash=WRONG)

    exchange.apply = wrong  # type: ignore[method-assign]


async def halted(world: World) -> tuple[list[Node], Node]:
    nodes = await world.start_armed()
    await world.grow(nodes[0], 3, others=nodes)
    node = nodes[3]
    poison(node)
    others = nodes[:3]
    while not node.halts:
        await world.grow(others[0], 1, others=others)
    return others, node


async def test_a_node_with_another_app_hash_halts_and_the_others_go_on(
    world: World, mock_clock: MockClock
) -> None:
    others, node = await halted(world)
    assert len(node.halts) == 1
    assert node.halts[0].ours == WRONG
    assert node.halts[0].expected == others[0].app_hash_at(node.halts[0].height)
    assert node.consensus.halted is node.halts[0]
    await world.final(await world.submit(others[0], 3), *others)
    world.agree(*others)


async def test_a_halted_node_says_nothing_and_remembers_nothing(
    world: World, mock_clock: MockClock
) -> None:
    others, node = await halted(world)
    height = node.height
    said: list[str] = []

    def watch(sender: str, _receiver: str, frame: bytes) -> bytes:
        said.append(sender)
        return frame

    world.hub.bend_frame = watch
    await trio.sleep(0.1)
    said.clear()
    asked = len(world.hub.asked)
    await world.grow(others[0], 20, others=others)
    await node.submit(world.order(7))
    await trio.sleep(5)
    assert node.name not in said
    assert all(asker != node.name for asker, _, _ in world.hub.asked[asked:])
    assert node.height == height
    assert len(node.consensus._inputs) == 0
    for _ in range(1_000):
        node.consensus.feed(into.PeerAsksMemory(0))
        await node.consensus.inbox.receive("peer0", encode(MemoryRequest()))
    assert len(node.consensus._inputs) == 0


async def test_a_halted_observer_does_not_fetch_for_ever(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    observer = await world.start_node("observer")
    poison(observer)
    while not observer.halts:
        await world.grow(nodes[0], 1, others=nodes)
    await trio.sleep(1)
    asked = len(world.hub.asked)
    await trio.sleep(10)
    assert [q for q in world.hub.asked[asked:] if q[0] == observer.name] == []


async def test_a_halted_node_stops_cleanly(world: World, mock_clock: MockClock) -> None:
    _, node = await halted(world)
    await node.stop()
    await until(lambda: node.name not in world.hub.nodes)
