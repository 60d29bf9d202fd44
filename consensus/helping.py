"""Answers to peers that lack certificates or their memory (P2, P7): bounded pages and rate.

Rules
    H1. A peer that asks about final views gets our newest finalization, which takes it past all of
        them; whatever it asks about, once that ends the epoch (P6).
    H2. For each further view of one page, newest first, it gets the certificates of the view, or
        our own votes where there are none. So an answer cut short is still a step for the asker.
    H3. A peer has a credit of signatures that refills with time; beyond it nothing is answered.
    H4. A validator that votes in a view that is long over, or nullifies it again, has been left
        behind: it gets what leads to our view.
    H5. A restarted validator is told our view and those of its votes that we hold, newest first.
"""

from __future__ import annotations

from collections.abc import Iterable

from omninode.consensus import messages as msg
from omninode.consensus.limits import (
    HELP_CREDIT_MAX,
    HELP_CREDIT_PER_SECOND,
    MEMORY_VOTES_MAX,
    PAGE_VIEWS,
    VIEWS_AHEAD_MAX,
    VIEWS_KEPT_BEHIND_FINAL,
)
from omninode.consensus.state import State
from omninode.consensus.types import Vote, VoteKind


class Helping:
    """Answers out of the state. Bounded by the number of validators."""

    def __init__(self, state: State) -> None:
        self._state = state
        count = len(state.validators.validators)
        self._credit = [HELP_CREDIT_MAX] * count
        self._since_ms = [0] * count
        self._straggler_after_ms = [0] * count

    def page(self, peer: int, from_view: int, to_view: int) -> None:
        """Answer with one page of certificates (H1–H3)."""
        state = self._state
        if peer == state.me:
            return
        final_view = state.chain.final.view
        answers: list[msg.Message] = []
        if (from_view <= final_view or state.is_over) and state.final_certificate is not None:
            answers.append(msg.CertificateMessage(state.final_certificate))
        high = min(to_view, state.view)
        low = max(from_view, final_view + 1, high - PAGE_VIEWS + 1)
        for view in range(high, low - 1, -1):
            answers.extend(self._view(view))
        self._refill_credit(peer)
        for message in answers:
            if not self._take_credit(peer, message):
                break
            state.send(peer, message)

    def straggler(self, peer: int, view: int) -> None:
        """Bring a validator from an old view to ours (H4), at most once in Δ."""
        if self._state.now_ms < self._straggler_after_ms[peer]:
            return
        self._straggler_after_ms[peer] = self._state.now_ms + self._state.timing.delta_ms
        entry = self._state.view - 1
        self.page(peer, entry, entry)
        if view <= self._state.chain.final.view < entry:
            self.page(peer, view, view)

    def memory(self, peer: int) -> None:
        """Tell a restarted validator where we are and what it signed (H5)."""
        state = self._state
        votes: list[Vote] = []
        newest = state.view + VIEWS_AHEAD_MAX
        oldest = max(state.chain.final.view - VIEWS_KEPT_BEHIND_FINAL, newest - MEMORY_VOTES_MAX, 0)
        for view in range(newest, oldest, -1):
            record = state.views.find(view)
            if record is not None and record.votes is not None:
                votes += record.votes.of_validator(peer)
        state.send(peer, msg.MemoryAnswer(state.view, tuple(votes[:MEMORY_VOTES_MAX]), state.epoch))
        self.page(peer, state.view - 1, state.view - 1)

    def _view(self, view: int) -> Iterable[msg.Message]:
        record = self._state.views.find(view)
        own = {vote.kind: vote for vote in self._state.own_votes(view)}
        if record is not None and record.finalization is not None:
            yield msg.CertificateMessage(record.finalization)
        elif VoteKind.FINALIZE in own:
            yield msg.VoteMessage(own[VoteKind.FINALIZE])
        if record is not None and self._state.views.is_certified(view):
            for certificate in record.certificates():
                yield msg.CertificateMessage(certificate)
            return
        for vote in own.values():
            if vote.kind is not VoteKind.FINALIZE:
                yield msg.VoteMessage(vote)

    def _refill_credit(self, peer: int) -> None:
        now_ms = self._state.now_ms
        refill = max(now_ms - self._since_ms[peer], 0) * HELP_CREDIT_PER_SECOND // 1_000
        if refill:
            self._since_ms[peer] = now_ms
            self._credit[peer] = min(self._credit[peer] + refill, HELP_CREDIT_MAX)

    def _take_credit(self, peer: int, message: msg.Message) -> bool:
        """Book a message's signatures, if the peer has the credit (H3)."""
        cost = 1
        if isinstance(message, msg.CertificateMessage):
            cost = len(message.certificate.signers)
        if cost > self._credit[peer]:
            return False
        self._credit[peer] -= cost
        return True
