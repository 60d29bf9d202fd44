"""Runs one schedule: virtual time, crashes, Byzantine validators, and the oracles over it all."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final

from omninode.consensus import effects as out
from omninode.consensus import messages as msg
from omninode.consensus.chain import FinalizedTip
from omninode.consensus.core import Core
from omninode.consensus.records import WalRecord, WalVote
from omninode.consensus.timing import Timing
from omninode.consensus.types import (
    Block,
    Certificate,
    Validator,
    ValidatorSet,
    Vote,
    VoteKind,
    genesis_header,
)
from omninode.node.simulation.chronicle import Chronicle, Tell
from omninode.node.simulation.disk import Committed, Crash
from omninode.node.simulation.epochs import EpochWorkload, Sets
from omninode.node.simulation.exchange_machine import ExchangeWorkload
from omninode.node.simulation.judge import Judge
from omninode.node.simulation.liar import Liars
from omninode.node.simulation.machines import StateMachine, Workload
from omninode.node.simulation.network import Network
from omninode.node.simulation.node import Node
from omninode.node.simulation.options import Options, Tier
from omninode.node.simulation.oracles import Violation
from omninode.node.simulation.report import Counts, Report
from omninode.node.simulation.schedule import (
    CRASH_DOWN_MS_MAX,
    DELTA_MS,
    IDLE_BLOCK_INTERVAL_MS,
    MIN_BLOCK_INTERVAL_MS,
    Byzantine,
    Profile,
    Schedule,
    draw,
)
from omninode.node.simulation.signing import GENESIS_HASH, sim_signer
from omninode.node.simulation.stories import STORIES, Story

GENESIS_MS: Final = 1_700_000_000_000
GOAL_BLOCKS: Final = 3
RECOVERY_MS_MAX: Final = 240_000
"""Virtual time after stabilisation in which everybody must finalize `GOAL_BLOCKS` more blocks."""
RECOVERY_VIEWS_MAX: Final = 120
STEPS_MAX: Final = 100_000
STEPS_PER_VIEW_MAX: Final = 100
"""Of an outage; for seven validators or fewer."""

CoreFactory = Callable[..., Core]
WORKLOADS: Final[dict[Tier, type[Workload]]] = {
    Tier.CORE: EpochWorkload,
    Tier.WHOLE: ExchangeWorkload,
}
_WORLD: Final = -1
"""The place of events that belong to no node."""
_Event = tuple[int, int, Node | None, int, str | type, Callable[..., None], tuple[Any, ...]]


class Simulator:
    """One schedule. Build it, `run` it once.

    Args:
        schedule: What the seed decided.
        workload: Where transactions and state machines come from; default the exchange.
        core_class: What a node decides with; a mutant in tests.
        node_class: The shell around it; a mutant in tests.
        check_durability: Whether to look into the disk when a vote is sent.
        steps: Inputs to cores after which the schedule ends, whatever has happened.
        tell: Is told the schedule in words.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        workload: Workload | None = None,
        core_class: CoreFactory = Core,
        node_class: type[Node] = Node,
        check_durability: bool = True,
        steps: int | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.schedule = schedule
        self.rng = schedule.rng
        self.workload = workload or ExchangeWorkload()
        self.core_class = core_class
        self.counts = Counts(byzantine=len(schedule.faults))
        self.chronicle = Chronicle(tell)
        self.validators = _validator_set(schedule)
        self.sets = Sets(self.validators, schedule.weak)
        self.workload.begin(self.sets if schedule.has_epochs else None)
        self.genesis = genesis_header(
            GENESIS_HASH,
            time_ms=GENESIS_MS,
            app_hash=self.workload.machine({}).app_hash,
            valset_hash=self.validators.hash,
        )
        self.timing = Timing(DELTA_MS, MIN_BLOCK_INTERVAL_MS, IDLE_BLOCK_INTERVAL_MS)
        self.now_ms = GENESIS_MS
        self.gst_ms = GENESIS_MS + schedule.gst_ms
        self._queue: list[_Event] = []
        self._sequence = 0
        self.steps = 0
        self._steps_asked = steps
        size = max(len(schedule.powers) ** 2, 49) / 49
        self._steps_max = int(size * (STEPS_MAX + schedule.outage_views * STEPS_PER_VIEW_MAX))
        self.raw: dict[bytes, bytes] = {}
        self.judge = Judge(
            schedule, lambda epoch: self.sets.of(epoch).powers, check_durability=check_durability
        )
        self.agreement = self.judge.agreement
        self.guards = self.judge.guards
        self._nullified: set[int] = set()
        self.nodes = [
            node_class(self, instance, is_honest=instance[0] not in schedule.faults)
            for instance in schedule.instances
        ]
        self.honest = [node for node in self.nodes if node.is_honest]
        self._lying = {i for i, fault in schedule.faults.items() if fault is Byzantine.LIAR}
        self.may_contradict = any(f is not Byzantine.SILENT for f in schedule.faults.values())
        self._liars = Liars(self)
        self._network = Network(self, schedule)
        self._story = STORIES.get(schedule.profile, Story)(self)
        self._goal: int | None = None
        self._views_at_goal = 0

    # What a node asks of its world.

    @property
    def elapsed_ms(self) -> int:
        """Virtual time since genesis."""
        return self.now_ms - GENESIS_MS

    def make_core(self, node: Node, tip: FinalizedTip | None, machine: StateMachine) -> Core:
        """Return a node's core after a (re)start, with the machine that is stored."""
        return self.core_class(
            genesis=self.genesis,
            validators=self.sets.of(machine.epoch),
            me=node.index,
            signer=sim_signer(node.index),
            timing=self.timing,
            finalized=tip,
            vote_floor_view=node.vote_floor_view,
            following=machine.following,
        )

    def later(
        self, delay_ms: int, node: Node, kind: str, function: Callable[..., None], *args: Any
    ) -> None:
        """Call a node's function after a while, unless the node crashes before."""
        self._sequence += 1
        event = (self.now_ms + delay_ms, self._sequence, node, node.incarnation, kind)
        heapq.heappush(self._queue, (*event, function, args))

    def message_later(self, delay_ms: int, peer: Node, sender: int, message: object) -> None:
        """Deliver a message after a while, if the peer is up then."""
        self._sequence += 1
        event = (self.now_ms + delay_ms, self._sequence, peer, -1, type(message))
        heapq.heappush(self._queue, (*event, self._receive, (peer, sender, message)))

    def at(self, time_ms: int, function: Callable[..., None], *args: Any) -> None:
        """Call a function at a time since genesis."""
        self._sequence += 1
        event = (GENESIS_MS + time_ms, self._sequence, None, -1, "world")
        heapq.heappush(self._queue, (*event, function, args))

    def sync_delay_ms(self) -> int:
        """Draw how long the disk takes."""
        most = self.schedule.sync_ms_max
        return self.rng.randrange(most) if most else 0

    def execute_delay_ms(self) -> int:
        """Draw how long a block takes."""
        most = self.schedule.execute_ms_max if self.now_ms < self.gst_ms else 50
        return self.rng.randrange(most)

    def round_trip_ms(self) -> int:
        """Draw how long a request takes."""
        return self.rng.randrange(4, 400)

    def pick_peer(self, node: Node, index: int | None) -> Node | None:
        """Return a peer that answers a request now, the one asked for or any."""
        able = [
            peer
            for peer in self.nodes
            if peer is not node
            and peer.is_up
            and (index is None or peer.index == index)
            and self._network.reachable(node, peer)
        ]
        return self.rng.choice(able) if able else None

    def blocks_of(self, peer: Node, start: int, count: int) -> Sequence[Committed]:
        """Return a run of a peer's final blocks above a height, as it serves them."""
        run = peer.disk.chain[start : start + count]
        return self._liars.falsify(run) if peer.index in self._lying else run

    # Network.

    def send(self, node: Node, to: int | None, message: object) -> None:
        """Send a message to one validator or to all."""
        if node.is_honest:
            self.judge.sent(node, message)
            if self.chronicle.tells:
                self._tell_sent(node, message)
        for peer in self.nodes:
            if peer.index != node.index and (to is None or peer.index == to):
                self.deliver(node, peer, message)

    def deliver(self, source: Node, peer: Node, message: object) -> None:
        """Let the network have a message."""
        if not self._story.filters or self._story.is_heard(source.index, peer, message):
            self._network.carry(source, peer, message)

    def _receive(self, peer: Node, sender: int, message: object) -> None:
        peer.receive(sender, message)
        if peer.index in self._lying and peer.is_up and self.rng.random() < 0.3:
            self._liars.lie(peer, message)

    def lose_messages(self) -> None:
        """Lose everything that is under way."""
        kept = [event for event in self._queue if not isinstance(event[4], type)]
        self.counts.lost += len(self._queue) - len(kept)
        self._queue[:] = kept
        heapq.heapify(self._queue)

    # Crashes.

    def crash_now(self, node: Node, record: WalRecord) -> Crash | None:
        """Decide whether this append is the last thing a node does."""
        schedule = self.schedule
        if self.now_ms >= self.gst_ms or not node.is_honest:
            return None
        if schedule.crash_at_append is not None:
            index, append, kind = schedule.crash_at_append
            is_it = (node.index, node.disk.appends) == (index, append)
            return kind if is_it else None
        if (
            schedule.crash_chance
            and isinstance(record, WalVote)
            and self.rng.random() < schedule.crash_chance
        ):
            if self.rng.random() < 0.5:
                return self.rng.choice(list(Crash))
            self.later(self.rng.randrange(1, 400), node, "die", self.crash, node)
        return None

    def restart_later(self, node: Node, *, down_ms_max: int = CRASH_DOWN_MS_MAX) -> None:
        """Boot a crashed node after a while."""
        self.at(self.elapsed_ms + self.rng.randrange(100, down_ms_max), node.start)

    def crash(self, node: Node, *, down_ms_max: int = CRASH_DOWN_MS_MAX) -> None:
        """Kill a node that is up, and boot it later."""
        if node.is_up:
            if node.is_honest:
                self.judge.replay(self, node)
            node.crash(self.rng.choice(list(Crash)))
            self.restart_later(node, down_ms_max=down_ms_max)

    def _crash_validator(self, index: int) -> None:
        for node in self.nodes:
            if node.index == index:
                self.crash(node)

    # What nodes report.

    def evidence(self, node: Node, first: Vote, second: Vote) -> None:
        """Judge what an honest node reports."""
        self.counts.evidence += 1
        self.judge.evidence(first, second)
        self.tell(f"reports that v{first.validator} contradicts itself in view {first.view}", node)

    def certified(self, node: Node, certificate: Certificate) -> None:
        """Take note of a certificate that a node writes."""
        if certificate.kind is VoteKind.NULLIFY and certificate.view not in self._nullified:
            self._nullified.add(certificate.view)
            self.tell(f"knows that view {certificate.view} is nullified", node)

    def final(self, node: Node, block: Block) -> None:
        """Take what an honest node calls final."""
        is_news = block.header.height not in self.agreement.blocks
        self.judge.final(node, block)
        if is_news:
            self.chronicle.fact(block.hash)
            self.counts.epochs = max(self.counts.epochs, block.header.epoch)
        self.tell(f"holds {_name(block)} for final", node)

    def executed(self, node: Node, block: Block, app_hash: bytes) -> None:
        """Take what a node executed."""
        if node.is_honest:
            self.chronicle.fact(app_hash)
            self.judge.executed(node, block, app_hash)
        else:
            self._story.executed(node, block.header.height, app_hash)

    def halted(self, node: Node, halt: out.Halt) -> None:
        """Take that a node stopped for good."""
        self.counts.halts += 1
        self.tell(f"halts: its state at height {halt.height} is not the network's", node)
        self._story.halted(node, halt)

    def tell(self, text: str, node: Node | None = None) -> None:
        """Say in words what happened, if anybody listens."""
        if self.chronicle.tells:
            seconds = f"{self.elapsed_ms // 1000}.{self.elapsed_ms % 1000:03d}"
            self.chronicle.tell(f"{seconds:>9}  {'' if node is None else node.name:<4} {text}")

    def _tell_sent(self, node: Node, message: object) -> None:
        if isinstance(message, msg.ProposalMessage):
            block = message.proposal.block
            count = len(block.transaction_ids)
            self.tell(f"proposes {_name(block)} with {count} transactions", node)
        elif isinstance(message, msg.VoteMessage):
            vote = message.vote
            what = "" if vote.kind is VoteKind.NULLIFY else f" block {vote.block_hash.hex()[:8]}"
            self.tell(f"votes to {vote.kind.name.lower()}{what} in view {vote.view}", node)

    # Running.

    def run(self) -> Report:
        """Run to the goal; raises `Violation`."""
        self._plan()
        queue, chronicle, story = self._queue, self.chronicle, self._story
        pop, watches = heapq.heappop, story.watches
        steps_max = min(self._steps_asked or self._steps_max, self._steps_max)
        while queue:
            at_ms, _, node, incarnation, kind, function, args = pop(queue)
            self.now_ms = at_ms
            if at_ms > self.gst_ms + RECOVERY_MS_MAX or self.steps >= steps_max:
                break
            if self._goal is None and at_ms >= self.gst_ms + CRASH_DOWN_MS_MAX:
                self._set_goal()
                if self.schedule.profile is Profile.OVERLOAD:
                    break
            if node is None:
                chronicle.event(at_ms, _WORLD, kind, 0)
            elif node.is_up and incarnation in {-1, node.incarnation}:
                chronicle.event(at_ms, node.place, kind, node.core.view)
            else:
                continue
            function(*args)
            self.counts.events += 1
            if watches:
                story.after_event()
            if self._goal is not None and kind == "execute" and self._is_done():
                break
        return self._finish()

    def _plan(self) -> None:
        schedule = self.schedule
        self.counts.partitions = sum(len(set(p.group.values())) > 1 for p in schedule.partitions)
        self._tell_plan()
        for node in self.nodes:
            self.at(self.rng.randrange(500), node.start)
        for at_ms, index in schedule.crash_times:
            self.at(at_ms, self._crash_validator, index)
        for number, (at_ms, index) in enumerate(schedule.transactions):
            self.at(at_ms, self._client, number, index)
        self._story.begin()

    def _tell_plan(self) -> None:
        schedule = self.schedule
        self.tell(f"a schedule about {schedule.profile.value}: powers {schedule.powers}")
        for index, fault in sorted(schedule.faults.items()):
            self.tell(f"v{index} is Byzantine: {fault.value}")
        begin_ms = 0
        for partition in schedule.partitions if self.chronicle.tells else ():
            groups: dict[int, list[str]] = {}
            for node in self.nodes:
                groups.setdefault(partition.group[node.instance], []).append(node.name)
            if len(groups) > 1:
                sides = " | ".join(" ".join(names) for names in groups.values())
                self.tell(f"from {begin_ms} to {partition.end_ms} ms apart: {sides}")
            begin_ms = partition.end_ms

    def _set_goal(self) -> None:
        """From here on everybody honest must finalize more blocks, in bounded time and views."""
        self._goal = self.agreement.height + GOAL_BLOCKS
        self._views_at_goal = max(n.core.view for n in self.honest)
        self.tell(f"the network is sound: all must reach height {self._goal}")

    def _client(self, number: int, index: int) -> None:
        """Hand in a transaction at one node, which hands it on before it says `received`."""
        transaction_id, raw = self.workload.transaction(number, self.now_ms)
        self.raw[transaction_id] = raw
        holders: set[int] = set()
        for node in self.nodes:
            is_home = node.index == index
            if (is_home or self.rng.random() >= self.schedule.loss) and node.is_up:
                node.take_transaction(transaction_id)
                holders |= {node.index} if node.is_honest else set()
        if index in holders and len(holders) > 1:
            self.counts.acknowledged += 1
            self.judge.once.acknowledge(transaction_id)
            self.tell(f"v{index} acknowledges transaction {transaction_id.hex()[:8]}")

    def _is_done(self) -> bool:
        assert self._goal is not None
        return (
            not self.judge.once.acknowledged
            and self._story.is_over()
            and all(n.is_up and n.core.executed_height >= self._goal for n in self.honest)
        )

    def _finish(self) -> Report:
        counts, schedule = self.counts, self.schedule
        counts.views = max((n.core.view for n in self.nodes if n.incarnation), default=0)
        is_cut = self._steps_asked is not None and self.steps >= self._steps_asked
        if schedule.profile is not Profile.OVERLOAD and not is_cut:
            self._check_progress()
        self.judge.convictions()
        for node in self.honest:
            node.machine.check()
            if node.is_up:
                self.judge.replay(self, node)
        counts.commits = self.agreement.height
        counts.nullified_views = len(self._nullified)
        counts.transactions = len(self.judge.once.executed)
        counts.convicted = len(self.judge.convicted)
        counts.forks = int(self.agreement.fork_at is not None)
        trace_hash = self.chronicle.hexdigest()
        return Report(schedule.seed, schedule.profile.value, counts, trace_hash)

    def _check_progress(self) -> None:
        if self._goal is None or not self._is_done():
            lost = sorted(i.hex()[:8] for i in self.judge.once.acknowledged)
            where = {
                n.name: (n.core.view, n.core.executed_height, n.core.waiting_for())
                for n in self.honest
                if n.incarnation
            }
            raise Violation(f"no progress to height {self._goal}: {where}, not executed: {lost}")
        spent = self.counts.views - self._views_at_goal
        if spent > RECOVERY_VIEWS_MAX:
            raise Violation(f"{spent} views for {GOAL_BLOCKS} blocks")


