"""Handovers: how the settlement contract learns that other validators sign from now on.

Rules (PROTOCOL.md P6, P9)
    H1. The contract knows a set by its words, addresses with powers (V3 of `evm`). The settlement
        epoch is the epoch in which the words last changed; checkpoints carry it. An epoch that
        changes nothing about the words is none to the contract.
    H2. The members of the set that hands over sign the EIP-712 digest, from the cut that decided
        the next set on, also after they have left. Exactly the signatures that made > 2/3 of that
        set's power certify it; those that come later are refused.
    H3. Handovers form a chain from genesis to now, and the contract takes them one after the other.
        While `PENDING_HANDOVERS_MAX` wait for signatures, the next one takes the place of the
        newest of them, from the same set to a later one: so the chain is never broken.
    H4. Of those certified the newest `HANDOVERS_KEPT` are kept.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from omninode.consensus.types import Hash, Signature, ValidatorSet
from omninode.crypto import ADDRESS_BYTES, recover_address
from omninode.dex.bridge.evm import (
    SettlementDomain,
    handover_digest,
    validator_set_hash,
    validator_set_words,
)
from omninode.dex.bridge.limits import HANDOVERS_KEPT, PENDING_HANDOVERS_MAX
from omninode.errors import Malformed, Rejected

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Words = tuple[Hash, ...]
"""A set as the contract takes it."""


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """From the set of `words`, which the contract knows under `epoch`, to the set of a hash."""

    epoch: _Count
    words: Words
    next_epoch: _Count
    next_set_hash: Hash


class CertifiedHandover(msgspec.Struct, frozen=True, array_like=True):
    """A handover with > 2/3 of the power: (place in `words`, `r | s | v`), ascending by place."""

    handover: Handover
    signatures: tuple[tuple[_Count, Signature], ...]


class PendingHandover:
    """A handover that waits for signatures, by place in its words; `digest` is what they are over.

    Args:
        handover: The handover.
        domain: The contract it is for.
        signatures: Those it has.
    """

    __slots__ = ("_powers", "digest", "handover", "signatures")

    def __init__(
        self,
        handover: Handover,
        domain: SettlementDomain,
        signatures: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        self.handover = handover
        self.digest: Final = handover_digest(
            handover.epoch,
            next_epoch=handover.next_epoch,
            next_set_hash=handover.next_set_hash,
            domain=domain,
        )
        self.signatures: dict[int, bytes] = dict(signatures)
        self._powers = [int.from_bytes(word[ADDRESS_BYTES:], "big") for word in handover.words]

    def index_of(self, address: bytes) -> int | None:
        """Return the place of a member of the set that hands over."""
        for index, word in enumerate(self.handover.words):
            if word[:ADDRESS_BYTES] == address:
                return index
        return None

    def awaits(self, address: bytes) -> bool:
        """Whether it is a member's turn to sign."""
        index = self.index_of(address)
        return index is not None and index not in self.signatures

    @property
    def has_quorum(self) -> bool:
        """Whether > 2/3 of the power has signed."""
        signed = sum(self._powers[index] for index in self.signatures)
        return 3 * signed > 2 * sum(self._powers)


