"""What happens once in a schedule, by its profile: beyond chance, and with its own oracle.

A story hooks into the simulator: when it begins, whether a message is heard, after every event, and
before the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.consensus import effects as out
from omninode.consensus import messages as msg
from omninode.node.simulation.disk import Crash, Disk
from omninode.node.simulation.oracles import Violation
from omninode.node.simulation.schedule import CRASH_DOWN_MS_MAX, Profile

if TYPE_CHECKING:
    from omninode.node.simulation.node import Node
    from omninode.node.simulation.simulator import Simulator

LANDED_MS = 20_000
"""After this what was sent has arrived, also the slowest duplicate."""
OLD_DISK_AGE_MS_MAX = 12_000
PROPOSED_MS_MAX = 40
SOON_MS = 600
"""All are up again after this, early enough for the same view to go on."""


class Story:
    """Nothing happens."""

    filters: bool = False
    """Whether `is_heard` has anything to say."""
    watches: bool = False
    """Whether `after_event` has anything to do."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.schedule = simulator.schedule

    def begin(self) -> None:
        """Plan what is to happen."""

    def is_heard(self, sender: int, peer: Node, message: object) -> bool:  # noqa: ARG002
        """Whether the network delivers a message at all."""
        return True

    def after_event(self) -> None:
        """Look at the world after an event."""

    def executed(self, node: Node, height: int, app_hash: bytes) -> None:
        """Take what a node executed that is not honest."""

    def halted(self, node: Node, halt: out.Halt) -> None:
        """Judge a node that stopped for good."""
        if node.is_honest:
            raise Violation(f"{node.name} halted: {halt}")

    def is_over(self) -> bool:
        """Whether the schedule may end."""
        return True

    def victims(self) -> list[Node]:
        """Return the instances of the validator that it happens to."""
        return [n for n in self.simulator.nodes if n.index == self.schedule.victim]


class LostDisk(Story):
    """Everybody crashes at once, and one disk is gone.

    In every other schedule just after the validator with that disk has proposed, and what is under
    way is lost, too: nobody remembers what it signed but its guard.
    """

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.watches = simulator.schedule.is_directed
        self._is_near = False

    def begin(self) -> None:
        """Plan the blackout."""
        assert self.schedule.blackout_ms is not None
        what = self._await_proposal if self.watches else self._blackout
        self.simulator.at(self.schedule.blackout_ms, what)

    def _await_proposal(self) -> None:
        self._is_near = True

    def after_event(self) -> None:
        """Plan the blackout as soon as the victim has proposed."""
        if not self._is_near:
            return
        simulator = self.simulator
        (node,) = self.victims()
        is_late = simulator.now_ms >= simulator.gst_ms - PROPOSED_MS_MAX
        core = node.core
        if is_late or (node.is_up and core.leader == node.index and core._state.has_voted()):
            self._is_near = False
            delay_ms = simulator.rng.randrange(1, PROPOSED_MS_MAX)
            simulator.at(simulator.elapsed_ms + (0 if is_late else delay_ms), self._blackout)

    def _blackout(self) -> None:
        simulator = self.simulator
        simulator.tell("all crash")
        if self.watches:
            simulator.lose_messages()
        for node in simulator.nodes:
            simulator.crash(node, down_ms_max=SOON_MS if self.watches else CRASH_DOWN_MS_MAX)
        for node in self.victims():
            simulator.counts.lost_disks += 1
            simulator.tell("loses its data disk", node)
            node.disk.lose()
            node.pool.clear()
            if self.schedule.is_guard_lost:
                # `omninode keys rearm`: the operator names a view that nobody has reached.
                simulator.tell("loses its signer guard, too, and is rearmed", node)
                node.disk.guard.clear()
                node.vote_floor_view = 2 + max(n.core.view for n in simulator.nodes)


class FullDisk(Story):
    """Disks can not be written for a while."""

    def begin(self) -> None:
        """Plan when."""
        for index, begin_ms, end_ms in self.schedule.full_disks:
            self.simulator.at(begin_ms, self._fill, index, True)
            self.simulator.at(end_ms, self._fill, index, False)

    def _fill(self, index: int, is_full: bool) -> None:  # noqa: FBT001 - an event's payload
        for node in self.simulator.nodes:
            if node.index == index:
                node.disk.is_full = is_full
                what = "has a full disk" if is_full else "has space on its disk again"
                self.simulator.tell(what, node)


