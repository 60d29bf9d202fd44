"""Slashes on their way to the contract: whose stake is to be proven there, and the proofs.

Rules (PROTOCOL.md P6)
    Q1. Who was slashed is due from the next checkpoint on, for `PROVABLE_CHECKPOINTS` of them. Each
        of these proves it, so it does not matter which ones the contract takes.
    Q2. At most `OWNERS_DUE_MAX` are due; beyond it the one due longest is forgotten. The exchange
        has its stake right; the contract's view of it stays too high until it next changes.
    Q3. Who is due is state. The proofs are not: each node makes them with the checkpoint, and after
        a restart the next checkpoint makes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.limits import OWNERS_DUE_MAX, PROVABLE_CHECKPOINTS


class StakeLeaf(NamedTuple):
    """An owner's stake in the state tree: its leaf's place, base units, and the way to the root."""

    place: int
    amount: int
    siblings: tuple[bytes, ...]


class StakeProof(NamedTuple):
    """What `proveStake` takes; `due_from` is the first checkpoint that can prove this slash."""

    checkpoint: Checkpoint
    owner: bytes
    leaf: StakeLeaf
    due_from: int


class StakeProofs:
    """Who is due, and the proofs of the newest checkpoints.

    Attributes:
        due: The first checkpoint that proves it, by owner.
        changed: Owners whose entry changed since the last `clear`.
    """

    def __init__(self) -> None:
        self.due: Final[dict[bytes, int]] = {}
        self.changed: Final[set[bytes]] = set()
        self._made: Final[dict[int, tuple[StakeProof, ...]]] = {}

    def require(self, owner: bytes, number: int) -> None:
        """Have an owner's stake proven from checkpoint `number` on (Q1, Q2)."""
        self._drop(owner)
        self.due[owner] = number
        self.changed.add(owner)
        while len(self.due) > OWNERS_DUE_MAX:
            self._drop(min(self.due, key=lambda other: (self.due[other], other)))

    def make(self, checkpoint: Checkpoint, find: Callable[[bytes], StakeLeaf | None]) -> None:
        """Prove whatever is due by a checkpoint that was just made.

        Args:
            checkpoint: The checkpoint.
            find: Returns an owner's leaf in its state, if there is one.
        """
        number = checkpoint.number
        for owner, first in list(self.due.items()):
            if number >= first + PROVABLE_CHECKPOINTS:
                self._drop(owner)
        proofs = [
            StakeProof(checkpoint, owner, leaf, first)
            for owner, first in self.due.items()
            if number >= first and (leaf := find(owner)) is not None
        ]
        if proofs:
            self._made[number] = tuple(proofs)
        for old in [made for made in self._made if made <= number - PROVABLE_CHECKPOINTS]:
            del self._made[old]

    def of(self, number: int) -> tuple[StakeProof, ...]:
        """Return what the checkpoint of a number proves, as far as this node has made it."""
        return self._made.get(number, ())

    def load(self, due: dict[bytes, int]) -> None:
        """Take back stored records."""
        self.due.update(due)

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.changed.clear()

    def _drop(self, owner: bytes) -> None:
        if self.due.pop(owner, None) is not None:
            self.changed.add(owner)
