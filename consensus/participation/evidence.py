"""Two votes of one validator that contradict each other (consensus.md §1.5).

Rules
    V1. In one view of one epoch a validator votes at most once per kind, never finalizes what it
        did not notarize, and never both finalizes and nullifies. An honest one can not be made to:
        its guard refuses (PROTOCOL.md P7).
    V2. A notarize and a nullify vote in one view are no offence.
    V3. Both signatures must be of one key; the index in a vote is not signed and proves nothing.
"""

from __future__ import annotations

from typing import Final

from omninode.consensus.types import Vote, VoteKind, vote_digest
from omninode.crypto import ZERO_HASH, recover_address
from omninode.errors import Malformed

CONFLICTING_NOTARIZE: Final = "conflicting_notarize"
CONFLICTING_FINALIZE: Final = "conflicting_finalize"
NULLIFY_FINALIZE: Final = "nullify_finalize"
FINALIZE_MISMATCH: Final = "finalize_mismatch"


def offence(first: Vote, second: Vote) -> str | None:
    """Name what two votes are together, or None if they may stand side by side (V1, V2)."""
    if (first.epoch, first.view) != (second.epoch, second.view):
        return None
    if first.kind == second.kind:
        if first.block_hash == second.block_hash or first.kind == VoteKind.NULLIFY:
            return None
        is_notarize = first.kind == VoteKind.NOTARIZE
        return CONFLICTING_NOTARIZE if is_notarize else CONFLICTING_FINALIZE
    kinds = {first.kind, second.kind}
    if kinds == {VoteKind.FINALIZE, VoteKind.NULLIFY}:
        return NULLIFY_FINALIZE
    if kinds == {VoteKind.FINALIZE, VoteKind.NOTARIZE} and first.block_hash != second.block_hash:
        return FINALIZE_MISMATCH
    return None


def vote_signer(vote: Vote, genesis_hash: bytes) -> bytes:
    """Return the address whose key signed a vote (V3).

    Raises:
        Malformed: No key signed it, or it names a block that such a vote can not name.
    """
    if (vote.block_hash == ZERO_HASH) is not (vote.kind == VoteKind.NULLIFY):
        raise Malformed("a nullify vote names no block, every other vote names one")
    digest = vote_digest(
        genesis_hash, vote.kind, epoch=vote.epoch, view=vote.view, block_hash=vote.block_hash
    )
    return recover_address(digest, vote.signature)
