"""The messages of the vote plane, and the names of timers.

A frame is the canonical encoding of one message (a tagged array); what may be inside is bounded in
`limits.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.types import Certificate, Count, Proposal, Vote


class VoteMessage(msgspec.Struct, frozen=True, array_like=True, tag="vote"):
    """One vote of the sender."""

    vote: Vote


class CertificateMessage(msgspec.Struct, frozen=True, array_like=True, tag="certificate"):
    """One certificate, for a peer that lacks it."""

    certificate: Certificate


class ProposalMessage(msgspec.Struct, frozen=True, array_like=True, tag="proposal"):
    """The leader's proposal."""

    proposal: Proposal


class NeedMessage(msgspec.Struct, frozen=True, array_like=True, tag="need"):
    """Asks for the certificates of a range of views; the answer is a page of them (P2)."""

    from_view: Count
    to_view: Count
    epoch: Count = 0


class MemoryRequest(msgspec.Struct, frozen=True, array_like=True, tag="memory?"):
    """Asks which votes of the sender in an epoch the receiver remembers (P7)."""

    epoch: Count = 0


class MemoryAnswer(msgspec.Struct, frozen=True, array_like=True, tag="memory"):
    """The sender's view, and the votes of the receiver that it remembers (P7)."""

    view: Count
    votes: tuple[Vote, ...]
    epoch: Count = 0


class EpochMessage(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """How an epoch ended, for a peer that is still in it (P6); the core gets it checked."""

    proof: EpochProof


class PendingMessage(msgspec.Struct, frozen=True, array_like=True, tag="pending"):
    """Transactions held for Δ by the sender, for the leader (P3); the core never sees it."""

    transactions: tuple[bytes, ...]


Message: TypeAlias = (
    VoteMessage
    | CertificateMessage
    | ProposalMessage
    | NeedMessage
    | MemoryRequest
    | MemoryAnswer
    | EpochMessage
    | PendingMessage
)


class TimerKind(enum.Enum):
    """What a timer is for."""

    LEADER = "leader"
    """No valid block in time: nullify."""
    ADVANCE = "advance"
    """A block, but no certificate in time: nullify."""
    RETRY = "retry"
    """Say again what we said in this view."""
    CLOCK = "clock"
    """A proposal ahead of our clock can be looked at again."""
    FINALITY = "finality"
    """The previous view's block is not final yet: ask for its finalization."""
    MEMORY = "memory"
    """Ask the peers again what they remember of us (P7)."""


@dataclass(frozen=True, slots=True)
class TimerId:
    """A timer of one view; the core ignores one that no longer matters."""

    kind: TimerKind
    view: int


def epoch_in(message: object) -> int | None:
    """Return the epoch that a message is of; `None` if it is of none."""
    match message:
        case VoteMessage(vote):
            return vote.epoch
        case CertificateMessage(certificate):
            return certificate.epoch
        case ProposalMessage(proposal):
            return proposal.block.header.epoch
        case NeedMessage() | MemoryRequest() | MemoryAnswer():
            return message.epoch
        case EpochMessage(proof):
            return proof.epoch
        case _:
            return None
