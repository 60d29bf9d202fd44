"""What the chain keeps for ever of money in and out: deposits, withdrawals, checkpoints, proofs.

Rules
    B1. Everything is written in the batch of the block that brought it (C1 of `chain`).
    B2. Nothing here is pruned: it is small, and an old withdrawal must be provable.
    B3. Of the withdrawal tree every full subtree's root is stored, once. The frontier of the next
        block is taken from those, so it goes on after a restart where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from omninode.consensus.types import Header
from omninode.dex.bridge.evm import withdrawal_leaf
from omninode.dex.bridge.merkle import Peaks, proof
from omninode.dex.events import (
    CheckpointCertified,
    DepositCredited,
    DepositIgnored,
    Event,
    WithdrawalRequested,
)
from omninode.encoding import amount_from_bytes, encode
from omninode.errors import BrokenInvariant, StorageFault
from omninode.storage import keys
from omninode.storage.database import Database
from omninode.storage.records import StoredCheckpoint, StoredDeposit, StoredWithdrawal
from omninode.storage.rows import Page, decode_row, read_page

Entries = list[tuple[bytes, bytes]]


class BridgeIndex:
    """Makes the entries of each block in turn; one per open database, in its chain store."""

    def __init__(self, database: Database) -> None:
        tree = WithdrawalNodes(database)
        self._peaks = Peaks.restore(_withdrawals(database), tree.node)  # B3

    def entries(self, header: Header, events: Iterable[Event]) -> Entries:
        """Return what the batch of the next block puts (B1).

        Args:
            header: The block's.
            events: What happened in it.

        Raises:
            BrokenInvariant: Withdrawals are not numbered one after the other.
        """
        entries: Entries = []
        for event in events:
            match event:
                case DepositCredited() | DepositIgnored():
                    stored = encode(StoredDeposit(header.height, header.time_ms, event))
                    place = keys.height_bytes(event.index)
                    entries.append((keys.ACCOUNT_DEPOSIT + event.account + place, stored))
                case WithdrawalRequested():
                    entries += self._withdrawal(header, event)
                case CheckpointCertified(certified=certified):
                    checkpoint = certified.checkpoint
                    height = keys.height_bytes(checkpoint.height)
                    value = encode(StoredCheckpoint(header.height, header.time_ms, certified))
                    entries.append((keys.CHECKPOINT + height, value))
                    number = keys.height_bytes(checkpoint.number)
                    entries.append((keys.CHECKPOINT_HEIGHT + number, height))
                case _:
                    pass
        return entries

    def _withdrawal(self, header: Header, event: WithdrawalRequested) -> Entries:
        if event.index != self._peaks.count:
            raise BrokenInvariant(f"withdrawal {event.index} after {self._peaks.count} of them")
        amount = amount_from_bytes(event.amount)
        leaf = withdrawal_leaf(event.index, event.token, event.recipient, amount)
        place = keys.height_bytes(event.index)
        stored = encode(StoredWithdrawal(header.height, header.time_ms, event))
        entries = [
            (keys.WITHDRAWAL + place, stored),
            (keys.ACCOUNT_WITHDRAWAL + event.account + place, b""),
        ]
        for level, index, node in self._peaks.append(leaf):
            entries.append((keys.node_key(level, index), node))
        return entries


class WithdrawalNodes:
    """The stored nodes of the withdrawal tree."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def node(self, level: int, index: int) -> bytes:
        """Return the root of a full subtree.

        Raises:
            StorageFault: It is not there, so the database is damaged.
        """
        node = self._database.get(keys.node_key(level, index))
        if node is None:
            raise StorageFault(
                f"node {index} of level {level} of the withdrawal tree is missing; `omninode "
                "reset` and let the node sync again"
            )
        return node


class BridgeHistory:
    """Reads the entries; like all histories, of stored blocks only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nodes = WithdrawalNodes(database)

    def deposits(
        self,
        account: bytes,
        *,
        limit: int,
        before: int | None = None,
        subaccount: int | None = None,
    ) -> Page[StoredDeposit, int]:
        """Return an account's deposits, newest first.

        Args:
            account: Its address.
            limit: At most so many, up to `PAGE_ROWS_MAX`.
            before: Only deposits with a lower index than this.
            subaccount: Only what was credited to that one; by default all there is.
        """
        stop = None if before is None else keys.height_bytes(before)
        rows = self._database.iterate(keys.ACCOUNT_DEPOSIT + account, stop=stop, reverse=True)
        found = (decode_row(value, StoredDeposit) for _, value in rows)
        return read_page(
            ((row.event.index, row) for row in found),
            limit=limit,
            wanted=lambda row: subaccount in (None, _credited_subaccount(row)),
        )

    def withdrawals(
        self,
        account: bytes,
        *,
        limit: int,
        before: int | None = None,
        subaccount: int | None = None,
    ) -> Page[StoredWithdrawal, int]:
        """Return an account's withdrawals, newest first; like `deposits`."""
        return read_page(
            ((row.event.index, row) for row in self._withdrawals_of(account, before)),
            limit=limit,
            wanted=lambda row: subaccount in (None, row.event.subaccount),
        )

    def _withdrawals_of(self, account: bytes, before: int | None) -> Iterator[StoredWithdrawal]:
        stop = None if before is None else keys.height_bytes(before)
        for key, _ in self._database.iterate(
            keys.ACCOUNT_WITHDRAWAL + account, stop=stop, reverse=True
        ):
            withdrawal = self.withdrawal(int.from_bytes(key, "big"))
            assert withdrawal is not None, "both entries are written in one batch"
            yield withdrawal

    def withdrawal(self, index: int) -> StoredWithdrawal | None:
        """Return a withdrawal by its index."""
        value = self._database.get(keys.WITHDRAWAL + keys.height_bytes(index))
        return None if value is None else decode_row(value, StoredWithdrawal)

    def withdrawal_count(self) -> int:
        """Return how many withdrawals there are."""
        return _withdrawals(self._database)

    def withdrawal_proof(self, index: int, *, count: int) -> list[bytes]:
        """Return the proof of a withdrawal against the root over the first `count` ones.

        Raises:
            BrokenInvariant: It is not among them.
        """
        return proof(index, count, self._nodes.node)

    def checkpoint_at(self, height: int | None = None) -> StoredCheckpoint | None:
        """Return the newest certified checkpoint, or the newest one at or below a height."""
        stop = None if height is None else keys.height_bytes(height + 1)
        for _, value in self._database.iterate(keys.CHECKPOINT, stop=stop, reverse=True):
            return decode_row(value, StoredCheckpoint)
        return None

    def checkpoint(self, number: int) -> StoredCheckpoint | None:
        """Return the certified checkpoint of a number."""
        height = self._database.get(keys.CHECKPOINT_HEIGHT + keys.height_bytes(number))
        value = None if height is None else self._database.get(keys.CHECKPOINT + height)
        return None if value is None else decode_row(value, StoredCheckpoint)


def _credited_subaccount(row: StoredDeposit) -> int | None:
    """Return where a deposit went: nowhere, if it was ignored."""
    return row.event.subaccount if isinstance(row.event, DepositCredited) else None


def _withdrawals(database: Database) -> int:
    for key, _ in database.iterate(keys.WITHDRAWAL, reverse=True):
        return int.from_bytes(key, "big") + 1
    return 0
