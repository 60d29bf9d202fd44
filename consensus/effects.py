"""What the consensus core wants done, in order.

The shell keeps the order: nothing after a `Write…` leaves the node or is called final before that
record is durable (PROTOCOL.md P3, "one ordered output queue").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from omninode.consensus.messages import Message, TimerId
from omninode.consensus.types import Block, Certificate, Header, Vote


@dataclass(frozen=True, slots=True)
class WriteVote:
    """Guard, append and sync an own vote before anything that follows."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class WriteBlock:
    """Append a block with all its transaction bytes; made durable by the next `WriteVote` (P2)."""

    block: Block


@dataclass(frozen=True, slots=True)
class WriteCertificate:
    """Append a certificate; losing it costs liveness only, so it is not synced by itself."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to one validator by index, or to all others (`to is None`)."""

    to: int | None
    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire `TimerFired(timer)` after `delay_ms`; setting the same timer again replaces it."""

    timer: TimerId
    delay_ms: int


@dataclass(frozen=True, slots=True)
class CheckBody:
    """Get and check the transactions of a proposed block; answer `BodyReady` or `BodyInvalid`.

    `source` is the validator to ask for what is missing. Asked again for the same block: try again.
    """

    block: Block
    source: int


@dataclass(frozen=True, slots=True)
class FetchBlock:
    """Get a block by hash, from `source` first, then from others; answer `BlockArrived`."""

    block_hash: bytes
    view: int
    source: int | None


@dataclass(frozen=True, slots=True)
class SyncBlocks:
    """We are far behind: fetch finalized blocks from our final height on; answer `BlocksSynced`."""

    from_height: int
    source: int | None


@dataclass(frozen=True, slots=True)
class BuildBlock:
    """We lead `view`: answer `BlockBuilt` once there is something to include, or empty later.

    With transactions: not before `not_before_ms` (wall clock, ms). Empty: at `empty_at_ms`.
    `transactions_allowed` is false while execution lags (P3 MAX_LAG). A newer `BuildBlock` replaces
    it. `ancestors` are the blocks that are not executed yet, from the parent downwards; their
    transactions are not to be included again.
    """

    view: int
    parent: Header
    ancestors: tuple[bytes, ...]
    transactions_allowed: bool
    not_before_ms: int
    empty_at_ms: int


@dataclass(frozen=True, slots=True)
class ViewEntered:
    """A new view began, or its parent changed: what is pending is to be recomputed.

    `ancestors` as in `BuildBlock`; empty while the parent is unknown.
    """

    view: int
    leader: int
    ancestors: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Finalize:
    """These blocks are final, in height order: execute them; `certificate` is for the last.

    Where the last one seals the epoch, `certificate` may be for the last of its `fillers` instead;
    nobody executes or stores those (P6).
    """

    blocks: tuple[Block, ...]
    certificate: Certificate
    fillers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    """Two votes of one validator that contradict each other (consensus.md §1.5)."""

    first: Vote
    second: Vote


@dataclass(frozen=True, slots=True)
class Halt:
    """A final header has another app hash than ours: stop voting, signing, serving state (P5).

    The same when a finalization leads past our final block: a third of the power broke the rules.
    Then the hashes are those of the two blocks.
    """

    height: int
    expected: bytes
    ours: bytes


Effect: TypeAlias = (
    WriteVote
    | WriteBlock
    | WriteCertificate
    | Send
    | SetTimer
    | CheckBody
    | FetchBlock
    | SyncBlocks
    | BuildBlock
    | ViewEntered
    | Finalize
    | ReportEvidence
    | Halt
)
