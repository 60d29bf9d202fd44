"""Runs the consensus core on trio: verified messages in, effects out, in order.

One synchronous `feed` steps the core and carries out its effects; everything that waits (disk,
peers, clocks) is a task of its own that feeds the core when it is done. So the core sees one input
after the other, always. A step that fails half-way ends the node, whoever caused it: its votes may
be signed and not written.

What it does not do: decide anything about votes (the core), execute (the ledger), or open
connections (the peers).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn, assert_never

import structlog
import trio

from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus.core import Core
from omninode.consensus.driver.bodies import Bodies
from omninode.consensus.driver.budget import Budget
from omninode.consensus.driver.inbox import Inbox
from omninode.consensus.driver.limits import (
    CERTIFICATES_UNSYNCED_MAX,
    EVIDENCE_KEPT_MAX,
    SERVED_BURST_BYTES,
    SERVED_PER_SECOND_BYTES,
)
from omninode.consensus.driver.output import Outgoing, Output, OutputQueue
from omninode.consensus.driver.proposer import Proposer
from omninode.consensus.driver.sync import BlockSync
from omninode.consensus.driver.timers import Timers
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.messages import MemoryRequest, Message
from omninode.consensus.ports import Body, Clock, Ledger, Peers, Pool, VoteLog
from omninode.consensus.records import (
    WalBlock,
    WalCertificate,
    WalRecord,
    WalVote,
    epoch_of,
)
from omninode.consensus.types import Block, Certificate, Header, ValidatorSet, Vote
from omninode.encoding import encode
from omninode.errors import BrokenInvariant, Malformed, StorageFault

log = structlog.get_logger("consensus")


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a block may hold at most (genesis): part of block validity."""

    bytes_max: int
    transactions_max: int


@dataclass(frozen=True, slots=True)
class Ports:
    """The rest of the node, as consensus sees it."""

    pool: Pool
    ledger: Ledger
    peers: Peers
    vote_log: VoteLog
    clock: Clock


@dataclass(frozen=True, slots=True)
class Halted:
    """Why this node stopped: its state differs from a finalized header's (PROTOCOL.md P5)."""

    height: int
    expected: bytes
    ours: bytes


