"""Loss, delay, cuts and crashes at random: the nodes agree, every transaction becomes final."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from driver_world import Node, World, until

ROUNDS = 12
LOSS = 0.05
RECOVERY_S = 5
"""Virtual time after the weather is good again; a second was enough in forty runs."""


class Weather:
    """What goes wrong, by chance."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.is_bad = True
        world.hub.bend_frame = self.frame
        world.hub.bend_answer = self.answer
        world.gossip = lambda _from, _to: not self.is_bad or rng.random() > 0.3

    def frame(self, _sender: str, _receiver: str, frame: bytes) -> bytes | None:
        return None if self.is_bad and self.rng.random() < LOSS else frame

    def answer(self, _asked: str, _protocol: str, answer: bytes) -> bytes | None:
        return None if self.is_bad and self.rng.random() < LOSS else answer

    async def strike(self) -> None:
        """Cut a node off, stop it or crash it, for a moment."""
        self.world.hub.delay_ms = self.rng.choice((1, 5, 20))
        peer = f"peer{self.rng.randrange(4)}"
        what = self.rng.random()
        if what < 0.3:
            self.world.hub.isolate(peer)
            await trio.sleep(self.rng.random())
            self.world.hub.join(peer)
        elif what < 0.7:
            node = self.world.hub.nodes[peer]
            await (node.crash() if self.rng.random() < 0.7 else node.stop())
            await trio.sleep(self.rng.random())
            await self.world.start_node(peer, int(peer[-1]))
        else:
            await trio.sleep(self.rng.random())


@pytest.mark.slow
@pytest.mark.parametrize("round_seed", range(3))
async def test_in_any_weather_the_nodes_agree(
    world: World, mock_clock: MockClock, seed: int, round_seed: int
) -> None:
    rng = random.Random(f"{seed} {round_seed}")
    await world.start_armed()
    weather = Weather(world, rng)
    ids: list[bytes] = []

    async def trade() -> None:
        while True:
            nodes: list[Node] = list(world.hub.nodes.values())
            ids.append(await rng.choice(nodes).submit(world.order(rng.randrange(8))))
            await trio.sleep(rng.random() * 0.05)

    for _ in range(ROUNDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trade)
            await weather.strike()
            nursery.cancel_scope.cancel()
    weather.is_bad = False
    await until(lambda: len(world.hub.nodes) == 4)
    with trio.fail_after(RECOVERY_S):
        await world.final(ids)
    world.agree()
    assert all(node.peers.penalties == [] for node in world.hub.nodes.values())
    assert world.hub.faults == []
