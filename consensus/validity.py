"""Whether a proposed block can be valid (PROTOCOL.md P2, P3). The same at every honest node.

Rules
    B1. Version, network, epoch, validator set and proposer are the view's; nothing is filled in
        that does not exist yet.
    B2. Height, view and time follow the parent's; `executed_height` lies between the parent's and
        the parent.
    B3. More than `MAX_LAG` above the newest executed block it is empty.

What needs signatures, bytes or the clock is judged elsewhere: `verification.py`, the shell,
`core.py`.
"""

from __future__ import annotations

from omninode.consensus.limits import MAX_LAG
from omninode.consensus.types import PROTOCOL_VERSION, Block, Header, ValidatorSet
from omninode.crypto import ZERO_HASH


def is_well_formed(header: Header, genesis: Header, validators: ValidatorSet) -> bool:
    """Judge a header by itself (B1)."""
    return (
        header.version == PROTOCOL_VERSION
        and header.genesis_hash == genesis.genesis_hash
        and header.epoch == validators.epoch
        and header.valset_hash == validators.hash
        and header.parent_view < header.view
        and header.executed_final_view < header.view
        and header.evidence_root == ZERO_HASH
        and header.votes_seen_root == ZERO_HASH
        and header.beacon_proof == b""
        and header.seal is None
    )


def follows(block: Block, parent: Header) -> bool:
    """Judge a block beside its parent (B2, B3)."""
    header = block.header
    return (
        header.parent_hash == parent.hash
        and header.parent_view == parent.view
        and header.height == parent.height + 1
        and header.parent_beacon == parent.beacon
        and header.time_ms > parent.time_ms
        and parent.executed_height <= header.executed_height <= parent.height
        and (not lags(header.height, header.executed_height) or not block.transaction_ids)
    )


def lags(height: int, executed_height: int) -> bool:
    """Whether execution is so far behind that a block must be empty (B3)."""
    return height - executed_height > MAX_LAG
