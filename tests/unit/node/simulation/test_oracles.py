"""Each oracle says no to what it is there for, and to nothing else."""

from __future__ import annotations

from itertools import product

import pytest

from omninode.consensus.types import Certificate, Vote, VoteKind
from omninode.crypto import ZERO_HASH
from omninode.node.simulation.oracles import (
    Agreement,
    GuardModel,
    Once,
    Violation,
    VoteBook,
    check_evidence,
    check_quorum,
    contradict,
)
from omninode.node.simulation.signing import signed_vote

A, B = bytes([1]) * 32, bytes([2]) * 32
N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE
VOTES = [(N, A), (N, B), (F, A), (F, B), (X, ZERO_HASH)]
PAIRS = list(product(VOTES, VOTES))
CONTRADICTIONS = [
    {(N, A), (N, B)},
    {(F, A), (F, B)},
    {(F, A), (X, ZERO_HASH)},
    {(F, B), (X, ZERO_HASH)},
    {(F, A), (N, B)},
    {(F, B), (N, A)},
]


def vote(kind: VoteKind, block_hash: bytes, *, view: int = 7, by: int = 2) -> Vote:
    return signed_vote(kind, view, block_hash, by=by)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_contradicts(first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes]) -> None:
    expected = {first, second} in CONTRADICTIONS
    assert contradict(vote(*first), vote(*second)) is expected
    assert not contradict(vote(*first), vote(*second, view=8))
    assert not contradict(vote(*first), vote(*second, by=3))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_guard_model_refuses_contradictions(
    first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes]
) -> None:
    model = GuardModel(2)
    model.bound(vote(*first))
    if {first, second} in CONTRADICTIONS:
        with pytest.raises(Violation):
            model.bound(vote(*second))
    else:
        model.bound(vote(*second))
    with pytest.raises(Violation):
        model.bound(vote(X, ZERO_HASH, by=1))


def test_the_book_convicts_by_votes_and_by_certificates() -> None:
    book = VoteBook()
    book.saw(vote(N, A))
    book.saw(vote(X, ZERO_HASH))
    assert book.convicted == set()
    signed = vote(N, B)
    book.saw_certificate(Certificate(N, 0, 7, B, (2,), (signed.signature,)))
    assert book.convicted == {2}


def test_evidence_must_convict_and_nobody_honest() -> None:
    check_evidence(vote(N, A), vote(N, B), honest={0, 1})
    with pytest.raises(Violation, match="no evidence"):
        check_evidence(vote(N, A), vote(X, ZERO_HASH), honest={0, 1})
    with pytest.raises(Violation, match="framed"):
        check_evidence(vote(N, A), vote(N, B), honest={2})


@pytest.mark.parametrize(
    ("signers", "is_right"),
    [((0, 1, 2), True), ((0, 1), False), ((0, 2, 1), False), ((1, 1, 2), False), ((1, 2), False)],
)
def test_a_certificate_needs_more_than_two_thirds(signers: tuple[int, ...], is_right: bool) -> None:
    signatures = tuple(vote(N, A, by=i).signature for i in signers)
    certificate = Certificate(N, 0, 7, A, signers, signatures)
    if is_right:
        check_quorum(certificate, (1, 1, 1))
        return
    with pytest.raises(Violation):
        check_quorum(certificate, (1, 1, 1))


def test_two_app_hashes_at_a_height() -> None:
    agreement = Agreement()
    agreement.executed(1, A)
    agreement.executed(1, A)
    with pytest.raises(Violation, match="height 1"):
        agreement.executed(1, B)


def test_a_transaction_has_its_effect_once_and_is_not_lost() -> None:
    once = Once()
    once.acknowledge(A)
    assert once.acknowledged == {A}
    once.block(1, [A, B], [A])
    once.block(1, [A, B], [A])  # Another node, the same block.
    assert once.acknowledged == set()
    once.acknowledge(B)
    assert once.acknowledged == set(), "executed before the client heard"
    once.block(2, [A], [])
    with pytest.raises(Violation, match="again at 3"):
        once.block(3, [A], [A])
