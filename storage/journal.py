"""Transactions that this node has acknowledged and that are not final yet (PROTOCOL.md P8).

Rules
    J1. A transaction is durable here before its sender is told `received`.
    J2. It leaves in the batch of the block that holds its result, or when it has expired.
    J3. After a restart the mempool starts from what is here.

It is as large as what the mempool has acknowledged, and bounded by the mempool's own limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omninode.dex.outcomes import IGNORED, TransactionResult
from omninode.encoding import decode, encode
from omninode.errors import Malformed, StorageFault
from omninode.storage import keys
from omninode.storage.database import Batch, Database
from omninode.storage.limits import RECORD_BYTES_MAX
from omninode.storage.records import JournalEntry


class Journal:
    """The journal in an open database; `load` it once before anything is added."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, transaction_hash: object) -> bool:
        return transaction_hash in self._held

    def load(self) -> list[tuple[bytes, JournalEntry]]:
        """Return what is here by hash, oldest arrival first (J3); what the chain holds is left out.

        Raises:
            StorageFault: The disk failed or an entry is damaged.
        """
        entries = []
        for transaction_hash, value in self._database.iterate(keys.JOURNAL):
            self._held.add(transaction_hash)
            if self._database.get(keys.TRANSACTION + transaction_hash) is not None:
                continue
            try:
                entry = decode(value, JournalEntry, size_max=RECORD_BYTES_MAX)
            except Malformed as error:
                raise StorageFault(f"an entry of the journal is damaged: {error}") from error
            entries.append((transaction_hash, entry))
        entries.sort(key=lambda item: (item[1].received_ms, item[0]))
        return entries

    async def add(self, entries: Sequence[tuple[bytes, JournalEntry]]) -> None:
        """Keep transactions by hash; returns when they are durable (J1).

        Raises:
            StorageFault: The disk failed or is full.
        """
        self._held.update(transaction_hash for transaction_hash, _ in entries)
        await self._database.write(
            [
                (keys.JOURNAL + transaction_hash, encode(entry))
                for transaction_hash, entry in entries
            ],
            sync=True,
        )

    async def remove(self, hashes: Iterable[bytes]) -> None:
        """Forget expired transactions (J2); after a crash some may be back, and expire again.

        Raises:
            StorageFault: The disk failed or is full.
        """
        batch = self._forget(hashes)
        if batch:
            await self._database.write(batch, sync=False)

    def removals(self, results: Iterable[TransactionResult]) -> Batch:
        """Return what the batch of a block with these results removes from here (J2)."""
        return self._forget(result.hash for result in results if result.code != IGNORED)

    def _forget(self, hashes: Iterable[bytes]) -> list[tuple[bytes, bytes | None]]:
        gone = [transaction_hash for transaction_hash in hashes if transaction_hash in self._held]
        self._held.difference_update(gone)
        return [(keys.JOURNAL + transaction_hash, None) for transaction_hash in gone]
