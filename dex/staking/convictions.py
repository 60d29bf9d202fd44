"""Who was convicted lately: what a conviction takes depends on how many there are.

A conviction takes its part of what the offender had staked when it was convicted. Later ones within
the unbonding time raise the part for all of them, so that those convicted first lose no less than
those convicted last (consensus.md §1.5).
"""

from __future__ import annotations

from typing import Final

import msgspec


class Conviction(msgspec.Struct, array_like=True):
    """One offender; `base` and `taken` are in base units, 16 bytes each."""

    time_ms: int
    owner: bytes
    offence: str
    power: int
    base: bytes
    taken: bytes


class Convictions:
    """Convictions by the offender's owner, oldest first; `changed` since they were last taken."""

    def __init__(self) -> None:
        self.by_owner: Final[dict[bytes, Conviction]] = {}
        self.changed: Final[set[bytes]] = set()

    def put(self, conviction: Conviction) -> None:
        """Add or change one."""
        self.by_owner[conviction.owner] = conviction
        self.changed.add(conviction.owner)

    def drop(self, before_ms: int) -> None:
        """Forget what lies an unbonding time back."""
        for owner in [o for o, c in self.by_owner.items() if c.time_ms < before_ms]:
            del self.by_owner[owner]
            self.changed.add(owner)
