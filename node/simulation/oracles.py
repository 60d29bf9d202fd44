"""What must hold in every schedule, judged without the core's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from omninode.consensus.core import Core
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    NextEpoch,
    Seal,
    Vote,
    VoteKind,
)

FINAL_VIEWS, VIEWS_BEHIND, VIEWS_AHEAD = 16, 64, 32
"""The views in which a contradiction must not be missed: some final ones, and around the own."""
N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


class Violation(AssertionError):
    """An oracle says no."""


def name_of(vote: Vote) -> str:
    """Return a vote as people read it."""
    block = "" if vote.kind is X else f" for block {vote.block_hash.hex()[:8]}"
    return f"v{vote.validator}'s {vote.kind.name.lower()} vote{block} in view {vote.view}"


def contradict(a: Vote, b: Vote) -> bool:
    """The slashing conditions of consensus.md §1.5, written out pair by pair."""
    if (a.validator, a.epoch, a.view) != (b.validator, b.epoch, b.view):
        return False
    kinds = {a.kind, b.kind}
    differ = a.block_hash != b.block_hash
    return (
        (kinds == {N} and differ)
        or (kinds == {F} and differ)
        or kinds == {F, X}
        or (kinds == {F, N} and differ)
    )


@dataclass
class Agreement:
    """No two honest nodes call different blocks final at a height, or get different app hashes."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    app_hashes: dict[int, bytes] = field(default_factory=dict)
    fork_at: int | None = None

    def final(self, block: Block) -> None:
        """Take what an honest node calls final."""
        height = block.header.height
        known = self.blocks.setdefault(height, block.hash)
        if known != block.hash:
            self.fork_at = height

    def executed(self, height: int, app_hash: bytes) -> None:
        """Take what an honest node executed."""
        known = self.app_hashes.setdefault(height, app_hash)
        if known != app_hash and self.fork_at is None:
            raise Violation(f"two app hashes at height {height}")

    @property
    def height(self) -> int:
        """The greatest height that anybody honest called final."""
        return max(self.blocks, default=0)


@dataclass
class Once:
    """A transaction has its effect once, and what was acknowledged is not lost."""

    acknowledged: set[bytes] = field(default_factory=set)
    """Told `received` and not executed yet."""
    executed: set[bytes] = field(default_factory=set)
    effective: set[bytes] = field(default_factory=set)
    height: int = 0

    def block(self, height: int, ids: Iterable[bytes], effective: Iterable[bytes]) -> None:
        """Take an executed block; only the first of each height counts."""
        if height != self.height + 1:
            return
        self.height = height
        self.executed.update(ids)
        self.acknowledged.difference_update(self.executed)
        for transaction_id in effective:
            if transaction_id in self.effective:
                raise Violation(f"{transaction_id.hex()[:8]} has its effect again at {height}")
            self.effective.add(transaction_id)

    def acknowledge(self, transaction_id: bytes) -> None:
        """Take what a client was told."""
        if transaction_id not in self.executed:
            self.acknowledged.add(transaction_id)


@dataclass
class Seals:
    """Every block whose leader had executed the epoch's cut seals the epoch, and no other (P6)."""

    decided: dict[int, Seal] = field(default_factory=dict)
    """By epoch, what executing its cut decided."""

    def executed(self, header: Header, following: NextEpoch | None) -> None:
        """Take an executed block, and what the state decided then."""
        seal = self.decided.get(header.epoch)
        is_due = seal is not None and header.executed_height >= seal.cut_height
        if header.seal != (seal if is_due else None):
            raise Violation(f"wrong or missing seal at height {header.height}")
        if following is not None:
            known = self.decided.setdefault(header.epoch, following.seal)
            if known != following.seal:
                raise Violation(f"two ends of epoch {header.epoch} at height {header.height}")


@dataclass
class GuardModel:
    """What one honest validator may sign: the rules of consensus.md §1.4, in its own words."""

    validator: int
    signed: dict[tuple[int, int, VoteKind], bytes] = field(default_factory=dict)

    def bound(self, vote: Vote) -> None:
        """Take a vote that became durable or was sent."""
        if vote.validator != self.validator:
            raise Violation(f"v{self.validator} signed {name_of(vote)}")
        known = self.signed.setdefault((vote.epoch, vote.view, vote.kind), vote.block_hash)
        if known != vote.block_hash:
            raise Violation(f"signed against another block: {name_of(vote)}")
        here = {kind: self.signed.get((vote.epoch, vote.view, kind)) for kind in VoteKind}
        if here[F] is not None and here[X] is not None:
            raise Violation(f"v{self.validator} finalized and nullified view {vote.view}")
        if here[F] is not None and here[N] is not None and here[F] != here[N]:
            raise Violation(f"notarized another block: {name_of(vote)}")


@dataclass
class VoteBook:
    """All votes that honest nodes received: who can be convicted by them?"""

    votes: dict[tuple[int, int], list[Vote]] = field(default_factory=dict)
    convicted: set[int] = field(default_factory=set)

    def saw(self, vote: Vote) -> None:
        """Take a vote that somebody honest received."""
        known = self.votes.setdefault((vote.view, vote.validator), [])
        if vote in known:
            return
        if any(contradict(vote, other) for other in known):
            self.convicted.add(vote.validator)
        known.append(vote)

    def saw_certificate(self, certificate: Certificate) -> None:
        """Take the votes of a certificate."""
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
            self.saw(
                Vote(
                    certificate.kind,
                    certificate.epoch,
                    certificate.view,
                    certificate.block_hash,
                    signer,
                    signature,
                )
            )


class EvidenceDue:
    """What one node has to report: contradictions among the votes that it took in since it booted.

    Its own votes and views that it may have forgotten are left out.
    """

    def __init__(self, validator: int) -> None:
        self._validator = validator
        self._seen: dict[tuple[int, int], list[Vote]] = {}
        self._reported: set[tuple[int, int]] = set()

    def fed(self, vote: Vote, core: Core) -> bool:
        """Note a vote that goes into the core; whether it contradicts an earlier one."""
        oldest = max(core.final_header.view - FINAL_VIEWS, core.view - VIEWS_BEHIND)
        if not oldest < vote.view <= core.view + VIEWS_AHEAD or vote.validator == self._validator:
            return False
        known = self._seen.setdefault((vote.view, vote.validator), [])
        is_due = any(contradict(vote, other) for other in known)
        known.append(vote)
        return is_due

    def reported(self, vote: Vote) -> None:
        """Note that a validator was reported for a view."""
        self._reported.add((vote.view, vote.validator))

    def check(self, vote: Vote) -> None:
        """Judge that the validator of this vote was reported for its view."""
        if (vote.view, vote.validator) not in self._reported:
            raise Violation(
                f"v{self._validator} saw {name_of(vote)} contradict another one and kept silent"
            )


def check_evidence(first: Vote, second: Vote, honest: Iterable[int]) -> None:
    """Evidence must convict, and nobody honest."""
    if not contradict(first, second):
        raise Violation(f"no evidence at all: {name_of(first)}, {name_of(second)}")
    if first.validator in honest:
        raise Violation(f"somebody honest framed: {name_of(first)}, {name_of(second)}")


def check_quorum(certificate: Certificate, powers: Sequence[int]) -> None:
    """An honest node shows certificates only that are what they claim to be."""
    signers = certificate.signers
    if list(signers) != sorted(set(signers)) or len(signers) != len(certificate.signatures):
        raise Violation(f"signers of a certificate: {signers}")
    if 3 * sum(powers[i] for i in signers) <= 2 * sum(powers):
        raise Violation(f"a certificate of {signers} without a quorum")
