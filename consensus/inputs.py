"""What can happen to the consensus core.

Names tell the origin: `Peer…`, `Timer…`, and the node's own shells.

Every signature in a `Peer…` input was verified by the shell before; the core checks everything
else. `sender` is the validator index of the authenticated peer, or `None` when it is not a
validator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.messages import TimerId
from omninode.consensus.types import Block, Certificate, NextEpoch, Proposal, Vote


@dataclass(frozen=True, slots=True)
class Start:
    """Begin, after the WAL was replayed: enter the newest view, ask peers what we signed (P7)."""


@dataclass(frozen=True, slots=True)
class PeerVote:
    """A vote arrived."""

    sender: int | None
    vote: Vote


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate arrived."""

    sender: int | None
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class PeerProposal:
    """A leader's proposal arrived; its shape, votes, certificate and beacon are verified."""

    sender: int | None
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class EpochProven:
    """A checked proof that our epoch is over arrived (P6)."""

    proof: EpochProof


@dataclass(frozen=True, slots=True)
class PeerAsksCertificates:
    """A peer lacks certificates of these views (both ends included); it gets one page of `help`."""

    sender: int
    from_view: int
    to_view: int


@dataclass(frozen=True, slots=True)
class PeerAsksMemory:
    """A restarted validator asks which of its votes we remember (P7)."""

    sender: int


@dataclass(frozen=True, slots=True)
class PeerMemory:
    """A peer's answer: its view, and our own votes (signatures verified) that it remembers."""

    sender: int
    view: int
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class BlockArrived:
    """A block asked for by `FetchBlock`; its transactions are held (implies `BodyReady`)."""

    block: Block


@dataclass(frozen=True, slots=True)
class BodyReady:
    """All transactions of a proposed block are held, well formed and rightly signed."""

    block_hash: bytes


@dataclass(frozen=True, slots=True)
class BodyInvalid:
    """A proposed block can never be valid: malformed, wrongly signed or over the limits."""

    block_hash: bytes


@dataclass(frozen=True, slots=True)
class BlocksSynced:
    """Finalized blocks fetched by height, in order, linking to our final tip.

    `certificate` finalizes the last one. Where they end an epoch, fillers may follow that block.
    """

    blocks: tuple[Block, ...]
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class BlockBuilt:
    """The shell's answer to `BuildBlock`: the content for `view` on `parent_hash`."""

    view: int
    parent_hash: bytes
    transaction_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PendingChanged:
    """Whether a transaction outside the parent's ancestry has been held for at least Δ (P3).

    Holds for the current view: after `ViewEntered` the shell says it anew.
    """

    pending: bool


@dataclass(frozen=True, slots=True)
class Executed:
    """The state machine has executed the finalized block at `height`.

    `next_epoch` if its state decides the next set: the epoch can be sealed from now on (P6).
    """

    height: int
    app_hash: bytes
    next_epoch: NextEpoch | None = None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by `SetTimer` is due."""

    timer: TimerId


Input: TypeAlias = (
    Start
    | PeerVote
    | PeerCertificate
    | PeerProposal
    | EpochProven
    | PeerAsksCertificates
    | PeerAsksMemory
    | PeerMemory
    | BlockArrived
    | BodyReady
    | BodyInvalid
    | BlocksSynced
    | BlockBuilt
    | PendingChanged
    | Executed
    | TimerFired
)
