"""The network of one schedule: delays, loss, duplicates, order and partitions until it is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.node.simulation.schedule import Schedule

if TYPE_CHECKING:
    from omninode.node.simulation.node import Instance, Node
    from omninode.node.simulation.simulator import Simulator

SOUND_DELAY_MS_MAX = 400


class Network:
    """Decides what becomes of each message."""

    def __init__(self, simulator: Simulator, schedule: Schedule) -> None:
        self._simulator = simulator
        self._schedule = schedule
        self._newest_ms: dict[tuple[Instance, Instance], int] = {}

    def carry(self, source: Node, peer: Node, message: object) -> None:
        """Take a message: lose it, or deliver it late, twice or in time."""
        simulator, schedule = self._simulator, self._schedule
        rng, counts = simulator.rng, simulator.counts
        counts.messages += 1
        if simulator.now_ms >= simulator.gst_ms:
            delay_ms = rng.randrange(5, SOUND_DELAY_MS_MAX)
        else:
            if schedule.partitions and not self.reachable(source, peer):
                counts.lost += 1
                return
            if schedule.loss and rng.random() < schedule.loss:
                counts.lost += 1
                return
            delay_ms = rng.randrange(5, schedule.delay_ms_max)
            if schedule.duplicates and rng.random() < schedule.duplicates:
                counts.duplicates += 1
                late_ms = rng.randrange(5, 3 * schedule.delay_ms_max)
                simulator.message_later(late_ms, peer, source.index, message)
        if schedule.is_in_order:
            delay_ms = self._in_order(source, peer, delay_ms)
        simulator.message_later(delay_ms, peer, source.index, message)

    def reachable(self, a: Node, b: Node) -> bool:
        """Whether two instances hear one another now."""
        return self._schedule.reachable(a.instance, b.instance, self._simulator.elapsed_ms)

    def _in_order(self, source: Node, peer: Node, delay_ms: int) -> int:
        """Return a delay after which nothing sent earlier between the two is under way."""
        link, now_ms = (source.instance, peer.instance), self._simulator.now_ms
        due_ms = max(now_ms + delay_ms, self._newest_ms.get(link, 0))
        self._newest_ms[link] = due_ms
        return due_ms - now_ms
