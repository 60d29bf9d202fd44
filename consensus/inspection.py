"""What the rest of the node may read of a core; nothing here changes it."""

from __future__ import annotations

from omninode.consensus.asking import Asking
from omninode.consensus.effects import Halt
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.leaders import LeaderWatch
from omninode.consensus.limits import (
    VIEWS_AHEAD_MAX,
    VIEWS_KEPT_BEHIND_FINAL,
    VOTE_VIEWS_KEPT,
)
from omninode.consensus.state import State
from omninode.consensus.types import (
    Certificate,
    Header,
    NextEpoch,
    Proposal,
    ValidatorSet,
    Vote,
    VoteKind,
)


class Inspection:
    """The readable side of `Core`."""

    def __init__(self, state: State, watch: LeaderWatch, asking: Asking) -> None:
        self._state = state
        self._watch = watch
        self._asking = asking

    @property
    def me(self) -> int | None:
        """Our index in the validator set; `None` for an observer."""
        return self._state.me

    @property
    def validators(self) -> ValidatorSet:
        """The validator set of the epoch that consensus is in."""
        return self._state.validators

    @property
    def epoch(self) -> int:
        """The epoch that consensus is in."""
        return self._state.epoch

    @property
    def following(self) -> NextEpoch | None:
        """What the cut of our epoch decided, once it is executed (P6)."""
        return self._state.following

    @property
    def is_epoch_over(self) -> bool:
        """Whether the block that seals our epoch is final (P6)."""
        return self._state.is_over

    @property
    def fillers(self) -> tuple[Header, ...]:
        """What lies between the epoch's sealing block and its finalization, once it is final."""
        return self._state.fillers

    @property
    def epoch_end(self) -> EpochProof | None:
        """How our epoch ended; `None` until its sealing block is final and executed (P6)."""
        state, header = self._state, self._state.chain.final
        certificate, following = state.final_certificate, state.following
        if not state.is_over or state.executed.height < header.height or state.halted is not None:
            return None
        if certificate is None or following is None:
            return None
        return EpochProof(header, state.fillers, certificate, following.validators)

    @property
    def view(self) -> int:
        """The current view."""
        return self._state.view

    @property
    def leader(self) -> int:
        """The index of the current view's leader."""
        return self._state.leader

    @property
    def final_header(self) -> Header:
        """The newest final block's header."""
        return self._state.chain.final

    @property
    def final_height(self) -> int:
        """The newest final block's height."""
        return self._state.chain.final.height

    @property
    def final_certificate(self) -> Certificate | None:
        """The newest finalization; `None` at genesis."""
        return self._state.final_certificate

    @property
    def executed_height(self) -> int:
        """The newest executed block's height."""
        return self._state.executed.height

    @property
    def is_armed(self) -> bool:
        """Whether this validator votes (P7)."""
        return self._state.armed

    @property
    def halted(self) -> Halt | None:
        """Why this core stopped for good."""
        return self._state.halted

    def leader_of(self, view: int) -> int:
        """Return the index of the validator that leads a view."""
        return self._state.schedule.leader(view)

    def holds_block(self, block_hash: bytes) -> bool:
        """Whether a block above the final one has not been given up."""
        return self._state.chain.block(block_hash) is not None

    def votes_in_view(self) -> list[tuple[VoteKind, ...]]:
        """Return, by validator, the kinds of votes seen in the current view."""
        votes = self._state.views.votes(self._state.view)
        count = len(self._state.validators.validators)
        return [tuple(v.kind for v in votes.of_validator(i)) for i in range(count)]

    def knows_vote(self, vote: Vote) -> bool:
        """Whether this very vote is held, so that its signature is known to be right."""
        record = self._state.views.find(vote.view)
        return (
            vote.epoch == self._state.epoch
            and record is not None
            and record.votes is not None
            and record.votes.knows(vote)
        )

    def waiting_for(self) -> str:
        """Say in one word what the current view waits for."""
        state = self._state
        if state.halted is not None:
            return "halted"
        if state.is_over:
            return "execution"
        if state.pending_final is not None:
            return "blocks"
        if state.own is None:
            return "proposal"
        if not state.armed:
            return "memory"
        votes = state.own.of(state.view)
        if VoteKind.NULLIFY in votes:
            return "nullification"
        return "notarization" if VoteKind.NOTARIZE in votes else "proposal"

    def wants_vote(self, vote: Vote) -> bool:
        """Whether a vote whose signature is not verified yet could tell us anything."""
        view = vote.view
        if view < self.view and (vote.kind is VoteKind.NULLIFY or self._state.is_settled()):
            return True
        if not self._is_in_window(view):
            return view > self.view
        if view >= self.view - 1 and self._watch.is_quiet(vote.validator):
            return True
        record = self._state.views.find(view)
        votes = None if record is None else record.votes
        if votes is not None and (votes.holds(vote) or votes.is_convicted(vote.validator)):
            return False
        return not self._state.views.has(vote.kind, view, vote.block_hash)

    def wants_certificate(self, certificate: Certificate) -> bool:
        """Whether a certificate whose signatures are not verified yet could tell us anything."""
        oldest = self.final_header.view - VIEWS_KEPT_BEHIND_FINAL
        return certificate.view > oldest and not self._state.views.has(
            certificate.kind, certificate.view, certificate.block_hash
        )

    def wants_proposal(self, proposal: Proposal) -> bool:
        """Whether a proposal whose signatures are not verified yet could tell us anything."""
        header = proposal.block.header
        if header.view <= self.final_header.view:
            return False
        record = self._state.views.find(header.view)
        if record is None or record.proposal is None:
            return True
        is_known = record.votes is not None and record.votes.is_convicted(header.proposer)
        return record.proposal.block.hash != header.hash and not is_known

    def _is_in_window(self, view: int) -> bool:
        """Whether votes of this view are kept: every peer can fill a bounded memory only."""
        if view > self.view + VIEWS_AHEAD_MAX:
            return False
        oldest = max(self.final_header.view - VIEWS_KEPT_BEHIND_FINAL, self.view - VOTE_VIEWS_KEPT)
        return view > oldest or self._asking.is_expected(view)
