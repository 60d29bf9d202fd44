"""When to lose patience with a view: the timers of PROTOCOL.md P3.

Rules
    M1. A leader with nothing to say may wait for the idle interval; patience for its block starts
        after that.
    M2. Patience starts at once when there is something to do: a pending transaction, a proposal on
        the table, validators with more than a third of the power at work in this view, or a parent
        that does not become final.
    M3. Our notarize vote ends patience for the leader and starts the wait for a certificate.
    M4. Having nullified, we say again what we said, until the view is over.
    M5. Views that we nullified although their leaders proposed make us more patient (T3 of
        `timing.py`); with every step of finality we forget one of them.
"""

from __future__ import annotations

from omninode.consensus.effects import SetTimer
from omninode.consensus.limits import HASTY_VIEWS_MAX
from omninode.consensus.messages import TimerId, TimerKind
from omninode.consensus.timing import Timing


class Pacemaker:
    """Chooses the timers of the current view."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._view = 0
        self._final_view = 0
        self._views_without_finality = 0
        self._hasty_views = 0
        self._hurried = False

    def was_hasty(self) -> None:
        """We nullified the view that ends, and nothing was wrong with its block (M5)."""
        self._hasty_views = min(self._hasty_views + 1, HASTY_VIEWS_MAX)

    def enter(self, view: int, *, final_view: int, idle_wait_ms: int) -> list[SetTimer]:
        """A view began; `idle_wait_ms` is what its leader may wait with nothing to say (M1)."""
        self._view = view
        if final_view != self._final_view:
            self._final_view = final_view
            self._hasty_views = max(self._hasty_views - 1, 0)
        self._views_without_finality = view - final_view
        self._hurried = False
        return [
            self._timer(TimerKind.LEADER, idle_wait_ms + self._patience_ms()),
            self._timer(TimerKind.FINALITY, self._timing.delta_ms),
        ]

    @property
    def hurried(self) -> bool:
        """Whether patience has started."""
        return self._hurried

    def hurry(self) -> list[SetTimer]:
        """There is something to do: start patience, once a view (M2)."""
        if self._hurried:
            return []
        self._hurried = True
        return [self._timer(TimerKind.LEADER, self._patience_ms())]

    def voted(self) -> list[SetTimer]:
        """We notarized: wait for a certificate (M3)."""
        delay_ms = self._timing.advance_ms(self._views_without_finality, self._hasty_views)
        return [self._timer(TimerKind.ADVANCE, delay_ms)]

    def again_soon(self) -> list[SetTimer]:
        """Repeat ourselves after Δ (M4)."""
        return [self._timer(TimerKind.RETRY, self._timing.delta_ms)]

    def again_later(self, kind: TimerKind) -> list[SetTimer]:
        """Repeat something after 2Δ."""
        return [self._timer(kind, 2 * self._timing.delta_ms)]

    def remember(self, delay_ms: int) -> list[SetTimer]:
        """Ask peers for our memory then."""
        return [self._timer(TimerKind.MEMORY, delay_ms)]

    def clock(self, delay_ms: int) -> list[SetTimer]:
        """Look at a proposal again when our clock has caught up."""
        return [self._timer(TimerKind.CLOCK, delay_ms)]

    def _patience_ms(self) -> int:
        return self._timing.patience_ms(self._views_without_finality, self._hasty_views)

    def _timer(self, kind: TimerKind, delay_ms: int) -> SetTimer:
        return SetTimer(TimerId(kind, self._view), delay_ms)
