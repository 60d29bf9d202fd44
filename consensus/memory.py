"""Asking the peers what they remember of us, until we may vote (PROTOCOL.md P7; `arming.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omninode.consensus import effects as out
from omninode.consensus import messages as msg
from omninode.consensus.arming import Arming
from omninode.consensus.own_votes import OwnVotes
from omninode.consensus.pacemaker import Pacemaker
from omninode.consensus.state import State
from omninode.consensus.types import Vote


class Memory:
    """Asks, takes answers over, and arms.

    Args:
        state: The core's.
        own: Our own votes.
        arming: What was answered so far.
        pace: Says when to ask again.
        tally: Counts a vote of ours that came back.
        resume: Begins to wait in the current view.
    """

    def __init__(
        self,
        state: State,
        own: OwnVotes,
        arming: Arming,
        pace: Pacemaker,
        *,
        tally: Callable[[Vote], None],
        resume: Callable[[], None],
    ) -> None:
        self._state = state
        self._own = own
        self._arming = arming
        self._pace = pace
        self._tally = tally
        self._resume = resume
        self._asked_ms = 0

    def prepare(self) -> None:
        """The core starts: everybody will be asked in this step."""
        self._asked_ms = self._state.now_ms

    def start(self) -> bool:
        """Begin: arm at once if nobody need be asked, else ask; returns whether we are armed."""
        if self._arming.is_armed:
            self._arm()
            return True
        self._state.send(None, msg.MemoryRequest(self._state.epoch))
        return False

    def carries_over(self) -> bool:
        """Whether the next epoch begins armed, now that this one is over."""
        return self._arming.carries_over(self._state.chain.final.view)

    def answered(self, peer: int, view: int, votes: Sequence[Vote]) -> None:
        """Take over what a peer remembers of us."""
        if peer == self._state.me:
            return
        own, taught = self._own, False
        for vote in votes:
            if own.is_forgotten(vote.view) or vote.epoch != self._state.epoch:
                continue
            if own.contradicts(vote):
                # Two memories of one key: take no side in this view, nor in earlier ones.
                own.floor_view = max(own.floor_view, vote.view + 1)
                self._arming.has_doubt = True
            elif own.remember(vote):
                taught = True
                self._state.out.append(out.WriteVote(vote))
                self._tally(vote)
        self._arming.answered(peer, view, taught_us=taught)
        if self._arming.is_armed:
            self._arm()

    def _arm(self) -> None:
        state, floor_view = self._state, self._arming.floor_view
        if not state.armed or floor_view < self._own.memory_floor_view:
            state.armed = True
            self._resume()
        self._own.memory_floor_view = floor_view
        state.changed = True

    def expect(self) -> None:
        """A view began: ask again 2Δ after the last time, also if views and timers are shorter."""
        delay_ms = self._asked_ms + 2 * self._state.timing.delta_ms - self._state.now_ms
        if delay_ms <= 0:
            self.ask()
        else:
            self._state.out += self._pace.remember(delay_ms)

    def ask(self) -> None:
        """Ask those that have not answered."""
        state = self._state
        if not self._arming.unanswered:
            return
        self._asked_ms = state.now_ms
        for peer in self._arming.unanswered:
            state.send(peer, msg.MemoryRequest(state.epoch))
        state.out += self._pace.remember(2 * state.timing.delta_ms)
