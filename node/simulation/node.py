"""One simulated validator: a core with the shell, disk and state machine around it.

It does what `consensus/driver` does, on the simulator's clock: an ordered output queue behind the
log, bodies, block sync, building blocks, execution.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.core import Core
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.messages import TimerId, epoch_in
from omninode.consensus.records import WalBlock, WalCertificate, WalVote, epoch_of
from omninode.consensus.types import Block, Certificate, Proposal, Vote
from omninode.consensus.verification import check_proposal_shape
from omninode.errors import PeerFault
from omninode.node.simulation.disk import Committed, Crash, Disk
from omninode.node.simulation.oracles import EvidenceDue, Violation
from omninode.node.simulation.schedule import DELTA_MS, Byzantine

if TYPE_CHECKING:
    from omninode.node.simulation.machines import StateMachine
    from omninode.node.simulation.simulator import Simulator

Instance = tuple[int, int]

TRANSACTIONS_PER_BLOCK = 20
SYNC_RUN_BLOCKS = 16
FETCH_ATTEMPTS = 12
FETCH_PAUSE_MS = 150
HINT_PAUSE_MS = 1_000


@dataclass(frozen=True, slots=True)
class PendingTransactions:
    """Handed to the leader by who waits for them (P3)."""

    ids: tuple[bytes, ...]


class Node:
    """One instance of a validator (a twin has two). `place` is its index among all instances."""

    disk_class = Disk

    def __init__(self, simulator: Simulator, instance: Instance, *, is_honest: bool) -> None:
        self.simulator = simulator
        self.instance = instance
        self.index = instance[0]
        self.place = simulator.schedule.instances.index(instance)
        self.is_honest = is_honest
        self.disk = self.disk_class(simulator.genesis.app_hash)
        if is_honest:
            self.disk.on_durable = simulator.guards[self.index].bound
        self.is_up = False
        self.incarnation = 0
        self.vote_floor_view = 0
        self.pool: dict[bytes, int] = {}
        self.skew_ms = simulator.schedule.skew_ms[instance]
        self.core: Core
        self.machine: StateMachine

    @property
    def name(self) -> str:
        """What it is called in a told schedule: a twin's copies have letters."""
        is_twin = self.simulator.schedule.faults.get(self.index) is Byzantine.TWIN
        return f"v{self.index}" + ("ab"[self.instance[1]] if is_twin else "")

    # Life and death.

    def start(self) -> None:
        """Boot from the disk: replay, then step."""
        simulator, disk = self.simulator, self.disk
        if self.incarnation:
            simulator.tell(f"restarts at height {len(disk.chain)}", self)
        self.is_up = True
        self.incarnation += 1
        self.outputs: deque[out.Send | out.Finalize] = deque()
        self.unsynced = self.syncing = False
        self.bodies: dict[bytes, Block] = {}
        self.fetching: set[bytes] = set()
        self.timers: dict[TimerId, int] = {}
        self.sync_running = False
        self.order: out.BuildBlock | None = None
        self.ancestors: tuple[bytes, ...] = ()
        self.pending_told = False
        self.due = EvidenceDue(self.index)
        self.to_execute: deque[tuple[Block, Certificate | None]] = deque()
        self.to_commit: deque[tuple[Committed, dict[bytes, bytes | None]]] = deque()
        self.machine = self.stored_machine()
        self.proofs = dict(disk.proofs)
        self.hints: dict[int, int] = {}
        self.core = simulator.make_core(self, disk.tip(), self.machine)
        records = disk.replayed()
        for record in records:
            if isinstance(record, WalBlock):
                self.bodies[record.block.hash] = record.block
            self.core.replay(record)
        self.later_records = [r for r in records if epoch_of(r) > self.core.epoch]
        self.feed(into.Start())

    def stored_machine(self) -> StateMachine:
        """Return the machine as it is on the disk."""
        return self.simulator.workload.machine(dict(self.disk.records))

    def crash(self, kind: Crash) -> None:
        """Die; the disk keeps what this kind of crash leaves."""
        simulator = self.simulator
        simulator.tell(f"crashes; of what it was writing {kind.value} is left", self)
        simulator.counts.crashes += 1
        simulator.counts.torn_logs += self.disk.crash(kind, simulator.rng)
        self.is_up = False
        self.incarnation += 1

    # The core's effects.

    def feed(self, event: into.Input) -> None:
        """Give the core an input and carry out what it says."""
        simulator = self.simulator
        simulator.steps += 1
        effects = self.core.step(event, now_ms=simulator.now_ms + self.skew_ms)
        for effect in effects:
            if not self.is_up:
                return
            self._carry_out(effect)
        if self.is_up:
            self._flush()

    def _carry_out(self, effect: out.Effect) -> None:
        match effect:
            case out.Send() | out.Finalize():
                self.outputs.append(effect)
            case out.SetTimer(timer, delay_ms):
                due_ms = self.simulator.now_ms + delay_ms
                self.timers[timer] = due_ms
                self.simulator.later(delay_ms, self, "timer", self.feed_timer, timer, due_ms)
            case out.WriteVote(vote):
                self._append(WalVote(vote))
                self.unsynced = True
            case out.WriteBlock(block):
                self.bodies[block.hash] = block
                self._append(WalBlock(block, self.transactions_of(block)))
            case out.WriteCertificate(certificate):
                self._append(WalCertificate(certificate))
                self.simulator.certified(self, certificate)
            case out.CheckBody(block, source):
                self.check_body(block, source, 0)
            case out.FetchBlock(block_hash, _, source):
                if block_hash in self.bodies:
                    self.later_feed(into.BlockArrived(self.bodies[block_hash]))
                elif block_hash not in self.fetching:
                    self.fetching.add(block_hash)
                    self.simulator.later(1, self, "fetch", self.fetch, block_hash, source, 0)
            case out.SyncBlocks():
                if not self.sync_running:
                    self.sync_running = True
                    self.simulator.later(1, self, "sync", self.sync, 0)
            case out.BuildBlock():
                self.order = effect
                self._schedule_build()
            case out.ViewEntered(view, _, ancestors):
                self.ancestors = ancestors
                self.order = None
                self.pending_told = False
                for timer in [t for t in self.timers if t.view < view]:
                    del self.timers[timer]
                if self.pool:
                    self.simulator.later(0, self, "pending", self.tell_pending)
            case out.ReportEvidence(first, second):
                self.due.reported(first)
                if self.is_honest:
                    self.simulator.evidence(self, first, second)
            case out.Halt():
                self.simulator.halted(self, effect)

    def feed_timer(self, timer: TimerId, due_ms: int) -> None:
        """Fire a timer unless it was set again since."""
        if self.timers.get(timer) == due_ms:
            del self.timers[timer]
            self.feed(into.TimerFired(timer))

    def later_feed(self, event: into.Input, delay_ms: int = 0) -> None:
        """Give the core an input after a while, unless this node crashes before."""
        self.simulator.later(delay_ms, self, "feed", self.feed, event)

    def _append(self, record: Any) -> None:
        if not self.is_up:
            return
        self.disk.append(record)
        kind = self.simulator.crash_now(self, record)
        if kind is not None:
            self.simulator.counts.crashes_in_mid_step += 1
            self.crash(kind)
            self.simulator.restart_later(self)

    def _fail_to_write(self) -> None:
        """Stop, as a node does whose disk is full; some of it may have been written."""
        self.simulator.counts.full_disks += 1
        self.simulator.tell("can not write", self)
        self.crash(Crash.TORN)
        self.simulator.restart_later(self)

    def _flush(self) -> None:
        """The ordered output queue: durable first, then out."""
        if self.syncing:
            return
        if not self.unsynced:
            self._release(len(self.outputs))
            return
        self.unsynced = False
        self.syncing = True
        covered = (len(self.outputs), len(self.disk.buffered))
        delay_ms = self.simulator.sync_delay_ms()
        if delay_ms:
            self.simulator.later(delay_ms, self, "synced", self.synced, *covered)
        else:
            self.synced(*covered)

    def synced(self, outputs: int, records: int) -> None:
        """The log is durable up to here: let out what waited for it."""
        if self.disk.is_full:
            self._fail_to_write()
            return
        self.disk.sync(records)
        self.syncing = False
        self._release(outputs)
        self._flush()

    def _release(self, count: int) -> None:
        for _ in range(count):
            output = self.outputs.popleft()
            if isinstance(output, out.Send):
                self.simulator.send(self, output.to, output.message)
            else:
                self._final(output)

    # Messages, filtered as the inbox does.

    def receive(self, sender: int, message: object) -> None:
        """Take a message from a peer, unless the core has no use for it."""
        core = self.core
        if isinstance(message, msg.EpochMessage):
            self._take_proof(message.proof)
            return
        epoch = epoch_in(message)
        if epoch is not None and epoch != core.epoch:
            self._of_another_epoch(sender, epoch)
            return
        match message:
            case msg.VoteMessage(vote):
                if core.wants_vote(vote):
                    self.saw(vote)
                    is_due = self.simulator.may_contradict and self.due.fed(vote, core)
                    self.feed(into.PeerVote(sender, vote))
                    if is_due and self.is_up and core.halted is None:
                        self.due.check(vote)
            case msg.CertificateMessage(certificate):
                if core.wants_certificate(certificate):
                    self.saw_certificate(certificate)
                    self.feed(into.PeerCertificate(sender, certificate))
            case msg.ProposalMessage(proposal):
                if core.wants_proposal(proposal) and self._is_in_shape(sender, proposal):
                    self.saw(proposal.vote)
                    parent = proposal.parent_certificate
                    if parent is not None:
                        self.saw_certificate(parent)
                    self.feed(into.PeerProposal(sender, proposal))
            case msg.NeedMessage(from_view, to_view):
                self.feed(into.PeerAsksCertificates(sender, from_view, to_view))
            case msg.MemoryRequest():
                self.feed(into.PeerAsksMemory(sender))
            case msg.MemoryAnswer(view, votes):
                self.feed(into.PeerMemory(sender, view, votes))
            case PendingTransactions(ids):
                for transaction_id in ids:
                    self.take_transaction(transaction_id)

    def _of_another_epoch(self, sender: int, epoch: int) -> None:
        """Lead who is behind, follow who is ahead; now and then."""
        now_ms = self.simulator.now_ms
        if now_ms < self.hints.get(sender, 0):
            return
        self.hints[sender] = now_ms + HINT_PAUSE_MS
        proof = self.proofs.get(epoch)
        if proof is not None:
            self.simulator.send(self, sender, msg.EpochMessage(proof))
        elif epoch > self.core.epoch and not self.sync_running:
            self.sync_running = True
            self.simulator.later(1, self, "sync", self.sync, 0)

    def _take_proof(self, proof: EpochProof) -> None:
        if proof.epoch == self.core.epoch and not self.core.is_epoch_over:
            self.saw_certificate(proof.certificate)
            self.feed(into.EpochProven(proof))

    def _is_in_shape(self, sender: int, proposal: Proposal) -> bool:
        try:
            check_proposal_shape(proposal)
        except PeerFault as fault:
            if sender in self.simulator.guards:
                raise Violation(f"honest {sender} sent an ill-formed proposal: {fault}") from None
            return False
        return True

    def saw(self, vote: Vote) -> None:
        """Tell the oracle of votes."""
        if self.is_honest:
            self.simulator.judge.saw(vote)

    def saw_certificate(self, certificate: Certificate) -> None:
        """Tell the oracle of votes."""
        if self.is_honest:
            self.simulator.judge.saw_certificate(certificate)

    # Transactions and bodies.

    def take_transaction(self, transaction_id: bytes) -> None:
        """Take a transaction that is not executed yet."""
        if transaction_id in self.pool or transaction_id in self.disk.executed:
            return
        self.pool[transaction_id] = self.simulator.now_ms
        self._schedule_build()
        self.simulator.later(DELTA_MS, self, "pending", self.tell_pending)

    def transactions_of(self, block: Block) -> tuple[bytes, ...]:
        """Return the bytes of a block, which the network holds somewhere."""
        return tuple(self.simulator.raw[i] for i in block.transaction_ids)

    def check_body(self, block: Block, source: int, attempt: int) -> None:
        """Find a block's transactions, here or at a peer."""
        ids = block.transaction_ids
        if any(i not in self.simulator.raw for i in ids):
            self.later_feed(into.BodyInvalid(block.hash))
        elif all(i in self.pool for i in ids) or block.hash in self.bodies:
            self.bodies[block.hash] = block
            self.later_feed(into.BodyReady(block.hash))
        elif attempt < FETCH_ATTEMPTS:
            peer = self.simulator.pick_peer(self, source if attempt == 0 else None)
            if peer is not None and all(
                i in peer.pool or i in peer.disk.executed or block.hash in peer.bodies for i in ids
            ):
                self.bodies[block.hash] = block
                self.later_feed(into.BodyReady(block.hash), self.simulator.round_trip_ms())
            else:
                again = (block, source, attempt + 1)
                self.simulator.later(FETCH_PAUSE_MS, self, "body", self.check_body, *again)

    def serve_block(self, block_hash: bytes) -> Block | None:
        """Return a block that this node holds."""
        block = self.bodies.get(block_hash)
        if block is None:
            found = [c.block for c in self.disk.chain if c.block.hash == block_hash]
            block = found[0] if found else None
        return block

    def fetch(self, block_hash: bytes, source: int | None, attempt: int) -> None:
        """Ask peers for a block by its hash."""
        peer = self.simulator.pick_peer(self, source if attempt == 0 else None)
        block = None if peer is None else peer.serve_block(block_hash)
        if block is not None:
            self.fetching.discard(block_hash)
            self.bodies[block_hash] = block
            self.later_feed(into.BlockArrived(block), self.simulator.round_trip_ms())
        elif attempt < FETCH_ATTEMPTS:
            again = (block_hash, source, attempt + 1)
            self.simulator.later(FETCH_PAUSE_MS, self, "fetch", self.fetch, *again)
        else:
            self.fetching.discard(block_hash)

    def sync(self, attempt: int) -> None:
        """Ask a peer for a run of final blocks."""
        start = self.core.final_height
        peer = self.simulator.pick_peer(self, None)
        run = [] if peer is None else [*self.simulator.blocks_of(peer, start, SYNC_RUN_BLOCKS)]
        run = [c for c in run if c.block.header.epoch == self.core.epoch]
        while run and run[-1].certificate is None and run[-1].proof is None:
            run.pop()
        if run and run[0].block.header.height == start + 1:
            last = run[-1]
            certificate = last.certificate if last.proof is None else last.proof.certificate
            assert certificate is not None
            for committed in run:
                self.bodies[committed.block.hash] = committed.block
            self.saw_certificate(certificate)
            blocks = [c.block for c in run]
            if last.proof is not None:
                blocks += [Block(filler, ()) for filler in last.proof.fillers]
            self.later_feed(
                into.BlocksSynced(tuple(blocks), certificate), self.simulator.round_trip_ms()
            )
            self.simulator.later(FETCH_PAUSE_MS * 3, self, "sync", self.sync, 0)
        elif attempt < FETCH_ATTEMPTS:
            self.simulator.later(FETCH_PAUSE_MS, self, "sync", self.sync, attempt + 1)
        else:
            self.sync_running = False

    # Proposing.

    def _excluded(self, ancestors: tuple[bytes, ...]) -> set[bytes]:
        blocks = (self.bodies.get(block_hash) for block_hash in ancestors)
        return {i for block in blocks if block is not None for i in block.transaction_ids}

    def _schedule_build(self) -> None:
        order = self.order
        if order is None:
            return
        excluded = self._excluded(order.ancestors)
        is_useful = order.transactions_allowed and any(i not in excluded for i in self.pool)
        due_ms = order.not_before_ms if is_useful else order.empty_at_ms
        clock_ms = self.simulator.now_ms + self.skew_ms
        self.simulator.later(max(due_ms - clock_ms, 0), self, "build", self.build, order)

    def build(self, order: out.BuildBlock) -> None:
        """Propose what waits, if the order to do so still stands."""
        if order is not self.order:
            return
        excluded = self._excluded(order.ancestors)
        ids = [i for i in self.pool if i not in excluded] if order.transactions_allowed else []
        clock_ms = self.simulator.now_ms + self.skew_ms
        if not ids and clock_ms < order.empty_at_ms:
            return
        self.order = None
        ids = ids[:TRANSACTIONS_PER_BLOCK]
        self.feed(into.BlockBuilt(order.view, order.parent.hash, tuple(ids)))

    def tell_pending(self) -> None:
        """Say once a view that a transaction has waited for Δ, and hand it to the leader."""
        if self.pending_told:
            return
        excluded = self._excluded(self.ancestors)
        limit_ms = self.simulator.now_ms - DELTA_MS
        ids = tuple(i for i, at_ms in self.pool.items() if at_ms <= limit_ms and i not in excluded)
        if ids:
            self.pending_told = True
            if self.core.leader != self.index:
                self.simulator.send(self, self.core.leader, PendingTransactions(ids))
            self.feed(into.PendingChanged(pending=True))

    # Execution.

    def _final(self, final: out.Finalize) -> None:
        for block in final.blocks:
            is_last = block is final.blocks[-1] and not final.fillers
            self.to_execute.append((block, final.certificate if is_last else None))
            if self.is_honest:
                self.simulator.final(self, block)
        self.simulator.later(self.simulator.execute_delay_ms(), self, "execute", self.execute)

    def execute(self) -> None:
        """Execute the oldest final block; a slow node takes one at a time."""
        if not self.to_execute:
            return
        block, certificate = self.to_execute.popleft()
        writes = self.machine.apply(block, self.transactions_of(block))
        app_hash = self.machine.app_hash
        height = block.header.height
        self.simulator.executed(self, block, app_hash)
        for transaction_id in block.transaction_ids:
            self.pool.pop(transaction_id, None)
        proof = None
        following = self.core.following
        if block.header.seal is not None and following is not None:
            end = self.core.final_certificate
            assert end is not None
            proof = EpochProof(block.header, self.core.fillers, end, following.validators)
        committed = Committed(block, self.transactions_of(block), certificate, app_hash, proof)
        self.to_commit.append((committed, writes))
        self.simulator.later(self.simulator.execute_delay_ms(), self, "commit", self.commit)
        if self.to_execute:
            self.simulator.later(self.simulator.execute_delay_ms(), self, "execute", self.execute)
        decided = self.machine.following if self.core.following is None else None
        self.feed(into.Executed(height, app_hash, decided))
        if proof is not None and self.is_up and self.core.halted is None:
            self._begin_epoch(proof)

    def _begin_epoch(self, proof: EpochProof) -> None:
        """Go on in the next epoch."""
        self.proofs[proof.epoch] = proof
        self.timers.clear()
        self.order = None
        self.core.begin_epoch(self.index, vote_floor_view=self.vote_floor_view)
        for record in self.later_records:
            self.core.replay(record)
        self.simulator.tell(f"begins epoch {self.core.epoch}", self)
        self.feed(into.Start())

    def commit(self) -> None:
        """Store the oldest executed block."""
        if not self.to_commit:
            return
        if self.disk.is_full:
            self._fail_to_write()
            return
        committed, writes = self.to_commit.popleft()
        self.disk.commit(committed, writes)
        self.bodies.pop(committed.block.hash, None)
        if self.simulator.rng.random() < 0.1:
            self.disk.prune()
