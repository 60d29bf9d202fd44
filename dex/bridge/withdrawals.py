"""Withdrawals: the tree over all of them, which only grows.

Rules (PROTOCOL.md P9)
    W1. A withdrawal takes the funds at once and becomes leaf `index` of the tree; it can not be
        taken back. Whoever holds a checkpoint that counts it and its proof makes the contract pay.
    W2. The state keeps the frontier only. The nodes for proofs are history.
"""

from __future__ import annotations

from omninode.dex.bridge.evm import withdrawal_leaf
from omninode.dex.bridge.merkle import Peaks


class Withdrawals:
    """The frontier of the tree; `changed` is whether it grew since the last `clear`."""

    def __init__(self) -> None:
        self.tree = Peaks()
        self.changed = False

    @property
    def count(self) -> int:
        """How many withdrawals there are; the next one has this index."""
        return self.tree.count

    def request(self, token: bytes, recipient: bytes, amount: int) -> int:
        """Add a withdrawal; returns its index (W1)."""
        index = self.tree.count
        self.tree.append(withdrawal_leaf(index, token, recipient, amount))
        self.changed = True
        return index

    def root(self) -> bytes:
        """Return the root over all withdrawals."""
        return self.tree.root()