def _validator_set(schedule: Schedule) -> ValidatorSet:
    return ValidatorSet(
        0,
        tuple(
            Validator(bytes((i,)) * 20, bytes(33), b"", f"peer{i}", f"v{i}", power, power)
            for i, power in enumerate(schedule.powers)
        ),
        seed=hashlib.sha256(b"leaders of schedule %d" % schedule.number).digest(),
    )


def _name(block: Block) -> str:
    return f"block {block.hash.hex()[:8]} at height {block.header.height}"


def simulate(
    seed: int,
    options: Options | None = None,
    *,
    core_class: CoreFactory = Core,
    node_class: type[Node] = Node,
    workload: Workload | None = None,
    check_durability: bool = True,
    tell: Tell | None = None,
) -> Report:
    """Run one seed; a violation is in the report.

    Args:
        seed: Names the schedule.
        options: What the schedule is drawn from; default everything.
        core_class: See `Simulator`, as for the rest.
        node_class: See `Simulator`.
        workload: Default: what the tier says.
        check_durability: See `Simulator`.
        tell: See `Simulator`.
    """
    options = options or Options()
    schedule = draw(seed, validators=options.validators, faults=options.faults)
    simulator = Simulator(
        schedule,
        workload=workload or WORKLOADS[options.tier](),
        core_class=core_class,
        node_class=node_class,
        check_durability=check_durability,
        steps=options.steps,
        tell=tell,
    )
    try:
        return simulator.run()
    except Exception as error:  # noqa: BLE001 - whatever a node raises is what was looked for
        text = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        simulator.tell(f"VIOLATION: {text}")
        trace_hash = simulator.chronicle.hexdigest()
        return Report(seed, schedule.profile.value, simulator.counts, trace_hash, text)
