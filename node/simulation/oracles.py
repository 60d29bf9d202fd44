"""What must hold in every schedule, judged without the core's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from omninode.consensus.types import Block, Certificate, Vote, VoteKind

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


class Violation(AssertionError):
    """An oracle says no."""


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
class GuardModel:
    """What one honest validator may sign: the rules of consensus.md §1.4, in its own words."""

    validator: int
    signed: dict[tuple[int, VoteKind], bytes] = field(default_factory=dict)

    def bound(self, vote: Vote) -> None:
        """Take a vote that became durable or was sent."""
        if vote.validator != self.validator:
            raise Violation(f"{self.validator} signed a vote of {vote.validator}")
        known = self.signed.setdefault((vote.view, vote.kind), vote.block_hash)
        if known != vote.block_hash:
            raise Violation(f"{self.validator} signed {vote.kind} twice in view {vote.view}")
        here = {kind: self.signed.get((vote.view, kind)) for kind in VoteKind}
        if here[F] is not None and here[X] is not None:
            raise Violation(f"{self.validator} finalized and nullified view {vote.view}")
        if here[F] is not None and here[N] is not None and here[F] != here[N]:
            raise Violation(f"{self.validator} finalized another block in view {vote.view}")


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


def check_evidence(first: Vote, second: Vote, honest: Iterable[int]) -> None:
    """Evidence must convict, and nobody honest."""
    if not contradict(first, second):
        raise Violation(f"no evidence at all: {first} {second}")
    if first.validator in honest:
        raise Violation(f"honest validator {first.validator} framed: {first} {second}")


def check_quorum(certificate: Certificate, powers: Sequence[int]) -> None:
    """An honest node shows certificates only that are what they claim to be."""
    signers = certificate.signers
    if list(signers) != sorted(set(signers)) or len(signers) != len(certificate.signatures):
        raise Violation(f"signers of a certificate: {signers}")
    if 3 * sum(powers[i] for i in signers) <= 2 * sum(powers):
        raise Violation(f"a certificate of {signers} without a quorum")
