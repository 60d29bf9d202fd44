"""What the write-ahead log holds; replayed into the core, in order, after a restart."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from omninode.consensus.types import Block, Certificate, Vote


class WalVote(msgspec.Struct, frozen=True, array_like=True):
    """An own vote; durable before it leaves the node (PROTOCOL.md P2)."""

    vote: Vote


class WalBlock(msgspec.Struct, frozen=True, array_like=True):
    """A block with its full bodies, in the order of its ids; durable before our vote for it."""

    block: Block
    transactions: tuple[bytes, ...]


class WalCertificate(msgspec.Struct, frozen=True, array_like=True):
    """A certificate; losing it costs liveness only."""

    certificate: Certificate


WalRecord: TypeAlias = WalVote | WalBlock | WalCertificate


def epoch_of(record: WalRecord) -> int:
    """Return the epoch that a record is of."""
    match record:
        case WalVote(vote):
            return vote.epoch
        case WalBlock(block, _):
            return block.header.epoch
        case WalCertificate(certificate):
            return certificate.epoch
