"""Runs one schedule: virtual time, network, crashes, Byzantine validators, and the oracles."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omninode.consensus import effects as out
from omninode.consensus import messages as msg
from omninode.consensus.chain import FinalizedTip
from omninode.consensus.core import Core
from omninode.consensus.records import WalRecord, WalVote
from omninode.consensus.timing import Timing
from omninode.consensus.types import (
    Block,
    Validator,
    ValidatorSet,
    Vote,
    genesis_header,
)
from omninode.node.simulation.disk import Crash
from omninode.node.simulation.exchange_machine import ExchangeWorkload
from omninode.node.simulation.liar import Liars
from omninode.node.simulation.machines import Workload
from omninode.node.simulation.node import Instance, Node
from omninode.node.simulation.oracles import (
    Agreement,
    GuardModel,
    Violation,
    VoteBook,
    check_evidence,
    check_quorum,
)
from omninode.node.simulation.schedule import (
    DELTA_MS,
    IDLE_BLOCK_INTERVAL_MS,
    MIN_BLOCK_INTERVAL_MS,
    Fault,
    Profile,
    Schedule,
    draw,
)
from omninode.node.simulation.signing import GENESIS_HASH, sim_signer

GENESIS_MS = 1_700_000_000_000
GOAL_BLOCKS = 3
RECOVERY_MS_MAX = 240_000
"""Virtual time after stabilisation in which everybody must finalize `GOAL_BLOCKS` more blocks."""
RECOVERY_VIEWS_MAX = 120
CRASH_DOWN_MS_MAX = 6_000
STEPS_MAX = 100_000

CoreFactory = Callable[..., Core]


@dataclass(frozen=True, slots=True)
class Report:
    """What a schedule did."""

    seed: int
    steps: int
    crashes: int
    height: int
    views: int
    executed: int
    convicted: int
    fork: bool
    log_hash: int


class Simulator:
    """One schedule. Build it, `run` it once."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        workload: Workload | None = None,
        core_class: CoreFactory = Core,
        node_class: type[Node] = Node,
        check_durability: bool = True,
        steps_max: int = STEPS_MAX,
    ) -> None:
        self.schedule = schedule
        self.steps_max = steps_max
        self.check_durability = check_durability
        self.rng = schedule.rng
        self.workload = workload or ExchangeWorkload()
        self.core_class = core_class
        self.validators = ValidatorSet(
            0,
            tuple(
                Validator(bytes((i,)) * 20, bytes(33), b"", f"peer{i}", f"v{i}", power, power)
                for i, power in enumerate(schedule.powers)
            ),
            seed=GENESIS_HASH,
        )
        self.genesis = genesis_header(
            GENESIS_HASH,
            time_ms=GENESIS_MS,
            app_hash=self.workload.machine({}).app_hash,
            valset_hash=self.validators.hash,
        )
        self.timing = Timing(DELTA_MS, MIN_BLOCK_INTERVAL_MS, IDLE_BLOCK_INTERVAL_MS)
        self.now_ms = GENESIS_MS
        self.gst_ms = GENESIS_MS + schedule.gst_ms
        self._queue: list[tuple[int, int, Node | None, int, str, Any]] = []
        self._sequence = 0
        self.steps = self.crashes = 0
        self.log_hash = 0
        self.raw: dict[bytes, bytes] = {}
        self.agreement = Agreement()
        self.guards = {i: GuardModel(i) for i in schedule.honest}
        is_overloaded = schedule.profile is Profile.OVERLOAD
        self.book = VoteBook() if is_overloaded else None
        self.convicted: set[int] = set()
        self.nodes = [
            node_class(self, instance, is_honest=instance[0] not in schedule.faults)
            for instance in schedule.instances
        ]
        self.honest = [node for node in self.nodes if node.is_honest]
        self._lying = {i for i, fault in schedule.faults.items() if fault is Fault.LIAR}
        self._liars = Liars(self)
        self._goal: int | None = None
        self._views_at_goal = 0

    # What a node asks of its world.

    def make_core(self, node: Node, tip: FinalizedTip | None) -> Core:
        """Return a node's core after a (re)start."""
        return self.core_class(
            genesis=self.genesis,
            validators=self.validators,
            me=node.index,
            signer=sim_signer(node.index),
            timing=self.timing,
            finalized=tip,
            vote_floor_view=node.vote_floor_view,
        )

    def skew_ms(self, node: Node) -> int:
        """Return by how much a node's clock is wrong."""
        return self.schedule.skew_ms[node.instance]

    def later(self, delay_ms: int, node: Node | None, kind: str, payload: Any) -> None:
        """Queue an event; one of a node is dropped if that node crashes before."""
        self._sequence += 1
        incarnation = -1 if node is None else node.incarnation
        heapq.heappush(
            self._queue,
            (self.now_ms + delay_ms, self._sequence, node, incarnation, kind, payload),
        )

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
            and self.schedule.reachable(node.instance, peer.instance, self._elapsed_ms())
        ]
        return self.rng.choice(able) if able else None

    def is_executed(self, node: Node, transaction_id: bytes) -> bool:
        """Whether a node has stored a block with this transaction."""
        return any(transaction_id in c.block.transaction_ids for c in node.disk.chain)

    def _elapsed_ms(self) -> int:
        return self.now_ms - GENESIS_MS

    # Network.

    def send(self, node: Node, to: int | None, message: object) -> None:
        """Send a message to one validator or to all."""
        if node.is_honest:
            if isinstance(message, msg.VoteMessage):
                self._check_sent(node, message.vote)
            elif isinstance(message, msg.ProposalMessage):
                self._check_sent(node, message.proposal.vote)
            elif isinstance(message, msg.CertificateMessage):
                check_quorum(message.certificate, self.schedule.powers)
        for peer in self.nodes:
            if peer.index != node.index and (to is None or peer.index == to):
                self.deliver(node.instance, node.index, peer, message)

    def _check_sent(self, node: Node, vote: Vote) -> None:
        if vote.validator != node.index:
            raise Violation(f"{node.instance} sent a foreign vote")
        self.guards[node.index].bound(vote)
        if self.check_durability and not self._is_durable(node, vote):
            raise Violation(f"{node.instance} sent a vote that is not durable: {vote}")

    def _is_durable(self, node: Node, vote: Vote) -> bool:
        return vote in node.disk.guard.get(vote.view, ())

    def deliver(self, source: Instance, sender: int, peer: Node, message: object) -> None:
        """Let the network have a message: lost, late, twice or in time."""
        rng, schedule = self.rng, self.schedule
        delay_ms = rng.randrange(5, 400)
        if self.now_ms < self.gst_ms:
            if not schedule.reachable(source, peer.instance, self._elapsed_ms()):
                return
            if rng.random() < schedule.loss:
                return
            delay_ms = rng.randrange(5, schedule.delay_ms_max)
            if rng.random() < 0.05:
                self.later(
                    rng.randrange(5, 3 * schedule.delay_ms_max),
                    None,
                    "message",
                    (peer, sender, message),
                )
        self.later(delay_ms, None, "message", (peer, sender, message))

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
            self.later(self.rng.randrange(1, 400), node, "die", None)
        return None

    def restart_later(self, node: Node) -> None:
        """Boot a crashed node after a while."""
        self.later(self.rng.randrange(100, CRASH_DOWN_MS_MAX), None, "restart", node)

    def _crash(self, node: Node) -> None:
        if node.is_up:
            if node.is_honest:
                self.check_replay(node)
            node.crash(self.rng.choice(list(Crash)))
            self.restart_later(node)

    def _blackout(self) -> None:
        """Everybody crashes at once, and one disk is gone."""
        for node in self.nodes:
            self._crash(node)
        for node in self.nodes:
            if node.index == self.schedule.lost_disk:
                node.disk.lose()
                if self.schedule.is_guard_lost:
                    # `omninode keys rearm`: the operator names a view that nobody has reached.
                    node.disk.guard.clear()
                    node.vote_floor_view = 2 + max(n.core.view for n in self.nodes)

    # Oracles.

    def evidence(self, first: Vote, second: Vote) -> None:
        """Judge what an honest node reports."""
        check_evidence(first, second, self.guards)
        self.convicted.add(first.validator)

    def final(self, node: Node, block: Block) -> None:
        """Take what an honest node calls final."""
        self.agreement.final(block)
        if self.agreement.fork_at is not None and self.schedule.profile is not Profile.OVERLOAD:
            raise Violation(f"fork at height {self.agreement.fork_at}, node {node.instance}")

    def halted(self, node: Node, halt: out.Halt) -> None:
        """A node stops for good: nobody honest may."""
        if node.is_honest and self.schedule.profile is not Profile.OVERLOAD:
            raise Violation(f"{node.instance} halted: {halt}")

    def check_replay(self, node: Node) -> None:
        """A core rebuilt from the log knows what the live one knows."""
        rebuilt = self.make_core(node, node.disk.tip())
        for record in [*node.disk.replayed(), *node.disk.buffered]:
            rebuilt.replay(record)
        live, again = essence(node.core), essence(rebuilt)
        floor = max(node.core.final_header.view, rebuilt.final_header.view)
        for name, known in live.items():
            newer = {key: value for key, value in known.items() if key > floor}
            replayed = {key: value for key, value in again[name].items() if key > floor}
            if newer != replayed:
                raise Violation(f"{node.instance}: {name} after replay {replayed} not {newer}")

    # Running.

    def run(self) -> Report:
        """Run to the goal; raises `Violation`."""
        schedule = self.schedule
        for node in self.nodes:
            self.later(self.rng.randrange(500), None, "restart", node)
        for at_ms, index in schedule.crash_times:
            self.later(at_ms, None, "crash", index)
        for number, (at_ms, index) in enumerate(schedule.transactions):
            self.later(at_ms, None, "client", (number, index))
        if schedule.blackout_ms is not None:
            self.later(schedule.blackout_ms, None, "blackout", None)
        while self._queue:
            at_ms, _, target, incarnation, kind, payload = heapq.heappop(self._queue)
            self.now_ms = at_ms
            if at_ms > self.gst_ms + RECOVERY_MS_MAX or self.steps > self.steps_max:
                break
            if target is not None and (not target.is_up or target.incarnation != incarnation):
                continue
            if self._goal is None and at_ms >= self.gst_ms + CRASH_DOWN_MS_MAX:
                self._set_goal()
                if schedule.profile is Profile.OVERLOAD:
                    break
            self._dispatch(target, kind, payload)
            if self._goal is not None and kind == "execute" and self._is_done():
                break
        return self._report()

    def _set_goal(self) -> None:
        """From here on everybody honest must finalize more blocks, in bounded time and views."""
        self._goal = self.agreement.height + GOAL_BLOCKS
        self._views_at_goal = max(n.core.view for n in self.honest)

    def _dispatch(self, node: Node | None, kind: str, payload: Any) -> None:
        match kind:
            case "message":
                peer, sender, message = payload
                if not peer.is_up:
                    return
                self._log(peer, type(message).__name__)
                peer.receive(sender, message)
                if peer.index in self._lying and self.rng.random() < 0.3:
                    self._liars.lie(peer, message)
                return
            case "restart":
                payload.start()
                return
            case "crash":
                for target in self.nodes:
                    if target.index == payload:
                        self._crash(target)
                return
            case "client":
                self._client(*payload)
                return
            case "blackout":
                self._blackout()
                return
        assert node is not None
        self._log(node, kind)
        match kind:
            case "timer":
                node.feed_timer(*payload)
            case "feed":
                node.feed(payload)
            case "synced":
                node.synced(*payload)
            case "fetch":
                node.fetch(*payload)
            case "body":
                node._check_body(*payload)
            case "sync":
                node.sync(payload)
            case "build":
                node.build(payload)
            case "pending":
                node.tell_pending()
            case "execute":
                node.execute()
            case "commit":
                node.commit()
            case "die":
                self._crash(node)

    def _log(self, node: Node, what: str) -> None:
        line = f"{self.now_ms} {node.instance} {what} {node.core.view}"
        self.log_hash = zlib.crc32(line.encode(), self.log_hash)

    def _client(self, number: int, index: int) -> None:
        transaction_id, raw = self.workload.transaction(number, self.now_ms)
        self.raw[transaction_id] = raw
        for node in self.nodes:
            is_home = node.index == index
            if is_home or self.rng.random() >= self.schedule.loss:
                node.take_transaction(transaction_id)

    def _is_done(self) -> bool:
        assert self._goal is not None
        return all(n.is_up and n.core.executed_height >= self._goal for n in self.honest)

    def _report(self) -> Report:
        views = max((n.core.view for n in self.nodes), default=0)
        is_overload = self.schedule.profile is Profile.OVERLOAD
        if not is_overload:
            if self._goal is None or not self._is_done():
                where = {
                    n.instance: (n.core.view, n.core.executed_height, n.core.waiting_for())
                    for n in self.honest
                }
                raise Violation(f"no progress to height {self._goal}: {where}")
            spent = views - self._views_at_goal
            if spent > RECOVERY_VIEWS_MAX:
                raise Violation(f"{spent} views for {GOAL_BLOCKS} blocks")
        if self.book is not None:
            self.convicted |= self.book.convicted
            self._check_convictions()
        return Report(
            seed=self.schedule.seed,
            steps=self.steps,
            crashes=self.crashes,
            height=self.agreement.height,
            views=views,
            executed=self._check_states(),
            convicted=len(self.convicted),
            fork=self.agreement.fork_at is not None,
            log_hash=self.log_hash,
        )

    def _check_states(self) -> int:
        """Scan every honest state machine; return how many transactions the best one executed."""
        for node in self.honest:
            node.machine.check()
            if node.is_up:
                self.check_replay(node)
        return max(sum(len(c.transactions) for c in node.disk.chain) for node in self.honest)

    def _check_convictions(self) -> None:
        """Judge that a fork convicts a third of the power, all faulty, unless two thirds are."""
        assert self.book is not None
        powers, faults = self.schedule.powers, self.schedule.faults
        guilty = self.convicted
        if guilty - set(faults):
            raise Violation(f"honest convicted: {guilty - set(faults)}")
        faulty = sum(powers[i] for i in faults)
        is_fork = self.agreement.fork_at is not None and 3 * faulty < 2 * sum(powers)
        if is_fork and 3 * sum(powers[i] for i in guilty) < sum(powers):
            raise Violation(f"a fork convicts only {guilty} of {set(faults)}")


def essence(core: Core) -> dict[str, dict[int, Any]]:
    """Return what a core must remember over a restart, by view."""
    state = core._state
    records = state.views._records.items()
    own = {} if state.own is None else state.own._votes
    return {
        "own votes": {
            v: {k: vote.block_hash for k, vote in kinds.items()} for v, kinds in own.items()
        },
        "notarizations": {v: set(r.notarizations) for v, r in records if r.notarizations},
        "nullifications": {v: True for v, r in records if r.nullification is not None},
    }


def simulate(
    seed: int,
    profile: Profile = Profile.MIXED,
    *,
    workload: Workload | None = None,
    core_class: CoreFactory = Core,
    node_class: type[Node] = Node,
    check_durability: bool = True,
) -> Report:
    """Run one seed; a violation says how to run it again."""
    try:
        return Simulator(
            draw(seed, profile),
            workload=workload,
            core_class=core_class,
            node_class=node_class,
            check_durability=check_durability,
        ).run()
    except AssertionError as error:
        command = f"python -m tests.sim --profile {profile.value} --seed {seed}"
        raise Violation(f"{error}\nrun again with: {command}") from error
