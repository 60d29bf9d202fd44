"""What storage keeps, as canonical records, and what it is handed and hands back in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.types import Block, Certificate, Count, Hash, Header, ValidatorSet
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint
from omninode.dex.events import (
    DepositCredited,
    DepositIgnored,
    Event,
    OrderRejected,
    OrderUpdated,
    Trade,
    WithdrawalRequested,
)
from omninode.dex.outcomes import BlockOutcome, HashParts, TransactionResult


@dataclass(frozen=True, slots=True)
class CommittedBlock:
    """A final block that was executed: everything that its one atomic batch is made of.

    `transactions` are the bodies in the block's order; `certificate` is the finalization that
    covers the block: its own, or that of a later block of the same run. A sealing block comes with
    the proof of its epoch's end.
    """

    block: Block
    transactions: tuple[bytes, ...]
    certificate: Certificate | None
    outcome: BlockOutcome
    epoch_proof: EpochProof | None = None


class StoredCut(msgspec.Struct, frozen=True, array_like=True):
    """What the cut of an epoch decided; the root is there once its snapshot is."""

    height: Count
    state_root: Hash
    validators: ValidatorSet
    snapshot_root: Hash | None


class StoredHead(msgspec.Struct, frozen=True, array_like=True):
    """The newest stored block, and the finalization that covers it (of itself or of a later block).

    The state in the database is the state after `header`. Height 0 has no certificate.
    """

    header: Header
    app_hash: Hash
    certificate: Certificate | None

    @property
    def height(self) -> int:
        """Height of the newest stored block."""
        return self.header.height

    @property
    def block_hash(self) -> bytes:
        """Hash of the newest stored block."""
        return self.header.hash

    @property
    def final_view(self) -> int:
        """The view whose finalization covers the newest stored block."""
        return self.header.view if self.certificate is None else self.certificate.view


class StoredParts(msgspec.Struct, frozen=True, array_like=True):
    """The app hash after a block and what it is made of, so that a divergence names its module."""

    app_hash: Hash
    parts: HashParts


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """An acknowledged transaction that was not final yet; `received_ms` is the node's clock."""

    received_ms: Count
    raw: bytes


class StoredTrade(msgspec.Struct, frozen=True, array_like=True):
    """A trade with the height and time of its block."""

    height: Count
    time_ms: Count
    trade: Trade


class FillReference(msgspec.Struct, frozen=True, array_like=True):
    """Names the trade that a fill of an account is one side of."""

    market: str
    sequence: Count


class ClosedOrder(msgspec.Struct, frozen=True, array_like=True):
    """How an order ended, with the height and time of the block that ended it."""

    height: Count
    time_ms: Count
    outcome: OrderUpdated | OrderRejected


class StoredDeposit(msgspec.Struct, frozen=True, array_like=True):
    """A deposit with the height and time of the block that judged it."""

    height: Count
    time_ms: Count
    event: DepositCredited | DepositIgnored


class StoredWithdrawal(msgspec.Struct, frozen=True, array_like=True):
    """A withdrawal with the height and time of the block that took it."""

    height: Count
    time_ms: Count
    event: WithdrawalRequested


class StoredCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """A certified checkpoint with the height and time of the block that certified it."""

    height: Count
    time_ms: Count
    certified: CertifiedCheckpoint


Results = tuple[TransactionResult, ...]
Events = tuple[Event, ...]
Bodies = tuple[Annotated[bytes, msgspec.Meta(min_length=1)], ...]


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block with its transactions, as peers and re-execution need it."""

    block: Block
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SyncRun:
    """Stored blocks of one epoch from a height on; `certificate` finalizes the last of them.

    Where that ends the epoch, `fillers` may lead from it to the certified block.
    """

    blocks: tuple[StoredBlock, ...]
    certificate: Certificate
    fillers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """An included transaction, where it stands, and what became of it."""

    height: int
    index: int
    time_ms: int
    raw: bytes
    result: TransactionResult


@dataclass(frozen=True, slots=True)
class Fill:
    """One side of a trade, as its account sees it; `position` is the cursor of the next page."""

    position: tuple[int, int, int]
    is_taker: bool
    stored: StoredTrade

    @property
    def subaccount(self) -> int:
        """The account's subaccount on this side of the trade."""
        trade = self.stored.trade
        return trade.taker_subaccount if self.is_taker else trade.maker_subaccount
