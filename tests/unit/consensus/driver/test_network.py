"""Four validators in one process, with everything but sockets."""

from __future__ import annotations

from driver_world import IDLE_MS, World, until


async def test_a_transaction_becomes_final_on_all_nodes_at_once(world: World) -> None:
    nodes = await world.start()
    await until(lambda: all(node.core.is_armed for node in nodes))
    started_ms = world.clock.now_ms()
    ids = await world.submit(nodes[0], 3)
    await world.final(ids)
    assert world.clock.now_ms() - started_ms < 200
    assert world.agree() >= 1
    assert world.hub.faults == []
