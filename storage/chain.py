"""The chain and its newest state: one atomic, synced batch per final block.

Rules
    C1. Blocks are stored in height order, each linked to the one before, each with its bodies,
        results, hash parts, state changes and index entries in one batch with the new head. So
        after a crash the state in the database is exactly the state after the head.
    C2. State records are stored as the exchange names and encodes them; loading is iterating.
    C3. A run of blocks for a peer ends at a block whose own finalization certificate is stored, or
        at the end of an epoch, which has a proof.

What it does not do: judge blocks or certificates, or execute; whoever commits has done both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from msgspec.structs import replace

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.types import Block, Certificate, Header
from omninode.encoding import encode
from omninode.errors import BrokenInvariant, ConfigError, StorageFault
from omninode.storage import keys
from omninode.storage.bridge import BridgeIndex
from omninode.storage.database import Database
from omninode.storage.indexes import index_entries, kept_events
from omninode.storage.journal import Journal
from omninode.storage.limits import (
    CONTIGUOUS_CHECK_BLOCKS,
    SYNC_BLOCKS_MAX,
    SYNC_BYTES_MAX,
)
from omninode.storage.records import (
    Bodies,
    CommittedBlock,
    Events,
    Results,
    StoredBlock,
    StoredCut,
    StoredHead,
    StoredParts,
    StoredTransaction,
    SyncRun,
)
from omninode.storage.rows import decode_row

FORMAT = 3
"""Version of everything under `keys`; another one is refused."""

T = TypeVar("T")


class ChainStore:
    """The chain in an open database. Made by `open`."""

    def __init__(self, database: Database, journal: Journal, head: StoredHead | None) -> None:
        self._database = database
        self._journal = journal
        self._head = head
        self._next = head
        self._bridge = BridgeIndex(database)

    @classmethod
    def open(cls, database: Database, journal: Journal, *, genesis_hash: bytes) -> Self:
        """Open the chain of one network; the database may be empty.

        Raises:
            ConfigError: The database holds another network, or another version wrote it.
            StorageFault: A block is missing: the database lost a batch that it had promised.
        """
        store = cls(database, journal, None)
        stored_genesis = database.get(keys.META_GENESIS)
        if stored_genesis is None:
            return store
        if stored_genesis != genesis_hash:
            raise ConfigError(
                "the database belongs to another network: its genesis is "
                f"0x{stored_genesis.hex()}, the configured one is 0x{genesis_hash.hex()}",
                hint="Use the genesis file it was made with, or `omninode reset` to start anew.",
            )
        version = store._record(keys.META_FORMAT, int)
        if version != FORMAT:
            raise ConfigError(
                f"the database has format {version}, this version reads {FORMAT}",
                hint="`omninode reset` and let the node sync again.",
            )
        head = store._record(keys.HEAD, StoredHead)
        if head is None:
            raise StorageFault("the database has no head; `omninode reset` and sync again")
        store._head = store._next = head
        store._check_contiguous(head.height)
        return store

    # Writing.

    async def begin(
        self, genesis: Header, app_hash: bytes, state: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Store the state of height 0 in an empty database.

        Args:
            genesis: The genesis header.
            app_hash: The app hash of height 0.
            state: All state records of height 0.

        Raises:
            StorageFault: The disk failed or is full.
        """
        if self._next is not None:
            raise BrokenInvariant("a chain begins once")
        head = StoredHead(genesis, app_hash, None)
        batch: list[tuple[bytes, bytes | None]] = [
            (keys.STATE + key, value) for key, value in state
        ]
        batch += [
            (keys.META_FORMAT, encode(FORMAT)),
            (keys.META_GENESIS, genesis.genesis_hash),
            (keys.META_FIRST, encode(genesis.height + 1)),
            (keys.HEAD, encode(head)),
        ]
        self._next = head
        await self._database.write(batch, sync=True)
        self._head = head

    async def commit(self, committed: CommittedBlock) -> None:
        """Store the next block with everything that it changed (C1); returns when it is durable.

        Raises:
            BrokenInvariant: It is not the child of the block committed before.
            StorageFault: The disk failed or is full.
        """
        if self._database.fault is not None:
            # The block before may be the one that was not written: say that, not what follows.
            raise self._database.fault
        before = self._next
        header = committed.block.header
        if before is None or (header.height, header.parent_hash) != (
            before.height + 1,
            before.block_hash,
        ):
            raise BrokenInvariant(f"block {header.height} does not follow the stored head")
        head = StoredHead(header, committed.outcome.app_hash, committed.certificate)
        self._next = head
        batch = _block_batch(committed)
        batch += self._bridge.entries(header, committed.outcome.events)
        batch += self._journal.removals(committed.outcome.results)
        batch.append((keys.HEAD, encode(head)))
        await self._database.write(batch, sync=True)
        self._head = head

    # Reading.

    def head(self) -> StoredHead | None:
        """Return the newest durable block's head; `None` before `begin`."""
        return self._head

    @property
    def first_height(self) -> int:
        """The lowest height whose block is kept."""
        return self._record(keys.META_FIRST, int) or 1

    def first_entry(self, height: int) -> tuple[bytes, bytes]:
        """Return the entry that makes a height the lowest kept one (pruning)."""
        return keys.META_FIRST, encode(height)

    def block(self, height: int) -> Block | None:
        """Return the block at a height, unless it is pruned or not there yet."""
        return self._record(keys.BLOCK + keys.height_bytes(height), Block)

    def stored_block(self, height: int) -> StoredBlock | None:
        """Return the block at a height with its transactions."""
        block = self.block(height)
        return None if block is None else StoredBlock(block, self._bodies(block))

    def block_by_hash(self, block_hash: bytes) -> StoredBlock | None:
        """Return a stored block by its hash."""
        height = self._database.get(keys.BLOCK_HEIGHT + block_hash)
        return None if height is None else self.stored_block(int.from_bytes(height, "big"))

    def blocks(self, from_height: int, to_height: int) -> Iterator[StoredBlock]:
        """Iterate over the stored blocks of a range, both ends included, for re-execution.

        Raises:
            StorageFault: One in the middle is missing.
        """
        expected = from_height
        for _, value in self._database.iterate(
            keys.BLOCK,
            start=keys.height_bytes(from_height),
            stop=keys.height_bytes(to_height + 1),
            fill_cache=False,
        ):
            block = decode_row(value, Block)
            if block.header.height != expected:
                raise self._missing(expected)
            expected += 1
            yield StoredBlock(block, self._bodies(block))

    def certificate_at_or_after(self, height: int) -> tuple[int, Certificate] | None:
        """Return the nearest stored finalization from a height on, with its block's height."""
        for key, value in self._database.iterate(keys.CERTIFICATE, start=keys.height_bytes(height)):
            return int.from_bytes(key, "big"), decode_row(value, Certificate)
        return None

    def blocks_for_sync(
        self, from_height: int, *, count_max: int, bytes_max: int
    ) -> SyncRun | None:
        """Return a run of blocks for a peer, ending at a stored certificate (C3).

        The run stays within both bounds if a certificate lies within them, else it goes on to the
        first one. It is `None` if the height is pruned or not there, or no certificate is near.
        """
        blocks: list[StoredBlock] = []
        size = 0
        certified = 0
        certificate: bytes | None = None
        end: EpochProof | None = None
        for key, value in self._database.iterate(
            keys.BLOCK, start=keys.height_bytes(from_height), fill_cache=False
        ):
            if int.from_bytes(key, "big") != from_height + len(blocks):
                break
            bodies = self._database.get(keys.BODIES + key) or b""
            size += len(value) + len(bodies)
            if len(blocks) >= count_max or size > bytes_max:
                far = len(blocks) >= SYNC_BLOCKS_MAX or size > SYNC_BYTES_MAX
                if certificate is not None or (blocks and far):
                    break
            transactions = decode_row(bodies, Bodies) if bodies else ()
            blocks.append(StoredBlock(decode_row(value, Block), transactions))
            header = blocks[-1].block.header
            end = None if header.seal is None else self.epoch_proof(header.epoch)
            if end is not None:
                break
            found = self._database.get(keys.CERTIFICATE + key)
            if found is not None:
                certificate, certified = found, len(blocks)
        if end is not None:
            return SyncRun(tuple(blocks), end.certificate, end.fillers)
        if certificate is None:
            return None
        return SyncRun(tuple(blocks[:certified]), decode_row(certificate, Certificate))

    def epoch_cut(self, epoch: int) -> StoredCut | None:
        """Return where an epoch was cut, if it was."""
        return self._record(keys.EPOCH_CUT + keys.height_bytes(epoch), StoredCut)

    async def decide_cut(self, epoch: int, cut: StoredCut, snapshot_root: bytes) -> None:
        """Add the root of its snapshot to an epoch's cut; returns when that is durable."""
        decided = replace(cut, snapshot_root=snapshot_root)
        entry = (keys.EPOCH_CUT + keys.height_bytes(epoch), encode(decided))
        await self._database.write([entry], sync=True)

    def recent_blocks(self, epoch: int, *, count_max: int) -> tuple[Block, ...]:
        """Return the newest blocks of an epoch, ascending; what they show is not to be repeated."""
        blocks: list[Block] = []
        head = self._head
        height = 0 if head is None else head.height
        while len(blocks) < count_max:
            block = self.block(height)
            if block is None or block.header.epoch != epoch:
                break
            blocks.append(block)
            height -= 1
        return tuple(reversed(blocks))

    def epoch_proof(self, epoch: int) -> EpochProof | None:
        """Return how an epoch ended, if it has."""
        return self._record(keys.EPOCH_PROOF + keys.height_bytes(epoch), EpochProof)

    def transaction(self, transaction_hash: bytes) -> StoredTransaction | None:
        """Return an included transaction with its result."""
        place = self._database.get(keys.TRANSACTION + transaction_hash)
        return None if place is None else self.transaction_at(*keys.read_place(place))

    def transaction_at(self, height: int, index: int) -> StoredTransaction | None:
        """Return the transaction at a place, unless its block is pruned."""
        transactions = self.transactions_at(height)
        return transactions[index] if index < len(transactions) else None

    def transactions_at(self, height: int) -> list[StoredTransaction]:
        """Return a stored block's transactions with their results, in body order."""
        stored = self.stored_block(height)
        if stored is None:
            return []
        time_ms = stored.block.header.time_ms
        rows = zip(stored.transactions, self.results(height), strict=True)
        return [
            StoredTransaction(height, index, time_ms, raw, result)
            for index, (raw, result) in enumerate(rows)
        ]

    def results(self, height: int) -> Results:
        """Return the results of a stored block's transactions, in body order."""
        return self._record(keys.RESULTS + keys.height_bytes(height), Results) or ()

    def events(self, height: int) -> Events:
        """Return what happened in a stored block, without changes of price levels."""
        return self._record(keys.EVENTS + keys.height_bytes(height), Events) or ()

    def parts(self, height: int) -> StoredParts | None:
        """Return the app hash after a stored block and what it is made of."""
        return self._record(keys.PARTS + keys.height_bytes(height), StoredParts)

    def app_hashes(self, from_height: int) -> dict[int, bytes]:
        """Return the app hashes of the stored blocks from a height on."""
        return {
            int.from_bytes(key, "big"): decode_row(value, StoredParts).app_hash
            for key, value in self._database.iterate(
                keys.PARTS, start=keys.height_bytes(from_height)
            )
        }

    def state_records(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over all state records as they are now, in key order (C2)."""
        return self._database.iterate(keys.STATE, fill_cache=False)

    def _bodies(self, block: Block) -> tuple[bytes, ...]:
        if not block.transaction_ids:
            return ()
        bodies = self._record(keys.BODIES + keys.height_bytes(block.header.height), Bodies)
        if bodies is None:
            raise self._missing(block.header.height)
        return bodies

    def _check_contiguous(self, height: int) -> None:
        """Look for the newest blocks; LevelDB may skip a damaged batch of its own log."""
        expected = max(self.first_height, height - CONTIGUOUS_CHECK_BLOCKS + 1)
        for key, _ in self._database.iterate(
            keys.BLOCK, start=keys.height_bytes(expected), fill_cache=False
        ):
            if int.from_bytes(key, "big") != expected:
                raise self._missing(expected)
            expected += 1
        if expected != height + 1:
            raise self._missing(expected)

    def _record(self, key: bytes, kind: type[T]) -> T | None:
        value = self._database.get(key)
        return None if value is None else decode_row(value, kind)

    def _missing(self, height: int) -> StorageFault:
        return StorageFault(
            f"the database lost block {height}, which it had promised to keep: check the disk, "
            "then `omninode reset` and let the node sync again"
        )


def _block_batch(committed: CommittedBlock) -> list[tuple[bytes, bytes | None]]:
    block, outcome = committed.block, committed.outcome
    key = keys.height_bytes(block.header.height)
    events = kept_events(outcome.events)
    batch: list[tuple[bytes, bytes | None]] = [
        (keys.BLOCK + key, encode(block)),
        (keys.PARTS + key, encode(StoredParts(outcome.app_hash, outcome.parts))),
    ]
    if committed.transactions:
        batch.append((keys.BODIES + key, encode(committed.transactions)))
        batch.append((keys.RESULTS + key, encode(outcome.results)))
    if events:
        batch.append((keys.EVENTS + key, encode(events)))
    certificate = committed.certificate
    if certificate is not None and certificate.block_hash == block.hash:
        batch.append((keys.CERTIFICATE + key, encode(certificate)))
    if outcome.cut is not None:
        cut = StoredCut(
            outcome.cut.height, outcome.cut.state_root, outcome.cut.validators, snapshot_root=None
        )
        epoch = keys.height_bytes(block.header.epoch)
        batch.append((keys.EPOCH_CUT + epoch, encode(cut)))
    if committed.epoch_proof is not None:
        batch.append(_epoch_proof_entry(committed.epoch_proof))
    batch += index_entries(block.header, committed.transactions, outcome.results, events)
    batch += ((keys.STATE + name, value) for name, value in outcome.writes.items())
    return batch


def _epoch_proof_entry(proof: EpochProof) -> tuple[bytes, bytes]:
    return keys.EPOCH_PROOF + keys.height_bytes(proof.epoch), encode(proof)


def restored_entries(
    head: StoredHead, cut: StoredCut, proofs: Iterable[EpochProof]
) -> list[tuple[bytes, bytes]]:
    """Return what makes a restored snapshot a chain whose blocks begin after its height.

    Args:
        head: The snapshot's block, the cut of its epoch.
        cut: What it decided.
        proofs: The ends of all epochs before it.
    """
    header = head.header
    return [
        *map(_epoch_proof_entry, proofs),
        (keys.EPOCH_CUT + keys.height_bytes(header.epoch), encode(cut)),
        (keys.META_FORMAT, encode(FORMAT)),
        (keys.META_GENESIS, header.genesis_hash),
        (keys.META_FIRST, encode(header.height + 1)),
        (keys.HEAD, encode(head)),
    ]