class ConsensusService:
    """The trio side of consensus.

    Args:
        core: The core.
        genesis_hash: Bound into every digest.
        ports: The rest of the node.
        limits: Genesis limits on a block's body.
        delta_ms: Δ, the assumed bound on one message delay.
        on_halt: Called once if the node must halt.
        on_epoch: Called with the new set when another epoch has begun here.
        address: Of our vote key, by which we find ourselves in the next sets; without it only the
            core's own place in the first set counts.
    """

    def __init__(
        self,
        core: Core,
        *,
        genesis_hash: bytes,
        ports: Ports,
        limits: BodyLimits,
        delta_ms: int,
        on_halt: Callable[[Halted], None],
        on_epoch: Callable[[ValidatorSet], None] = lambda _: None,
        address: bytes | None = None,
    ) -> None:
        self.core = core
        self.halted: Halted | None = None
        self.evidence: deque[tuple[Vote, Vote]] = deque(maxlen=EVIDENCE_KEPT_MAX)
        self._ports = ports
        self._on_halt = on_halt
        self._on_epoch = on_epoch
        if address is None and core.me is not None:
            address = core.validators.validators[core.me].address
        self._address = address
        self._later_records: list[WalRecord] = []
        self._inputs: deque[into.Input] = deque()
        self._stepping = False
        self._started = False
        self._failed = trio.Event()
        self._failure: BaseException | None = None
        self._finalized: deque[out.Finalize] = deque()
        self._finalized_wake = trio.Event()
        self._certificates_unsynced = 0
        self.executed = trio.Event()
        self._timers = Timers(lambda timer: self.feed(into.TimerFired(timer)))
        self._output = OutputQueue(ports.vote_log, self._emit)
        served = Budget(per_second=SERVED_PER_SECOND_BYTES, burst=SERVED_BURST_BYTES)
        self.bodies = Bodies(self, ports, limits, served=served, delta_ms=delta_ms)
        self._proposer = Proposer(self, ports, delta_ms=delta_ms)
        self.sync = BlockSync(self, ports, genesis_hash, served=served)
        self.inbox = Inbox(self, ports, genesis_hash)

    @property
    def is_running(self) -> bool:
        """Whether the core takes part: it has started and not halted."""
        return self._started and self.halted is None

    @property
    def validators(self) -> ValidatorSet:
        """The validator set of the epoch that consensus is in."""
        return self.core.validators

    def peer_of(self, validator: int) -> str:
        """Return the peer id of a validator by index."""
        return self.validators.validators[validator].peer_id

    def peer_connected(self, peer: str) -> None:
        """A peer is (again) there: what it has and we lack is asked for."""
        if any(validator.peer_id == peer for validator in self.validators.validators):
            self.sync.request(peer)

    def feed(self, event: into.Input) -> None:
        """Step the core with one input and carry out its effects; nothing once it has halted."""
        if self.halted or self._failed.is_set():
            return
        self._inputs.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inputs and not self.halted:
                event = self._inputs.popleft()
                for effect in self.core.step(event, now_ms=self._ports.clock()):
                    self._carry_out(effect)
        except BaseException as error:
            # It goes on to whoever fed the core, who may be a peer's stream and swallow it; so it
            # is kept for the task that ends the node with it.
            self._failure = error
            self._failed.set()
            raise
        finally:
            self._stepping = False
        self._output.flush()

    async def replay(self, records: Iterable[WalRecord]) -> None:
        """Give core and bodies back what the log holds (PROTOCOL.md P7); before `run`.

        A transaction that many blocks name is checked and held once. What is of a later epoch than
        the stored chain waits until that begins.

        Raises:
            BrokenInvariant: The log holds a block that was never valid.
        """
        checked: dict[bytes, Body] = {}
        for record in records:
            if isinstance(record, WalBlock):
                block = record.block
                if block.header.height <= self.core.final_height:
                    continue
                named = zip(block.transaction_ids, record.transactions, strict=True)
                fresh = [raw for name, raw in named if name not in checked]
                try:
                    bodies = await self._ports.pool.check(fresh)
                except Malformed as error:
                    raise BrokenInvariant(f"the log holds an invalid block: {error}") from error
                checked.update((body.hash, body) for body in bodies)
                self.bodies.hold(block, [checked[name] for name in block.transaction_ids])
            if epoch_of(record) > self.core.epoch:
                self._later_records.append(record)
            else:
                self.core.replay(record)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._output.run)
            nursery.start_soon(self._execute_finalized)
            nursery.start_soon(self._timers.run)
            nursery.start_soon(self._proposer.run)
            nursery.start_soon(self.sync.run)
            nursery.start_soon(self._stop_when_failed)
            self.bodies.fetching.start(nursery)
            self._started = True
            self.feed(into.Start())
            task_status.started()
        raise AssertionError("a daemon task returned")

    async def _stop_when_failed(self) -> NoReturn:
        """End the node after a step that failed half-way, wherever its error went.

        A disk that fails is told as such: it is no defect of ours, and the operator can mend it.
        """
        await self._failed.wait()
        if isinstance(self._failure, StorageFault):
            raise self._failure
        raise BrokenInvariant("a step of consensus failed half-way") from self._failure

    def _carry_out(self, effect: out.Effect) -> None:
        match effect:
            case out.WriteVote(vote):
                self._ports.vote_log.guard(vote)
                self._ports.vote_log.append(WalVote(vote))
                self._output.written()
                self._certificates_unsynced = 0
            case out.WriteBlock(block):
                self._write_block(block)
            case out.WriteCertificate(certificate):
                self._write_certificate(certificate)
            case out.Send(to, message):
                self._push(to, message)
            case out.Finalize():
                self._output.push(effect)
            case out.SetTimer(timer, delay_ms):
                self._timers.set(timer, delay_ms)
            case out.CheckBody(block, source):
                self.bodies.check(block, source)
            case out.FetchBlock(block_hash, _, source):
                self.bodies.fetch(block_hash, source)
            case out.SyncBlocks(_, source):
                self.sync.request(None if source is None else self.peer_of(source))
            case out.BuildBlock():
                self._proposer.build(effect)
            case out.ViewEntered(view, leader, ancestors):
                self._timers.forget_before(view)
                self.bodies.give_up()
                self._proposer.view_entered(leader, ancestors)
            case out.ReportEvidence(first, second):
                self.evidence.append((first, second))
                log.warning("contradictory_votes", validator=first.validator, view=first.view)
            case out.Halt(height, expected, ours):
                self._halt(Halted(height, expected, ours))
            case _:
                assert_never(effect)

    def _push(self, to: int | None, message: Message) -> None:
        if isinstance(message, MemoryRequest):
            self.inbox.asking_for_memory(to)
        if to is None or to != self.core.me:
            self._output.push(Outgoing(None if to is None else self.peer_of(to), message))

    def _write_block(self, block: Block) -> None:
        if block.header.proposer == self.core.me:
            self.bodies.own_block(block)
        raws = tuple(body.raw for body in self.bodies.of(block))
        self._ports.vote_log.append(WalBlock(block, raws))

    def _write_certificate(self, certificate: Certificate) -> None:
        """Append a certificate; the next own vote makes it durable, or the next few hundred."""
        self._ports.vote_log.append(WalCertificate(certificate))
        self._certificates_unsynced += 1
        if self._certificates_unsynced > CERTIFICATES_UNSYNCED_MAX:
            self._output.written()
            self._certificates_unsynced = 0

    def _emit(self, output: Output) -> None:
        if isinstance(output, out.Finalize):
            self._finalized.append(output)
            self._finalized_wake.set()
            return
        if self.halted:
            return
        frame = encode(output.message)
        if output.peer is None:
            self._ports.peers.broadcast(frame)
        else:
            self._ports.peers.send(output.peer, frame)

    def _halt(self, halted: Halted) -> None:
        self.halted = halted
        self._on_halt(halted)

    async def _execute_finalized(self) -> NoReturn:
        """Execute final blocks in height order; waiting here is what makes execution lag (P3)."""
        while True:
            await self._finalized_wake.wait()
            self._finalized_wake = trio.Event()
            while self._finalized:
                final = self._finalized.popleft()
                for block in final.blocks:
                    if self.halted:
                        break
                    await self._execute(block, final)
                self.bodies.prune(final.blocks[-1].header.view)

    async def _execute(self, block: Block, final: out.Finalize) -> None:
        ledger, header = self._ports.ledger, block.header
        proof = None
        if header.seal is not None:
            proof = self._proof_of_end(header, final)
        app_hash = ledger.execute(block, self.bodies.of(block), final.certificate, proof=proof)
        next_epoch = await ledger.next_epoch()
        self.bodies.executed(block.hash)
        self.feed(into.Executed(header.height, app_hash, next_epoch))
        if proof is not None and not self.halted:
            self._begin_epoch()
        self.executed.set()
        self.executed = trio.Event()
        self._proposer.executed()
        await ledger.store()
        # A long run leaves votes, timers and peers their turn between two blocks.
        await trio.lowlevel.checkpoint()

    def _proof_of_end(self, header: Header, final: out.Finalize) -> EpochProof:
        following = self.core.following
        if following is None:
            raise BrokenInvariant(f"block {header.height} seals an epoch that was not cut")
        return EpochProof(header, final.fillers, final.certificate, following.validators)

    def _begin_epoch(self) -> None:
        """Go on in the next epoch: nothing of the old one reaches the core any more (P6)."""
        end = self.core.epoch_end
        if end is None:
            raise BrokenInvariant("an epoch ended whose sealing block is not the newest final one")
        epoch = end.validators.epoch
        me = None if self._address is None else end.validators.index_of(self._address)
        floor_view = 0 if me is None else self._ports.vote_log.floor_view(epoch)
        self._timers.clear()
        self.core.begin_epoch(me, vote_floor_view=floor_view)
        self.inbox.begin_epoch()
        self._proposer.epoch_began()
        records, self._later_records = self._later_records, []
        for record in records:
            if epoch_of(record) > epoch:
                self._later_records.append(record)
            else:
                self.core.replay(record)
        log.info("epoch_began", epoch=epoch, validators=len(end.validators.validators), me=me)
        self._on_epoch(end.validators)
        self.feed(into.Start())
