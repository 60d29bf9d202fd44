"""Whether we notarize the current view's proposal (PROTOCOL.md P2, P3).

Rules
    J1. A block that leads past the final one, does not follow its parent, or names another app hash
        than ours for a final height can never be valid: nullify. Nor can one whose seal is not the
        one that our own execution demands (P6), or that shows votes which it does not justify.
    J2. What is missing is asked for, and waited for as long as patience lasts: the parent, its
        notarization, the nullifications between the two, the finality of what the leader executed,
        the body, our own execution, the ancestors whose votes it shows.
    J3. A block ahead of our clock waits for the clock.
"""

from __future__ import annotations

import enum

from omninode.consensus.asking import Asking
from omninode.consensus.limits import CLOCK_AHEAD_MS_MAX
from omninode.consensus.state import State
from omninode.consensus.types import Block, Header, Proposal, VoteKind
from omninode.consensus.validity import follows
from omninode.consensus.votes_seen import is_justified


class Verdict(enum.Enum):
    """What to do about a proposal."""

    NOTARIZE = "notarize"
    NULLIFY = "nullify"
    WAIT = "wait"


class Judging:
    """Judges proposals of the current view."""

    def __init__(self, state: State, asking: Asking) -> None:
        self._state = state
        self._asking = asking

    def verdict(self, proposal: Proposal) -> Verdict:
        """Judge a proposal and ask for what is missing."""
        state, block = self._state, proposal.block
        header = block.header
        if header.parent_view < state.chain.final.view:  # J1
            return Verdict.NULLIFY
        parent = state.chain.header(header.parent_hash)
        if parent is None:
            self._asking.parent_of(header)  # J2
            return Verdict.WAIT
        if not follows(block, parent):  # J1
            return Verdict.NULLIFY
        if parent is not state.chain.final and not state.views.has(
            VoteKind.NOTARIZE, parent.view, parent.hash
        ):
            self._asking.certificates(parent.view - 1, parent.view, header.proposer)  # J2
            return Verdict.WAIT
        if not self._views_between_are_nullified(block):
            return Verdict.WAIT
        verdict = self._executed_verdict(block)
        if verdict is Verdict.NOTARIZE and (block.votes_seen or proposal.late_votes):
            return self._votes_seen_verdict(proposal, parent)
        return verdict

    def clock_wait_ms(self, block: Block) -> int:
        """How long until our clock allows the block, 0 if it does (J3)."""
        return max(block.header.time_ms - self._state.now_ms - CLOCK_AHEAD_MS_MAX, 0)

    def _views_between_are_nullified(self, block: Block) -> bool:
        header = block.header
        missing = self._state.views.last_not_nullified(header.view)
        if missing > header.parent_view:
            self._asking.certificates(header.parent_view, missing, header.proposer)  # J2
        return missing <= header.parent_view

    def _executed_verdict(self, block: Block) -> Verdict:
        state, header = self._state, block.header
        if header.executed_height > state.chain.final.height:
            view = header.executed_final_view
            self._asking.certificates(view - 1, view, header.proposer)  # J2
            return Verdict.WAIT
        ours = state.executed.hash_at(header.executed_height)
        if ours is not None and ours != header.app_hash:  # J1
            return Verdict.NULLIFY
        if ours is None:
            return Verdict.WAIT
        if header.seal != state.seal_due(header.executed_height):  # J1
            return Verdict.NULLIFY
        if not state.chain.is_ready(block.hash):
            return Verdict.WAIT
        return Verdict.WAIT if self.clock_wait_ms(block) else Verdict.NOTARIZE

    def _votes_seen_verdict(self, proposal: Proposal, parent: Header) -> Verdict:
        state = self._state
        ancestry, missing = state.chain.ancestry(parent.hash)
        if missing is not None:
            self._asking.block(missing, ancestry[-1].header.parent_view)  # J2
            return Verdict.WAIT
        count = len(state.validators.validators)
        justified = is_justified(proposal, parent, ancestry, count=count)
        return Verdict.NOTARIZE if justified else Verdict.NULLIFY  # J1
