"""Where epochs end: what a cut decided, the snapshot after it, and the set that is in force.

Rules (PROTOCOL.md P6)
    E1. A cut is stored in the batch of its block. Its snapshot is made of the database as it is
        right after that batch, before the next block is executed; only then is the cut *decided*.
        A crash between the two finds the head at the cut, and the snapshot is made then.
    E2. The proof of an epoch's end is stored in the batch of its sealing block, for ever. After a
        restart the newest one says whose votes count.
"""

from __future__ import annotations

import trio

from omninode.consensus.types import NextEpoch, Seal, ValidatorSet
from omninode.errors import BrokenInvariant
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.snapshot import Snapshots, snapshot_records


class Epochs:
    """Epochs of an open chain."""

    def __init__(self, database: Database, chain: ChainStore, snapshots: Snapshots) -> None:
        self._database = database
        self._chain = chain
        self._snapshots = snapshots

    def reached(self, first: ValidatorSet) -> ValidatorSet:
        """Return the set of the epoch in which the next block is (E2).

        Args:
            first: The set of genesis.

        Raises:
            BrokenInvariant: The proof that names the set is not stored.
        """
        head = self._chain.head()
        if head is None:
            return first
        epoch = head.header.epoch + (head.header.seal is not None)
        if epoch == first.epoch:
            return first
        proof = self._chain.epoch_proof(epoch - 1)
        if proof is None:
            raise BrokenInvariant(f"nothing stored says who validates in epoch {epoch}")
        return proof.validators

    def following(self, epoch: int) -> NextEpoch | None:
        """Return what the cut of an epoch decided, if it has."""
        cut = self._chain.epoch_cut(epoch)
        if cut is not None and cut.snapshot_root is not None:
            following = cut.validators
            seal = Seal(
                cut.height, following.hash, following.seed, cut.state_root, cut.snapshot_root
            )
            return NextEpoch(seal, following)
        proof = self._chain.epoch_proof(epoch)
        return None if proof is None else NextEpoch(proof.seal, proof.validators)

    async def decide(self, epoch: int) -> NextEpoch | None:
        """Return what the cut of an epoch decides, making its snapshot if need be (E1).

        Raises:
            BrokenInvariant: There are blocks after the cut and no snapshot of it.
            StorageFault: The disk failed or is full.
        """
        cut = self._chain.epoch_cut(epoch)
        if cut is not None and cut.snapshot_root is None:
            head = self._chain.head()
            if head is None or head.height != cut.height:
                raise BrokenInvariant(f"no snapshot was made of block {cut.height}")
            records = snapshot_records(self._database)
            manifest = await trio.to_thread.run_sync(self._snapshots.make, cut.height, records)
            await self._chain.decide_cut(epoch, cut, manifest.root)
        return self.following(epoch)
