"""The ledger: executes finalized blocks in order, stores each in one batch, then tells the world.

Rules
    L1. Blocks are executed once, in height order, in one synchronous call each; nothing else
        changes the state.
    L2. A block is stored (block, certificate, state, indexes, head: one batch) before anybody hears
        that it is final. Peers that lack it get it at once: they have the certificate.
    L3. Storage may lag behind execution by `BLOCKS_UNSTORED_MAX` blocks; then execution waits,
        blocks become empty (PROTOCOL.md P3, MAX_LAG) and load is refused at the door instead of
        piling up.
    L4. The garbage collector rests while a block executes: a pause in the middle would be longer
        than the block.
    L5. After the cut of an epoch nothing is executed until it is stored and a snapshot of it is
        made: the next set is decided then (P6).
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, cast

import trio

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.ports import Body, StoredRun
from omninode.consensus.types import Block, Certificate, NextEpoch
from omninode.dex.exchange import Exchange
from omninode.dex.outcomes import block_input
from omninode.dex.transaction import Transaction
from omninode.errors import StorageFault
from omninode.storage.chain import ChainStore
from omninode.storage.epochs import Epochs
from omninode.storage.records import CommittedBlock

BLOCKS_UNSTORED_MAX: Final = 64


class Execution:
    """Implements `consensus.ports.Ledger` with the exchange and the chain store.

    Args:
        exchange: The state machine, at the height of the chain store's head.
        chain: Where blocks and state are kept.
        epochs: Decides the next set when an epoch is cut.
        on_executed: Called right after a block was executed (mempool, metrics).
        on_stored: Called after a block is durable (streams, receipts).
    """

    def __init__(
        self,
        exchange: Exchange,
        chain: ChainStore,
        *,
        epochs: Epochs,
        on_executed: Callable[[CommittedBlock, Sequence[Transaction]], None],
        on_stored: Callable[[CommittedBlock], None],
    ) -> None:
        self.exchange = exchange
        self._chain = chain
        self._epochs = epochs
        self._cut_epoch: int | None = None
        self._on_executed = on_executed
        self._on_stored = on_stored
        self._unstored: deque[CommittedBlock] = deque()
        self._faulty = False
        self._arrived = trio.Event()
        self._drained = trio.Event()

    @property
    def height(self) -> int:
        """The height of the newest executed block."""
        return self.exchange.height

    def execute(
        self,
        block: Block,
        bodies: Sequence[Body],
        certificate: Certificate | None,
        *,
        proof: EpochProof | None = None,
    ) -> bytes:
        """Execute the next block (L1); returns the app hash."""
        # Consensus hands back what the pool checked, without knowing what it is.
        transactions = cast("Sequence[Transaction]", bodies)
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            outcome = self.exchange.apply(block_input(block, transactions))
        finally:
            if was_enabled:
                gc.enable()
        raws = tuple(body.raw for body in transactions)
        committed = CommittedBlock(block, raws, certificate, outcome, proof)
        if outcome.cut is not None:
            self._cut_epoch = block.header.epoch
        self._unstored.append(committed)
        self._arrived.set()
        self._on_executed(committed, transactions)
        return outcome.app_hash

    async def store(self) -> None:
        """Return at once, or when storage has caught up (L3)."""
        while len(self._unstored) >= BLOCKS_UNSTORED_MAX:
            self._drained = trio.Event()
            await self._drained.wait()

    async def next_epoch(self) -> NextEpoch | None:
        """Return what the block executed last decided about the next epoch, if it did (L5)."""
        if self._cut_epoch is None:
            return None
        epoch, self._cut_epoch = self._cut_epoch, None
        while self._unstored:
            self._drained = trio.Event()
            await self._drained.wait()
        return await self._epochs.decide(epoch)

    def epoch_proof(self, epoch: int) -> EpochProof | None:
        """Return how an epoch ended."""
        for committed in self._unstored:
            if committed.epoch_proof is not None and committed.epoch_proof.epoch == epoch:
                return committed.epoch_proof
        return self._chain.epoch_proof(epoch)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Store executed blocks, one atomic batch each (L2)."""
        task_status.started()
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            while self._unstored:
                committed = self._unstored[0]
                try:
                    await self._chain.commit(committed)
                except StorageFault:
                    self._faulty = True
                    raise
                self._unstored.popleft()
                self._drained.set()
                self._on_stored(committed)

    async def finish(self) -> None:
        """Store what is executed and not stored yet, after `run` was cancelled (a clean stop).

        After a storage fault nothing more can be stored: the fault is the node's last word.
        """
        while self._unstored and not self._faulty:
            head = self._chain.head()
            committed = self._unstored[0]
            if head is None or head.height < committed.block.header.height:
                await self._chain.commit(committed)
            self._unstored.popleft()

    def stored_block(self, block_hash: bytes) -> tuple[Block, list[bytes]] | None:
        """Return a finalized block with its transactions, if it is executed and not pruned."""
        for committed in self._unstored:
            if committed.block.hash == block_hash:
                return committed.block, list(committed.transactions)
        stored = self._chain.block_by_hash(block_hash)
        return None if stored is None else (stored.block, list(stored.transactions))

    def stored_run(self, from_height: int, *, count_max: int, bytes_max: int) -> StoredRun | None:
        """Return stored blocks of one epoch from a height on."""
        run = self._chain.blocks_for_sync(from_height, count_max=count_max, bytes_max=bytes_max)
        if run is None:
            return None
        blocks = [(s.block, s.transactions) for s in run.blocks]
        return StoredRun(blocks, run.certificate, run.fillers)
