"""Whether a proposed block can be valid (PROTOCOL.md P2, P3). The same at every honest node.

Rules
    B1. Version, network, epoch, validator set and proposer are the view's; nothing is filled in
        that does not exist yet.
    B2. Height, view and time follow the parent's; `executed_height` lies between the parent's and
        the parent.
    B3. More than `MAX_LAG` above the newest executed block it is empty.
    B4. It has a beacon proof exactly if its proposer has a beacon key (consensus.md §4.3).
    B5. After the block that seals an epoch come fillers only: the same seal, nothing inside, and
        executed what their parent had (P6).

What needs signatures, bytes or the clock is judged elsewhere: `verification.py`, the shell,
`core.py`.
"""

from __future__ import annotations

from omninode.consensus.epoch_proof import is_filler
from omninode.consensus.limits import MAX_LAG
from omninode.consensus.types import (
    BEACON_PROOF_BYTES,
    PROTOCOL_VERSION,
    Block,
    Header,
    ValidatorSet,
)
from omninode.crypto import ZERO_HASH


def is_well_formed(header: Header, genesis: Header, validators: ValidatorSet) -> bool:
    """Judge a header by itself; its proposer leads the view (B1, B4)."""
    has_beacon = bool(validators.validators[header.proposer].beacon_key)
    return (
        header.version == PROTOCOL_VERSION
        and header.genesis_hash == genesis.genesis_hash
        and header.epoch == validators.epoch
        and header.valset_hash == validators.hash
        and header.parent_view < header.view
        and header.executed_final_view < header.view
        and header.evidence_root == ZERO_HASH
        and len(header.beacon_proof) == (BEACON_PROOF_BYTES if has_beacon else 0)
    )


def is_sealed(header: Header, epoch: int) -> bool:
    """Whether a header seals an epoch, or is a filler after the one that does (P6)."""
    return header.seal is not None and header.epoch == epoch


def follows(block: Block, parent: Header) -> bool:
    """Judge a block beside its parent (B2, B3, B5)."""
    header = block.header
    if is_sealed(parent, header.epoch) and not _fills(header, parent):
        return False
    return (
        header.parent_hash == parent.hash
        and header.parent_view == parent.view
        and header.height == parent.height + 1
        and header.parent_beacon == parent.beacon
        and header.time_ms > parent.time_ms
        and parent.executed_height <= header.executed_height <= parent.height
        and (not lags(header.height, header.executed_height) or not block.transaction_ids)
    )


def _fills(header: Header, parent: Header) -> bool:
    """Whether a header is a filler (B5)."""
    return (
        is_filler(header, parent)
        and header.votes_seen_root == ZERO_HASH
        and (header.executed_height, header.executed_final_view, header.app_hash)
        == (parent.executed_height, parent.executed_final_view, parent.app_hash)
    )


def lags(height: int, executed_height: int) -> bool:
    """Whether execution is so far behind that a block must be empty (B3)."""
    return height - executed_height > MAX_LAG
