"""Tally and evidence (consensus.md §1.5)."""

from __future__ import annotations

import pytest

from consensus_script import F, N, World, X
from omninode.consensus.types import Vote, VoteKind
from omninode.consensus.votes import ViewVotes, votes_in

WORLD = World()
A, B = WORLD.block(3), WORLD.block(3, time_ms=WORLD.genesis.time_ms + 77)


def vote(kind: VoteKind, block: object = None, by: int = 1) -> Vote:
    return WORLD.vote(kind, 3, by, block)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "convicts"),
    [
        (vote(N, A), vote(N, B), True),
        (vote(F, A), vote(F, B), True),
        (vote(F, A), vote(X), True),
        (vote(F, A), vote(N, B), True),
        (vote(N, A), vote(X), False),
        (vote(N, A), vote(F, A), False),
        (vote(X), vote(X), False),
        (vote(N, A, by=1), vote(N, B, by=2), False),
    ],
)
def test_evidence(first: Vote, second: Vote, *, convicts: bool) -> None:
    for a, b in ((first, second), (second, first)):
        votes = ViewVotes()
        assert votes.contradicted(a) is None
        votes.add(a, 1)
        assert (votes.contradicted(b) == a) == convicts
        votes.add(b, 1)
        assert votes.contradicted(b) is None, "once per validator and view"


def test_power_adds_up_by_block_and_a_second_vote_does_not_count() -> None:
    votes = ViewVotes()
    assert votes.add(vote(N, A, by=0), 3) == 3
    assert votes.add(vote(N, B, by=1), 4) == 4
    assert votes.add(vote(N, A, by=2), 5) == 8
    assert votes.add(vote(N, A, by=2), 5) == 0
    assert votes.add(vote(N, A, by=1), 4) == 0
    assert votes.active_power == 12
    certificate = votes.certificate(vote(N, A))
    assert certificate.signers == (0, 2)
    assert votes_in(certificate) == [vote(N, A, by=0), vote(N, A, by=2)]


def test_at_work_are_those_that_notarize_or_nullify() -> None:
    votes = ViewVotes()
    votes.add(vote(F, A, by=0), 3)
    assert votes.active_power == 0
    votes.add(vote(N, A, by=0), 3)
    votes.add(vote(X, by=0), 3)
    assert votes.active_power == 3
