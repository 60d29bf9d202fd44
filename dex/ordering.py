"""The order in which a block's transactions are executed (PROTOCOL.md P4).

Rules
    O1. By `(phase, account rank, nonce)`. Class 0 are cancels and revocations and what validators
        say, 1 post-only orders, 2 the rest; a batch has the highest class of its parts.
    O2. `phase = max(class, phase of the account's previous transaction in nonce order)`: an
        account's own transactions never overtake each other.
    O3. An account's rank is `keccak(seed | account)`: nobody can buy a better place with more
        transactions, and the place changes with every block.
    O4. Equal nonces of one account (two signers) go by transaction hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omninode.crypto import keccak256
from omninode.dex.actions import (
    VALIDATOR_ACTIONS,
    Action,
    Batch,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    RevokeAgent,
)
from omninode.dex.transaction import Transaction

CANCELS: Final = 0
POST_ONLY: Final = 1
THE_REST: Final = 2


def action_class(action: Action) -> int:
    """Return the class of an action (O1)."""
    kind = type(action)
    if kind is PlaceOrder:
        return POST_ONLY if action.post_only else THE_REST  # type: ignore[union-attr]
    if kind is CancelOrder or kind is CancelAll or kind is RevokeAgent:
        return CANCELS
    if kind in VALIDATOR_ACTIONS:
        return CANCELS
    if isinstance(action, Batch):
        if action.replaces:
            return THE_REST
        return max((action_class(order) for order in action.orders), default=CANCELS)
    return THE_REST


def execution_order(transactions: Sequence[Transaction], seed: bytes) -> list[int]:
    """Return the body's indices in the order of execution."""
    if len(transactions) < 2:
        return list(range(len(transactions)))
    by_account: dict[bytes, list[tuple[int, bytes, int]]] = {}
    for index, transaction in enumerate(transactions):
        key = (transaction.nonce, transaction.hash, index)
        by_account.setdefault(transaction.account, []).append(key)
    places: list[tuple[int, bytes, int, bytes, int]] = []
    for account, mine in by_account.items():
        rank = keccak256(seed + account)  # O3
        mine.sort()
        phase = CANCELS
        for nonce, tie, index in mine:
            phase = max(phase, action_class(transactions[index].action))  # O2
            places.append((phase, rank, nonce, tie, index))
    places.sort()
    return [place[4] for place in places]
