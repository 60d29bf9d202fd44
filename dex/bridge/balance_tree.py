"""The tree over everybody's balances, whose root goes into checkpoints.

Rules
    B1. One leaf per (subaccount, asset), over `free + held`. Its index is given at the first
        checkpoint at which the balance is not zero, to several in the order of their record keys,
        and never again to another; a balance that became zero keeps its leaf with amount 0.
    B2. Indices are state. The tree itself is not: it follows from them and from the balances, so
        it is built anew after a restart, and between two checkpoints only what changed is hashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from omninode.crypto import ADDRESS_BYTES
from omninode.dex.accounts import Balance
from omninode.dex.bridge.evm import ZERO_ADDRESS, state_leaf
from omninode.dex.bridge.merkle import DenseTree

NO_LEAF: Final = -1
_SUBACCOUNT_END: Final = ADDRESS_BYTES + 2


class BalanceTree:
    """The tree, and which balances changed since its last root.

    Args:
        tokens: Each asset's token, the zero address where it has none.

    Attributes:
        new: Balances that got their leaf since the last `clear`.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.new: list[Balance] = []
        self._tokens: Final = tuple(tokens)
        self._tree = DenseTree()
        self._touched: set[Balance] = set()

    def __len__(self) -> int:
        return len(self._tree)

    def touch(self, balances: Iterable[Balance]) -> None:
        """Note which balances a block changed."""
        self._touched.update(balances)

    def root(self) -> bytes:
        """Give leaves to the balances that need one (B1) and return the root over all."""
        tree = self._tree
        fresh = []
        for balance in self._touched:
            if balance.leaf != NO_LEAF:
                tree.update(balance.leaf, self._leaf(balance))
            elif balance.free or balance.held:
                fresh.append(balance)
        fresh.sort(key=_record_key)
        for balance in fresh:
            balance.leaf = len(tree)
            tree.append(self._leaf(balance))
        self.new += fresh
        self._touched = set()
        return tree.root()

    def proof(self, balance: Balance) -> tuple[bytes, ...]:
        """Return the way from a balance's leaf to the root that was computed last."""
        return self._tree.proof(balance.leaf)

    def load(self, balances: Sequence[Balance], leafless: Iterable[Balance]) -> None:
        """Build the tree after a restart (B2).

        Args:
            balances: Those with a leaf, by index.
            leafless: All others.
        """
        self._tree = DenseTree([self._leaf(balance) for balance in balances])
        self._tree.root()
        self._touched = set(leafless)

    def _leaf(self, balance: Balance) -> bytes:
        key = balance.key
        return state_leaf(
            balance.leaf,
            key[:ADDRESS_BYTES],
            int.from_bytes(key[ADDRESS_BYTES:_SUBACCOUNT_END], "big"),
            self._tokens[balance.asset],
            balance.free + balance.held,
        )


def _record_key(balance: Balance) -> bytes:
    return balance.key


def token_list(tokens: Iterable[bytes | None]) -> tuple[bytes, ...]:
    """Return tokens as leaves name them."""
    return tuple(token or ZERO_ADDRESS for token in tokens)