class Handovers:
    """The settlement epoch, and the handovers that lead to it.

    Args:
        domain: The contract they are for.
        validator_set: That of genesis.

    Attributes:
        epoch: The settlement epoch (H1).
        words: Those of its set.
        pending: Handovers that wait for signatures, by the epoch they lead to, ascending.
        certified: Those that have their quorum, by the epoch they come from, ascending.
        changed: Epochs whose record in `pending` changed since the last `clear`.
        newly_certified: The same for `certified`.
        moved: Whether the settlement epoch did.
    """

    def __init__(self, domain: SettlementDomain, validator_set: ValidatorSet) -> None:
        self.epoch = validator_set.epoch
        self.words: Words = validator_set_words(validator_set)
        self.pending: Final[dict[int, PendingHandover]] = {}
        self.certified: Final[dict[int, CertifiedHandover]] = {}
        self.changed: Final[set[int]] = set()
        self.newly_certified: Final[set[int]] = set()
        self.moved = False
        self._domain = domain
        self._seen = validator_set
        self._first = (self.epoch, validator_set_hash(self.epoch, self.words))

    @property
    def is_first(self) -> bool:
        """Whether the settlement epoch is that of genesis."""
        return self.epoch == self._first[0]

    def set_hash(self, epoch: int) -> bytes | None:
        """Return the hash of a settlement epoch's set, as far as it is known here."""
        if epoch == self.epoch:
            return validator_set_hash(self.epoch, self.words)
        handovers = [pending.handover for pending in self.pending.values()]
        handovers += [certified.handover for certified in self.certified.values()]
        for handover in handovers:
            if epoch == handover.next_epoch:
                return handover.next_set_hash
            if epoch == handover.epoch:
                return validator_set_hash(epoch, handover.words)
        return self._first[1] if epoch == self._first[0] else None

    def words_of(self, epoch: int) -> Words | None:
        """Return the words of a settlement epoch's set, as far as they are known here."""
        if epoch == self.epoch:
            return self.words
        handovers = [pending.handover for pending in self.pending.values()]
        handovers += [certified.handover for certified in self.certified.values()]
        return next((found.words for found in handovers if found.epoch == epoch), None)

    def propose(self, next_set: ValidatorSet) -> None:
        """Have the current set sign that this one follows it (H2); again does no harm."""
        words = validator_set_words(next_set)
        if words == self.words or next_set.epoch in self.pending:
            return
        if self._is_certified(next_set.epoch):
            return
        epoch, signers = self.epoch, self.words
        if len(self.pending) >= PENDING_HANDOVERS_MAX:  # H3
            newest = self.pending.pop(max(self.pending)).handover
            self.changed.add(newest.next_epoch)
            epoch, signers = newest.epoch, newest.words
        next_hash = validator_set_hash(next_set.epoch, words)
        handover = Handover(epoch, signers, next_set.epoch, next_hash)
        self.pending[next_set.epoch] = PendingHandover(handover, self._domain)
        self.changed.add(next_set.epoch)

    def move(self, validator_set: ValidatorSet) -> bool:
        """Take the set of the newest block; returns whether the settlement epoch changed (H1)."""
        if validator_set is self._seen:
            return False
        self._seen = validator_set
        words = validator_set_words(validator_set)
        if words == self.words:
            return False
        self.propose(validator_set)
        self.epoch, self.words = validator_set.epoch, words
        self.moved = True
        return True

    def awaits(self, address: bytes) -> bool:
        """Whether any handover waits for this address, validator now or not (H2)."""
        return any(pending.awaits(address) for pending in self.pending.values())

    def sign(self, next_epoch: int, signature: bytes, *, signer: bytes) -> CertifiedHandover | None:
        """Take a member's signature; returns the handover if that certifies it (H2).

        Raises:
            Rejected: `handover_closed` (or never proposed), `not_authorised` for one who is not of
                the set that hands over, `already_signed`, or `bad_signature`.
        """
        pending = self.pending.get(next_epoch)
        if pending is None:
            raise Rejected("handover_closed", f"no handover to epoch {next_epoch} waits")
        index = pending.index_of(signer)
        if index is None:
            raise Rejected("not_authorised", "not a validator of the set that hands over")
        if index in pending.signatures:
            raise Rejected("already_signed", f"the handover to {next_epoch} has this signature")
        try:
            is_right = recover_address(pending.digest, signature) == signer
        except Malformed:
            is_right = False
        if not is_right:
            raise Rejected("bad_signature", f"not a signature of the handover to {next_epoch}")
        pending.signatures[index] = signature
        self.changed.add(next_epoch)
        return self._certify(pending) if pending.has_quorum else None

    def after(self, epoch: int) -> CertifiedHandover | None:
        """Return what leads on from a settlement epoch that is over, if it has its quorum."""
        found = self.certified.get(epoch)
        return found if found is not None and found.handover.next_epoch <= self.epoch else None

    def load(
        self,
        current: tuple[int, Words] | None,
        pending: dict[int, PendingHandover],
        certified: dict[int, CertifiedHandover],
    ) -> None:
        """Take back stored records, both kinds ascending."""
        if current is not None:
            self.epoch, self.words = current
        self.pending.update(pending)
        self.certified.update(certified)

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.changed.clear()
        self.newly_certified.clear()
        self.moved = False

    def _is_certified(self, next_epoch: int) -> bool:
        return any(c.handover.next_epoch == next_epoch for c in self.certified.values())

    def _certify(self, pending: PendingHandover) -> CertifiedHandover:
        handover = pending.handover
        certified = CertifiedHandover(handover, tuple(sorted(pending.signatures.items())))
        del self.pending[handover.next_epoch]
        self.certified[handover.epoch] = certified
        self.newly_certified.add(handover.epoch)
        while len(self.certified) > HANDOVERS_KEPT:  # H4
            oldest = min(self.certified)
            del self.certified[oldest]
            self.newly_certified.add(oldest)
        return certified
