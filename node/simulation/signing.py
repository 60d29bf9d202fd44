"""Signatures that nobody has to check: the simulator forges none but its own Byzantine nodes'."""

from __future__ import annotations

from collections.abc import Callable

from omninode.consensus.types import Vote, VoteKind, vote_digest

GENESIS_HASH = b"simulated network".ljust(32, b".")


def sim_signer(index: int) -> Callable[[bytes], bytes]:
    """Return the signer of a validator."""
    prefix = bytes((index,))
    return lambda digest: prefix + digest + digest


def signed_vote(kind: VoteKind, view: int, block_hash: bytes, *, by: int, epoch: int = 0) -> Vote:
    """Sign a vote past all rules."""
    digest = vote_digest(GENESIS_HASH, kind, epoch=epoch, view=view, block_hash=block_hash)
    return Vote(kind, epoch, view, block_hash, by, sim_signer(by)(digest))
