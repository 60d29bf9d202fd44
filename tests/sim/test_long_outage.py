"""Very many nullified views, then healing (PROTOCOL.md P2): a needed straggler walks by pages."""

from __future__ import annotations

from collections import Counter

import pytest

from omninode.consensus import messages as msg
from omninode.consensus.limits import PAGE_VIEWS
from omninode.node.simulation.machines import HashChainWorkload
from omninode.node.simulation.node import Node
from omninode.node.simulation.options import Fault
from omninode.node.simulation.schedule import (
    LONG_OUTAGE_EVERY,
    OUTAGE_VIEWS_LONG,
    Schedule,
    draw,
)
from omninode.node.simulation.simulator import Simulator


def outage(number: int) -> Schedule:
    return draw(number, validators=4, faults=frozenset({Fault.OUTAGE}))


class Counting(Simulator):
    """Counts what the straggler says and hears."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule, workload=HashChainWorkload())
        self.asked: Counter[type] = Counter()
        self.heard: Counter[type] = Counter()

    def deliver(self, source: Node, peer: Node, message: object) -> None:
        super().deliver(source, peer, message)
        victim = self.schedule.victim
        if self._story.is_heard(source.index, peer, message):
            if peer.index == victim:
                self.heard[type(message)] += 1
            elif source.index == victim:
                self.asked[type(message)] += 1


def test_a_needed_straggler_walks_through_an_outage() -> None:
    schedule = outage(0)
    schedule.outage_views = views = 1_200
    world = Counting(schedule)
    counts = world.run().counts
    assert counts.nullified_views >= views - 1
    assert counts.commits >= 3
    pages = -(-views // PAGE_VIEWS)
    assert pages <= world.asked[msg.NeedMessage] <= 3 * pages
    assert world.heard[msg.CertificateMessage] < 2 * views


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_nullified_views() -> None:
    schedule = outage(LONG_OUTAGE_EVERY - 1)
    assert schedule.outage_views == OUTAGE_VIEWS_LONG
    assert Simulator(schedule, workload=HashChainWorkload()).run().counts.views > OUTAGE_VIEWS_LONG
