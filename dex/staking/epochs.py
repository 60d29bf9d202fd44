"""Where an epoch stands: its number, its start, and what its cut has decided (PROTOCOL.md P6).

Rules
    E1. The first block with `time >= start + epoch_ms` that lies `min_epoch_blocks` above the start
        is the cut; an epoch has one. It decides the next set.
    E2. The block that seals the epoch is its last; at its end the next set takes over, and the next
        epoch starts with its height and time.
    E3. Scores are about the blocks from one cut to the next.
"""

from __future__ import annotations

import msgspec

from omninode.consensus.types import ValidatorSet


class EpochRecord(msgspec.Struct, frozen=True, array_like=True):
    """An epoch at rest; `cut_height` is 0 before the cut, `unbonded` counts parts of stake."""

    number: int
    start_ms: int
    start_height: int
    scored_from_ms: int
    cut_height: int
    unbonded: int


class Epochs:
    """The epoch that the newest block belongs to.

    Args:
        genesis_time_ms: When epoch 0 starts.

    Attributes:
        number: Counts from 0.
        start_ms: Time of the block before its first.
        start_height: Height of that block.
        scored_from_ms: Time of the last cut: scores are about what came after it (E3).
        cut_height: The cut's height; 0 before it.
        next_set: What the cut decided, until the epoch is sealed.
    """

    def __init__(self, genesis_time_ms: int) -> None:
        self.number = 0
        self.start_ms = genesis_time_ms
        self.start_height = 0
        self.scored_from_ms = genesis_time_ms
        self.cut_height = 0
        self.next_set: ValidatorSet | None = None
        self.is_changed = False
        self.is_set_changed = False

    def is_cut(self, height: int, time_ms: int, *, epoch_ms: int, blocks_min: int) -> bool:
        """Whether the block of this height and time is the cut (E1)."""
        return (
            self.next_set is None
            and time_ms >= self.start_ms + epoch_ms
            and height - self.start_height >= blocks_min
        )

    def cut(self, height: int, time_ms: int, next_set: ValidatorSet) -> None:
        """Note what the cut decided."""
        self.cut_height, self.scored_from_ms, self.next_set = height, time_ms, next_set
        self.is_changed = self.is_set_changed = True

    def begin(self, height: int, time_ms: int) -> None:
        """Begin the next epoch behind its sealing block (E2)."""
        self.number += 1
        self.start_height, self.start_ms = height, time_ms
        self.cut_height, self.next_set = 0, None
        self.is_changed = self.is_set_changed = True

    def record(self, unbonded: int) -> EpochRecord:
        """Return the epoch at rest."""
        return EpochRecord(
            self.number,
            self.start_ms,
            self.start_height,
            self.scored_from_ms,
            self.cut_height,
            unbonded,
        )

    def load(self, record: EpochRecord, next_set: ValidatorSet | None) -> None:
        """Take back a stored epoch."""
        self.number = record.number
        self.start_ms, self.start_height = record.start_ms, record.start_height
        self.scored_from_ms, self.cut_height = record.scored_from_ms, record.cut_height
        self.next_set = next_set
