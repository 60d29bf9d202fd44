"""The votes of one view: power behind equal votes, and contradictions.

Rules (consensus.md §1.5)
    E1. Two different notarize votes of one validator in a view contradict each other.
    E2. So do two different finalize votes.
    E3. So do a finalize and a nullify vote.
    E4. So do a finalize vote and a notarize vote for another block.
    E5. A contradiction is reported once per validator and view. The first vote of a kind counts, a
        second does not: honest validators alone are a quorum.
"""

from __future__ import annotations

from omninode.consensus.types import Certificate, Vote, VoteKind


class _KindVotes:
    """Votes of one kind: the first of each validator, and the power behind each block."""

    __slots__ = ("first", "power")

    def __init__(self) -> None:
        self.first: dict[int, Vote] = {}
        self.power: dict[bytes, int] = {}


class ViewVotes:
    """What was voted in one view. At most three votes a validator are kept."""

    __slots__ = ("_convicted", "_finalize", "_notarize", "_nullify", "_voters", "active_power")

    def __init__(self) -> None:
        self._notarize = _KindVotes()
        self._nullify = _KindVotes()
        self._finalize = _KindVotes()
        self._convicted: set[int] = set()
        self._voters: dict[bytes, int] = {}
        self.active_power = 0
        """Power of the validators that notarized or nullified here."""

    def _of(self, kind: VoteKind) -> _KindVotes:
        if kind is VoteKind.NOTARIZE:
            return self._notarize
        return self._finalize if kind is VoteKind.FINALIZE else self._nullify

    def holds(self, vote: Vote) -> bool:
        """Whether an equal vote of the same validator is held."""
        held = self._of(vote.kind).first.get(vote.validator)
        return held is not None and held.block_hash == vote.block_hash

    def knows(self, vote: Vote) -> bool:
        """Whether this very vote is held, signature and all."""
        return self._of(vote.kind).first.get(vote.validator) == vote

    def voters(self, block_hash: bytes) -> int:
        """Return the bitmap of those who notarized or finalized a block (`votes_seen`)."""
        return self._voters.get(block_hash, 0)

    def vote_for(self, block_hash: bytes, validator: int) -> Vote | None:
        """Return a validator's vote to notarize a block, or to finalize it."""
        for kind in (self._notarize, self._finalize):
            vote = kind.first.get(validator)
            if vote is not None and vote.block_hash == block_hash:
                return vote
        return None

    def is_convicted(self, validator: int) -> bool:
        """Whether this validator was seen to contradict itself here."""
        return validator in self._convicted

    def add(self, vote: Vote, power: int) -> int:
        """Count a vote; return the power behind it and its equals, 0 if it does not count (E5)."""
        votes = self._of(vote.kind)
        if vote.validator in votes.first:
            return 0
        if vote.kind is not VoteKind.FINALIZE and (
            vote.validator not in self._notarize.first and vote.validator not in self._nullify.first
        ):
            self.active_power += power
        votes.first[vote.validator] = vote
        if vote.kind is not VoteKind.NULLIFY:
            voters = self._voters.get(vote.block_hash, 0)
            self._voters[vote.block_hash] = voters | 1 << vote.validator
        total = votes.power.get(vote.block_hash, 0) + power
        votes.power[vote.block_hash] = total
        return total

    def contradicted(self, vote: Vote) -> Vote | None:
        """Return a held vote that `vote` contradicts, once per validator (E1–E5)."""
        validator = vote.validator
        if validator in self._convicted:
            return None
        rivals = [self._of(vote.kind).first.get(validator)]
        if vote.kind is VoteKind.FINALIZE:
            rivals += (self._nullify.first.get(validator), self._notarize.first.get(validator))
        else:
            rivals.append(self._finalize.first.get(validator))
        for rival in rivals:
            if rival is not None and rival.block_hash != vote.block_hash:
                self._convicted.add(validator)
                return rival
        return None

    def certificate(self, like: Vote) -> Certificate:
        """Gather all votes equal to `like`."""
        first = self._of(like.kind).first
        signers = sorted(i for i, vote in first.items() if vote.block_hash == like.block_hash)
        return Certificate(
            like.kind,
            like.epoch,
            like.view,
            like.block_hash,
            tuple(signers),
            tuple(first[i].signature for i in signers),
        )

    def of_validator(self, validator: int) -> list[Vote]:
        """Return the held votes of one validator."""
        kinds = (self._notarize, self._nullify, self._finalize)
        return [kind.first[validator] for kind in kinds if validator in kind.first]


def votes_in(certificate: Certificate) -> list[Vote]:
    """Return the votes that a certificate is made of."""
    return [
        Vote(
            certificate.kind,
            certificate.epoch,
            certificate.view,
            certificate.block_hash,
            signer,
            signature,
        )
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True)
    ]
