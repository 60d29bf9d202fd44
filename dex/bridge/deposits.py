"""Deposits: which ones the validators have seen, and how many of them are credited.

Rules (PROTOCOL.md P9)
    D1. A deposit is known by the rolling hash after it, which covers everything before it. So one
        cursor (count, hash) names a whole log, and two hashes at one count are two different logs.
    D2. Every validator has one tip, the cursor it attested last; its power stands behind each
        deposit up to it. A new tip takes the place of the old one.
    D3. At the end of a block the deposits with > 2/3 of the power behind them are credited, in
        order. What is credited stays.
    D4. Two hashes at one count are a disagreement, told with the validators behind each. It does
        not hold up a hash that has > 2/3: less than a third of the power can not freeze deposits
        (ADR 008).
    D5. Between the credited cursor and the tips lie pending deposits; those that no tip stands on
        are forgotten. A tip is at most `PENDING_DEPOSITS_MAX` above the cursor.
    D6. A tip that contradicts what is credited is a stray: it stands behind nothing, and is
        remembered, with the count where it went astray, until its validator attests anew.

Kept apart from money: whoever credits gets the deposits from `settle`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from omninode.dex.bridge.evm import deposit_hash
from omninode.encoding import AMOUNT_BYTES, amount_from_bytes

_Address = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
_Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Amount = Annotated[bytes, msgspec.Meta(min_length=AMOUNT_BYTES, max_length=AMOUNT_BYTES)]
DepositCount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Deposit(msgspec.Struct, frozen=True, array_like=True):
    """What the contract logged: `amount` is in the token's base units, 16 bytes."""

    token: _Address
    account: _Address
    subaccount: Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
    amount: _Amount


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """How many deposits there are and the rolling hash over all of them (D1)."""

    count: DepositCount
    hash: _Hash


class PendingDeposit(msgspec.Struct, frozen=True, array_like=True):
    """A deposit above the credited cursor; `index` counts from 0, `parent` is the hash before."""

    index: DepositCount
    parent: _Hash
    deposit: Deposit


class Stray(msgspec.Struct, frozen=True, array_like=True):
    """Where a tip contradicts what is credited (D6): the hash after `index`, theirs and ours."""

    index: DepositCount
    hash: _Hash
    credited_hash: _Hash


class Tip(msgspec.Struct, frozen=True, array_like=True):
    """A validator's newest attestation."""

    count: DepositCount
    hash: _Hash
    stray: Stray | None = None


class Disagreement(msgspec.Struct, frozen=True, array_like=True):
    """Contradicting logs (D4): the first index that differs, and who stands behind which hash.

    Sides are ordered by power, the strongest first; addresses are in the order of the set.
    """

    index: DepositCount
    sides: tuple[tuple[_Hash, tuple[_Address, ...]], ...]


class CreditableDeposit(msgspec.Struct, frozen=True):
    """A deposit that has its quorum."""

    index: int
    deposit: Deposit


def next_deposit_hash(previous: bytes, index: int, deposit: Deposit) -> bytes:
    """Return the rolling hash after a deposit (D1); the first previous is the genesis hash."""
    return deposit_hash(
        previous,
        index,
        token=deposit.token,
        account=deposit.account,
        subaccount=deposit.subaccount,
        amount=amount_from_bytes(deposit.amount),
    )


class Deposits:
    """The credited cursor, the tips and the pending deposits between them.

    Args:
        genesis_hash: The hash before the first deposit.

    Attributes:
        credited: What is credited.
        disagreements: All contradictions after the last block, by index (D4).
        changed_nodes: Pending deposits that came or went (None) since the last `clear`, by hash.
        changed_tips: Tips that changed since then, by validator.
        cursor_changed: Whether the credited cursor did.
    """

    def __init__(self, genesis_hash: bytes) -> None:
        self.credited = Cursor(0, genesis_hash)
        self.disagreements: tuple[Disagreement, ...] = ()
        self.changed_nodes: dict[bytes, PendingDeposit | None] = {}
        self.changed_tips: dict[bytes, Tip | None] = {}
        self.cursor_changed = False
        self.nodes: Final[dict[bytes, PendingDeposit]] = {}
        self.tips: Final[dict[bytes, Tip]] = {}

    @property
    def disagreement(self) -> Disagreement | None:
        """The first contradiction, or None."""
        return self.disagreements[0] if self.disagreements else None

    def tip(self, address: bytes) -> Cursor | None:
        """Return what a validator attested last, or None."""
        tip = self.tips.get(address)
        return None if tip is None else Cursor(tip.count, tip.hash)

    def knows(self, count: int, cursor_hash: bytes) -> bool:
        """Whether a cursor is the credited one or that of a pending deposit."""
        if count == self.credited.count:
            return cursor_hash == self.credited.hash
        node = self.nodes.get(cursor_hash)
        return node is not None and node.index + 1 == count

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.changed_nodes.clear()
        self.changed_tips.clear()
        self.cursor_changed = False
