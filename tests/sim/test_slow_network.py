"""A network that is much slower than Δ says is slow, and goes on (T3 of `consensus.timing`)."""

from __future__ import annotations

import pytest

from omninode.node.simulation import network
from omninode.node.simulation.machines import HashChainWorkload
from omninode.node.simulation.node import Node
from omninode.node.simulation.schedule import DELTA_MS, draw
from omninode.node.simulation.simulator import Simulator

DELAY_MS = 14 * DELTA_MS
"""One way. A proposal is there after 14 Δ; with the back-off alone everybody waits 8 Δ for it."""


RECOVERY_MS = 2_000_000
"""In a network so slow a view takes half a minute."""


class SlowNetwork(network.Network):
    """Every message takes the same long time."""

    def carry(self, source: Node, peer: Node, message: object) -> None:
        self._simulator.message_later(DELAY_MS, peer, source.index, message)


@pytest.mark.parametrize("number", range(3))
def test_messages_slower_than_patience_do_not_stop_it(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omninode.node.simulation.simulator.Network", SlowNetwork)
    monkeypatch.setattr("omninode.node.simulation.simulator.RECOVERY_MS_MAX", RECOVERY_MS)
    schedule = draw(number, validators=4, faults=frozenset())
    report = Simulator(schedule, workload=HashChainWorkload()).run()
    assert report.counts.commits >= 3
