"""S1–S5, by every pair of votes in a view."""

from __future__ import annotations

from itertools import product

import pytest

from consensus_script import F, N, World, X
from omninode.consensus.limits import GUARD_VIEWS_MAX, OWN_VOTE_VIEWS
from omninode.consensus.own_votes import OwnVotes
from omninode.consensus.types import VoteKind
from omninode.crypto import ZERO_HASH

A, B = b"a" * 32, b"b" * 32
CHOICES = [(N, A), (N, B), (F, A), (F, B), (X, ZERO_HASH)]
ALLOWED = {
    ((N, A), (F, A)),
    ((N, B), (F, B)),
    ((F, A), (N, A)),
    ((F, B), (N, B)),
    ((N, A), (X, ZERO_HASH)),
    ((N, B), (X, ZERO_HASH)),
}


def make(floor_view: int = 0) -> OwnVotes:
    world = World()
    return OwnVotes(
        genesis_hash=world.genesis.genesis_hash,
        epoch=0,
        me=1,
        signer=world.signer(1),
        floor_view=floor_view,
    )


@pytest.mark.parametrize(("first", "second"), list(product(CHOICES, CHOICES)))
def test_pairs_of_votes(first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes]) -> None:
    own = make()
    assert own.sign(first[0], 5, first[1]) is not None
    allowed = (first, second) in ALLOWED
    assert (own.sign(second[0], 5, second[1]) is not None) == allowed
    again = make()
    replayed = own.of(5)[first[0]]
    assert again.remember(replayed)
    assert (again.sign(second[0], 5, second[1]) is not None) == allowed


def test_the_floor_and_the_window(seed: int) -> None:
    own = make(floor_view=10)
    assert own.sign(X, 9, ZERO_HASH) is None
    assert own.sign(X, 10, ZERO_HASH) is not None
    assert own.sign(X, 500, ZERO_HASH) is not None
    assert own.sign(F, 500 - OWN_VOTE_VIEWS, A) is not None
    assert own.sign(F, 499 - OWN_VOTE_VIEWS, A) is None
    own.memory_floor_view = 600
    assert own.sign(X, 599, ZERO_HASH) is None
    assert OWN_VOTE_VIEWS < GUARD_VIEWS_MAX, "the guard knows every view that we may vote in"


def test_memory_is_bounded() -> None:
    own = make()
    for view in range(1, 5_000):
        assert own.sign(X, view, ZERO_HASH) is not None
    assert len(own._votes) <= OWN_VOTE_VIEWS + 1
    assert X in own.of(4_999)


def test_a_foreign_vote_is_not_ours() -> None:
    assert not make().remember(World().vote(X, 3, 2))
