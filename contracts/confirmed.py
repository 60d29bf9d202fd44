"""What is confirmed on the settlement chain, on disk: one atomic batch for each stretch of blocks.

Rules
    C1. Progress and what the blocks brought are in one batch, so that after a crash the log ends
        exactly at the block it says.
    C2. The batch is not synced for itself: what a crash takes off its end is on the chain, and is
        asked for again.
    C3. A log of another chain or contract is refused at the start; it is never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from omninode.contracts.branch import UNKNOWN_HASH, Anchor, Stretch
from omninode.contracts.events import ContractEvent, Deposited, Ledger, Withdrawn
from omninode.contracts.limits import ANCHORS_KEPT
from omninode.contracts.ports import Store
from omninode.contracts.records import (
    ANCHOR,
    CLAIMED,
    DEPOSIT,
    HALT,
    NUMBER_BYTES,
    PROGRESS,
    RECORD_BYTES_MAX,
    StoredDeposit,
    StoredProgress,
    number_key,
)
from omninode.contracts.wire import Log
from omninode.dex.bridge.deposits import Cursor, LogEntry
from omninode.dex.bridge.evm import SettlementDomain
from omninode.encoding import decode, encode
from omninode.errors import ConfigError, Malformed, StorageFault

T = TypeVar("T")


class ConfirmedLog:
    """The confirmed part of one contract's log.

    Args:
        store: The database.
        column: The byte all keys begin with.
        domain: The contract.
        start_block: The first block that can hold its logs.

    Attributes:
        base: The newest confirmed block.
        ledger: What the events up to it add up to.
        halt: Why the node had halted, or empty.

    Raises:
        ConfigError: The stored log is another contract's (C3).
        StorageFault: The disk failed, or a record is damaged.
    """

    def __init__(
        self, store: Store, *, column: bytes, domain: SettlementDomain, start_block: int
    ) -> None:
        self._store = store
        self._column = column
        self._domain = domain
        self.base, self.ledger = self._load(start_block)
        halt = store.get(column + HALT)
        self.halt = "" if halt is None else halt.decode(errors="replace")

    @property
    def has_progress(self) -> bool:
        """Whether any block is confirmed."""
        return self.base.hash != UNKNOWN_HASH

    def _load(self, start_block: int) -> tuple[Anchor, Ledger]:
        domain = self._domain
        stored = self._store.get(self._column + PROGRESS)
        if stored is None:
            # Nothing is known of the block below the first, unless there is none.
            below = Anchor(start_block - 1, UNKNOWN_HASH)
            return below, Ledger(Cursor(0, domain.genesis_hash))
        progress = _read(stored, StoredProgress)
        if (progress.chain_id, progress.contract) != (domain.chain_id, domain.contract):
            raise ConfigError(
                "the stored settlement log is of another contract than genesis names",
                hint="`omninode reset` removes it, and the node reads the chain again",
            )
        cursor = Cursor(progress.deposit_count, progress.deposit_hash)
        ledger = Ledger(cursor, progress.checkpoint, progress.epoch)
        return Anchor(progress.number, progress.hash), ledger

    async def commit(
        self, stretch: Stretch, events: Sequence[tuple[Log, ContractEvent]], ledger: Ledger
    ) -> None:
        """Store confirmed blocks (C1).

        Args:
            stretch: The blocks.
            events: The contract's events in them.
            ledger: What all events add up to afterwards.

        Raises:
            StorageFault: The disk failed.
        """
        domain, last = self._domain, stretch.last
        progress = StoredProgress(
            domain.chain_id,
            domain.contract,
            last.number,
            last.hash,
            ledger.deposits.count,
            ledger.deposits.hash,
            ledger.checkpoint,
            ledger.epoch,
        )
        batch: list[tuple[bytes, bytes | None]] = [
            (self._column + PROGRESS, encode(progress)),
            (self._key(ANCHOR, last.number), last.hash),
        ]
        batch += self._stale_anchors(last.number)
        for log, event in events:
            match event:
                case Deposited():
                    record = StoredDeposit(
                        event.deposit, event.hash, log.block_number, log.transaction_hash
                    )
                    batch.append((self._key(DEPOSIT, event.index), encode(record)))
                case Withdrawn():
                    batch.append((self._key(CLAIMED, event.index), b""))
                case _:
                    pass
        await self._store.write(batch, sync=False)
        self.base, self.ledger = last, ledger

    async def set_halt(self, why: str) -> None:
        """Keep why the node halts, for the next start; empty when it goes on.

        Raises:
            StorageFault: The disk failed.
        """
        self.halt = why
        await self._store.write([(self._column + HALT, why.encode() or None)], sync=True)

    def deposit_hash(self, count: int) -> bytes | None:
        """Return the rolling hash over the first `count` deposits, if so many are confirmed."""
        if count == 0:
            return self._domain.genesis_hash
        if count == self.ledger.deposits.count:
            return self.ledger.deposits.hash
        stored = self._store.get(self._key(DEPOSIT, count - 1))
        return None if stored is None else _read(stored, StoredDeposit).hash

    def deposits(self, first: int, last: int) -> tuple[LogEntry, ...]:
        """Return the confirmed deposits from index `first` to below `last`."""
        rows = self._store.iterate(
            self._column + DEPOSIT,
            start=first.to_bytes(NUMBER_BYTES, "big"),
            stop=last.to_bytes(NUMBER_BYTES, "big"),
        )
        return tuple(_read(value, StoredDeposit).deposit for _, value in rows)

    def is_claimed(self, index: int) -> bool:
        """Whether a withdrawal was paid out in a confirmed block."""
        return self._store.get(self._key(CLAIMED, index)) is not None

    def anchors(self) -> list[Anchor]:
        """Return the newest confirmed blocks whose hashes are kept, highest first."""
        rows = self._store.iterate(self._column + ANCHOR)
        found = [Anchor(int.from_bytes(key, "big"), value) for key, value in rows]
        return found[::-1]

    def _stale_anchors(self, newest: int) -> list[tuple[bytes, bytes | None]]:
        """Return the deletion of the anchor that falls out of those kept."""
        if newest % ANCHORS_KEPT:
            return []
        lowest = max(newest - ANCHORS_KEPT, 0).to_bytes(NUMBER_BYTES, "big")
        rows = self._store.iterate(self._column + ANCHOR, stop=lowest)
        return [(self._column + ANCHOR + key, None) for key, _ in rows]

    def _key(self, kind: bytes, number: int) -> bytes:
        return self._column + number_key(kind, number)


def _read(data: bytes, kind: type[T]) -> T:
    try:
        return decode(data, kind, size_max=RECORD_BYTES_MAX)
    except Malformed as error:
        raise StorageFault(
            f"the stored settlement log is damaged: {error}. Check the disk, then `omninode reset` "
            "and let the node read the chain again"
        ) from error
