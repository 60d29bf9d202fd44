"""Drops old blocks with everything that was derived from them (PROTOCOL.md P11).

Rules
    R1. The state needs no block: it is stored whole. What is dropped are blocks, bodies, results,
        events, hash parts, certificates and index entries of old heights, oldest first.
    R2. The newest `BLOCKS_KEPT_MIN` blocks stay whatever their age, and none at or above
        `keep_from_height` goes. Nothing of `bridge` goes.
    R3. A step's work is bounded and its removal one atomic batch, which need not be synced: after
        a crash it is done again.

LevelDB gives the space back when it compacts the files in question, some time later.
"""

from __future__ import annotations

from omninode.storage import keys
from omninode.storage.chain import ChainStore
from omninode.storage.database import Batch, Database
from omninode.storage.indexes import index_entries
from omninode.storage.limits import BLOCKS_KEPT_MIN, PRUNE_BLOCKS_PER_STEP, PRUNE_KEYS_PER_STEP

_OF_HEIGHT = (
    keys.BLOCK,
    keys.BODIES,
    keys.RESULTS,
    keys.EVENTS,
    keys.PARTS,
    keys.CERTIFICATE,
)


class Pruner:
    """Removes blocks older than a moment, step by step."""

    def __init__(self, database: Database, chain: ChainStore) -> None:
        self._database = database
        self._chain = chain

    async def step(self, *, before_ms: int, keep_from_height: int | None = None) -> int:
        """Remove the oldest blocks that may go, up to the bounds of one step.

        Args:
            before_ms: Blocks with a time below this are old, in block time.
            keep_from_height: The lowest height that somebody needs, a snapshot for example.

        Returns:
            How many blocks were removed; 0 when there is nothing left to do.

        Raises:
            StorageFault: The disk failed or is full.
        """
        head = self._chain.head()
        if head is None:
            return 0
        last = head.height - BLOCKS_KEPT_MIN
        if keep_from_height is not None:
            last = min(last, keep_from_height - 1)
        first = height = self._chain.first_height
        batch: list[tuple[bytes, bytes | None]] = []
        while (
            height <= last
            and height - first < PRUNE_BLOCKS_PER_STEP
            and len(batch) < PRUNE_KEYS_PER_STEP
        ):
            removal = self._removal(height, before_ms)
            if removal is None:
                break
            batch += removal
            height += 1
        if height > first:
            batch.append(self._chain.first_entry(height))
            await self._database.write(batch, sync=False)
        return height - first

    def _removal(self, height: int, before_ms: int) -> Batch | None:
        """Return what removes a block, or `None` if it is not old."""
        stored = self._chain.stored_block(height)
        if stored is None or stored.block.header.time_ms >= before_ms:
            return None
        entries = index_entries(
            stored.block.header,
            stored.transactions,
            self._chain.results(height),
            self._chain.events(height),
        )
        key = keys.height_bytes(height)
        return [
            *((column + key, None) for column in _OF_HEIGHT),
            *((entry, None) for entry, _ in entries),
        ]
