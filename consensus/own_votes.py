"""The only place where a vote is signed.

Rules (consensus.md §1.4)
    S1. One vote of a kind in a view.
    S2. No notarize vote after a nullify vote.
    S3. Finalize and nullify exclude each other.
    S4. No finalize vote for another block than the one notarized; nor the other way round.
    S5. No vote below a floor (of the guard, or of what the peers remember: `arming.py`), nor in a
        view so far below the newest own vote that its votes may be forgotten.

The signer guard judges the same rules again, on a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from omninode.consensus.limits import OWN_VOTE_VIEWS
from omninode.consensus.types import Vote, VoteKind, vote_digest

Signer = Callable[[bytes], bytes]
"""Signs a 32-byte digest; 65 bytes, the same for the same digest."""

_NONE: Final[Mapping[VoteKind, Vote]] = MappingProxyType({})


class OwnVotes:
    """Remembers what this validator signed, and signs what does not contradict it."""

    def __init__(
        self, *, genesis_hash: bytes, epoch: int, me: int, signer: Signer, floor_view: int
    ) -> None:
        self._genesis_hash = genesis_hash
        self._epoch = epoch
        self.me: Final = me
        self._signer = signer
        self._votes: dict[int, dict[VoteKind, Vote]] = {}
        self.floor_view = floor_view
        self.memory_floor_view = 0
        self.newest_view = 0

    def of(self, view: int) -> Mapping[VoteKind, Vote]:
        """Return the own votes of a view by kind."""
        return self._votes.get(view, _NONE)

    def sign(self, kind: VoteKind, view: int, block_hash: bytes) -> Vote | None:
        """Sign a vote, or return `None` if a rule forbids it."""
        if not self.may_sign_in(view):  # S5
            return None
        if not self._allowed(kind, block_hash, self.of(view)):
            return None
        digest = vote_digest(
            self._genesis_hash, kind, epoch=self._epoch, view=view, block_hash=block_hash
        )
        vote = Vote(kind, self._epoch, view, block_hash, self.me, self._signer(digest))
        self._keep(vote)
        return vote

    def may_sign_in(self, view: int) -> bool:
        """Whether the view is above all floors (S5)."""
        return not self.is_forgotten(view) and view >= self.memory_floor_view

    def is_forgotten(self, view: int) -> bool:
        """Whether the view is so old that nothing may be signed in it any more (S5)."""
        return view < max(self.floor_view, self.newest_view - OWN_VOTE_VIEWS)

    def remember(self, vote: Vote) -> bool:
        """Take back a vote signed earlier; false if it is known or contradicts another one."""
        earlier = self.of(vote.view)
        if vote.validator != self.me or not self._allowed(vote.kind, vote.block_hash, earlier):
            return False
        self._keep(vote)
        return True

    def contradicts(self, vote: Vote) -> bool:
        """Whether an own vote with our signature does not fit to what we remember."""
        earlier = self.of(vote.view)
        same = earlier.get(vote.kind)
        if same is not None:
            return same.block_hash != vote.block_hash
        return not self._allowed(vote.kind, vote.block_hash, earlier)

    def _allowed(self, kind: VoteKind, block_hash: bytes, earlier: Mapping[VoteKind, Vote]) -> bool:
        if kind in earlier:  # S1
            return False
        if kind is VoteKind.NULLIFY:
            return VoteKind.FINALIZE not in earlier  # S3
        if VoteKind.NULLIFY in earlier:  # S2, S3
            return False
        other = VoteKind.NOTARIZE if kind is VoteKind.FINALIZE else VoteKind.FINALIZE
        return other not in earlier or earlier[other].block_hash == block_hash  # S4

    def _keep(self, vote: Vote) -> None:
        self._votes.setdefault(vote.view, {})[vote.kind] = vote
        if vote.view > self.newest_view:
            self.newest_view = vote.view
            oldest = vote.view - OWN_VOTE_VIEWS
            if len(self._votes) > OWN_VOTE_VIEWS:
                for view in [v for v in self._votes if v < oldest]:
                    del self._votes[view]