class OldDisk(Story):
    """One node's disk is replaced by an older copy of it, guard included.

    What it has *sent* binds it: it must not sign anything else there again.
    """

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._copies: list[tuple[Node, Disk]] = []

    def begin(self) -> None:
        """Plan the copy, the crash and the return."""
        rng, schedule = self.simulator.rng, self.schedule
        for node in self.victims():
            node.disk.on_durable = None
        crash_ms = schedule.story_ms + rng.randrange(100, OLD_DISK_AGE_MS_MAX)
        self.simulator.at(schedule.story_ms, self._copy)
        self.simulator.at(crash_ms, self._crash)
        self.simulator.at(crash_ms + LANDED_MS, self._restore)

    def _copy(self) -> None:
        self._copies = [(node, node.disk.copy()) for node in self.victims()]

    def _crash(self) -> None:
        for node in self.victims():
            node.crash(Crash.CLEAN)

    def _restore(self) -> None:
        for node, disk in self._copies:
            self.simulator.counts.old_disks += 1
            self.simulator.tell("comes back with an old copy of its disk and its guard", node)
            node.disk = disk
            node.start()


class BitFlip(Story):
    """A bit of one node's state turns over: it must halt, and nobody else.

    From then on it is not honest, in that its state is not the network's.
    """

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._differing: int | None = None
        self._hashes: dict[int, bytes] = {}

    def begin(self) -> None:
        """Plan when."""
        self.simulator.at(self.schedule.story_ms, self._flip)

    def _flip(self) -> None:
        for node in self.victims():
            node.machine.flip()
            node.is_honest = False
            self.simulator.honest.remove(node)
            self.simulator.counts.flipped_bits += 1
            self.simulator.tell(f"has a bit flipped after height {node.machine.height}", node)

    def executed(self, node: Node, height: int, app_hash: bytes) -> None:
        """Remember what the flipped node makes of a block."""
        if node.index == self.schedule.victim:
            self._hashes[height] = app_hash

    def halted(self, node: Node, halt: out.Halt) -> None:
        """Judge that it was the flipped node, and for its own reason."""
        super().halted(node, halt)
        agreed = self.simulator.agreement.app_hashes.get(halt.height, halt.expected)
        if halt.ours != self._hashes.get(halt.height) or halt.expected != agreed:
            raise Violation(f"{node.name} halted with wrong hashes: {halt}")
        if halt.ours == agreed:
            raise Violation(f"{node.name} halted though its state is right: {halt}")

    def is_over(self) -> bool:
        """Whether the flipped node halted, if anything of the difference can be seen."""
        agreed = self.simulator.agreement.app_hashes
        differs = any(agreed.get(height, ours) != ours for height, ours in self._hashes.items())
        return not differs or all(node.core.halted is not None for node in self.victims())


class Outage(Story):
    """Nobody hears a proposal and one validator hears nothing, until many views are nullified.

    Then as many die as may, and the straggler's vote is needed for the first block after all that:
    it has to see for itself that every view in between was nullified.
    """

    filters = watches = True

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.is_healed = False
        self._healthy = next(n for n in simulator.nodes if n.index != self.schedule.victim)
        simulator.gst_ms = 2**62

    def is_heard(self, sender: int, peer: Node, message: object) -> bool:
        """Whether the network has healed, or the message is one that still gets through."""
        return self.is_healed or not (
            isinstance(message, msg.ProposalMessage) or self.schedule.victim in {sender, peer.index}
        )

    def after_event(self) -> None:
        """Heal once enough views are over."""
        node, simulator = self._healthy, self.simulator
        if self.is_healed or not node.is_up or node.core.view < self.schedule.outage_views:
            return
        self.is_healed = True
        simulator.counts.outages += 1
        count = len(self.schedule.powers)
        spare = [n for n in simulator.nodes if n.index != self.schedule.victim]
        for dead in spare[: (count - 1) // 3]:
            simulator.tell("dies for good", dead)
            dead.is_up = False
            simulator.honest.remove(dead)
        simulator.gst_ms = simulator.now_ms
        simulator.tell(f"the outage is over at view {node.core.view}")


class Overload(Story):
    """A third of the power or more is faulty: forks may happen, and must convict."""

    def begin(self) -> None:
        """Count the attempt."""
        self.simulator.counts.forks_attempted += 1

    def halted(self, node: Node, halt: out.Halt) -> None:
        """Who sees a fork may stop."""


STORIES: dict[Profile, type[Story]] = {
    Profile.LOST_DISK: LostDisk,
    Profile.FULL_DISK: FullDisk,
    Profile.OLD_DISK: OldDisk,
    Profile.BIT_FLIP: BitFlip,
    Profile.OUTAGE: Outage,
    Profile.OVERLOAD: Overload,
}
