"""A thousand nullified views, then healing (PROTOCOL.md P2): a needed straggler walks by pages."""

from __future__ import annotations

from typing import Any

from omninode.consensus import messages as msg
from omninode.consensus.limits import PAGE_VIEWS
from omninode.node.simulation.node import Node
from omninode.node.simulation.schedule import Profile, draw
from omninode.node.simulation.simulator import Simulator

VIEWS = 1_200
"""`tests/unit/consensus/test_help.py` walks ten thousand between two cores."""
STRAGGLER, DEAD = 3, 2


class Outage(Simulator):
    """Nobody hears a proposal, one validator hears nothing at all, until view `VIEWS`.

    Then another one dies: the straggler's vote is needed for the first block after all that, and it
    has to see for itself that every view in between was nullified.
    """

    def __init__(self) -> None:
        schedule = draw(1, Profile.EVERY_APPEND)
        schedule.crash_at_append = None
        schedule.gst_ms = 10**9
        schedule.skew_ms = dict.fromkeys(schedule.skew_ms, 0)
        schedule.transactions = [(0, 0)]
        schedule.sync_ms_max = 0
        super().__init__(schedule, steps_max=2_000_000)
        self.is_healed = False
        self.pages = 0
        self.certificates = 0

    def deliver(self, source: Any, sender: int, peer: Node, message: object) -> None:
        if not self.is_healed:
            if isinstance(message, msg.ProposalMessage) or STRAGGLER in (sender, peer.index):
                return
        elif peer.index == STRAGGLER:
            self.certificates += isinstance(message, msg.CertificateMessage)
        elif sender == STRAGGLER:
            self.pages += isinstance(message, msg.NeedMessage)
        self.later(self.rng.randrange(5, 50), None, "message", (peer, sender, message))

    def _dispatch(self, node: Node | None, kind: str, payload: Any) -> None:
        super()._dispatch(node, kind, payload)
        if not self.is_healed and self.nodes[0].is_up and self.nodes[0].core.view >= VIEWS:
            self.is_healed = True
            self.nodes[DEAD].is_up = False
            self.honest = [n for n in self.nodes if n.index != DEAD]
            self.gst_ms = self.now_ms
            self._set_goal()


def test_a_needed_straggler_walks_through_a_long_outage() -> None:
    outage = Outage()
    assert outage.run().views > VIEWS
    assert outage.nodes[STRAGGLER].core.final_height >= 3
    pages = -(-VIEWS // PAGE_VIEWS)
    assert pages <= outage.pages <= 3 * pages
    assert outage.certificates < 2 * VIEWS
