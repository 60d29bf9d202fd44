"""Checkpoints: what the validators tell the settlement contract about the state.

Rules (PROTOCOL.md P9)
    K1. The first block whose time is `checkpoint_interval_ms` after the last checkpoint (or after
        genesis) makes the next one, over the state after that block. The first has number 1.
    K2. Members of the set sign its EIP-712 digest (V2 of `evm`), each once. Exactly the signatures
        that made > 2/3 of the power certify it; those that come later are refused.
    K3. A certified checkpoint closes all older ones: the contract takes none that is older.
    K4. A checkpoint carries the settlement epoch (H1 of `handover`). When that changes, those that
        wait are dropped, as their set is gone, and the same block makes a new one.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from omninode.consensus.types import Hash, Signature, ValidatorSet
from omninode.crypto import recover_address
from omninode.dex.bridge.evm import SettlementDomain, checkpoint_digest
from omninode.dex.bridge.limits import PENDING_CHECKPOINTS_MAX
from omninode.errors import Malformed, Rejected

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """One checkpoint; roots are those of `merkle` trees over the leaves of `evm`.

    `state_root` is over what every subaccount owns, `withdrawal_root` over all withdrawals so far,
    `fee_root` over the fees that validators have collected; `deposit_count` and `deposit_hash` are
    the credited cursor.
    """

    number: _Count
    epoch: _Count
    height: _Count
    time_ms: _Count
    state_root: Hash
    withdrawal_root: Hash
    withdrawal_count: _Count
    fee_root: Hash
    deposit_count: _Count
    deposit_hash: Hash


class CertifiedCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """A checkpoint with > 2/3 of the power: (validator index, `r | s | v`), ascending by index."""

    checkpoint: Checkpoint
    signatures: tuple[tuple[_Count, Signature], ...]


class PendingCheckpoint:
    """A checkpoint that waits for signatures, by validator index; `digest` is what they are over.

    Args:
        checkpoint: The checkpoint.
        domain: The contract it is for.
        signatures: Those it has.
    """

    __slots__ = ("checkpoint", "digest", "signatures")

    def __init__(
        self,
        checkpoint: Checkpoint,
        domain: SettlementDomain,
        signatures: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.digest: Final = checkpoint_digest(checkpoint, domain)
        self.signatures: dict[int, bytes] = dict(signatures)


class Checkpoints:
    """The pending checkpoints and the newest certified one.

    Args:
        domain: The contract they are for.
        interval_ms: Least time between two.
        start_ms: The time of genesis.

    Attributes:
        pending: By number, ascending.
        certified: The newest that has its quorum.
        number: That of the newest one made; 0 before the first.
        time_ms: Its block's time; genesis time before the first.
        changed: Numbers whose record changed since the last `clear`.
        newly_certified: Whether `certified` changed since then.
    """

    def __init__(self, domain: SettlementDomain, *, interval_ms: int, start_ms: int) -> None:
        self.pending: Final[dict[int, PendingCheckpoint]] = {}
        self.certified: CertifiedCheckpoint | None = None
        self.number = 0
        self.time_ms = start_ms
        self.changed: Final[set[int]] = set()
        self.made = False
        self.newly_certified = False
        self._domain = domain
        self._interval_ms = interval_ms

    def is_due(self, time_ms: int) -> bool:
        """Whether the block of this time makes a checkpoint (K1)."""
        return time_ms - self.time_ms >= self._interval_ms

    def drop_pending(self) -> None:
        """Forget the checkpoints that wait for signatures (K4)."""
        for number in list(self.pending):
            self._drop(number)

    def add(self, checkpoint: Checkpoint) -> None:
        """Take the next checkpoint; the oldest beyond `PENDING_CHECKPOINTS_MAX` is dropped."""
        self.number, self.time_ms = checkpoint.number, checkpoint.time_ms
        self.made = True
        self.pending[checkpoint.number] = PendingCheckpoint(checkpoint, self._domain)
        self.changed.add(checkpoint.number)
        if len(self.pending) > PENDING_CHECKPOINTS_MAX:
            self._drop(next(iter(self.pending)))

    def sign(
        self, number: int, signature: bytes, *, signer: bytes, validator_set: ValidatorSet
    ) -> CertifiedCheckpoint | None:
        """Take a member's signature; returns the checkpoint if that certifies it (K2).

        Raises:
            Rejected: `checkpoint_closed` (or not made), `already_signed`, `bad_signature`, or
                `not_authorised` for one who is not of the checkpoint's set.
        """
        pending = self.pending.get(number)
        if pending is None:
            raise Rejected("checkpoint_closed", f"checkpoint {number} waits for no signatures")
        index = validator_set.index_of(signer)
        if index is None:
            raise Rejected("not_authorised", "not a validator of the checkpoint's epoch")
        if index in pending.signatures:
            raise Rejected("already_signed", f"checkpoint {number} has this signature")
        try:
            is_right = recover_address(pending.digest, signature) == signer
        except Malformed:
            is_right = False
        if not is_right:
            raise Rejected("bad_signature", f"not a signature of checkpoint {number}")
        pending.signatures[index] = signature
        self.changed.add(number)
        power = sum(validator_set.powers[signed] for signed in pending.signatures)
        return self._certify(pending) if validator_set.is_quorum(power) else None

    def _certify(self, pending: PendingCheckpoint) -> CertifiedCheckpoint:
        signatures = tuple(sorted(pending.signatures.items()))
        self.certified = CertifiedCheckpoint(pending.checkpoint, signatures)
        self.newly_certified = True
        for number in [n for n in self.pending if n <= pending.checkpoint.number]:  # K3
            self._drop(number)
        return self.certified

    def _drop(self, number: int) -> None:
        del self.pending[number]
        self.changed.add(number)

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.changed.clear()
        self.made = self.newly_certified = False
