"""One task that fires the core's timers; setting a timer again replaces it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NoReturn

import trio

from omninode.consensus.messages import TimerId


class Timers:
    """A heap of deadlines on trio's clock, so that tests run on a virtual one.

    Bounded by nature: the core has a handful of timer kinds and a replaced or passed timer is
    dropped.
    """

    def __init__(self, fire: Callable[[TimerId], None]) -> None:
        self._fire = fire
        self._deadlines: dict[TimerId, float] = {}
        self._heap: list[tuple[float, int, TimerId]] = []
        self._sequence = 0
        self._changed = trio.Event()

    def set(self, timer: TimerId, delay_ms: int) -> None:
        """Fire `timer` after `delay_ms`, instead of when it was due before."""
        due = trio.current_time() + delay_ms / 1000
        self._deadlines[timer] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, timer))
        if self._heap[0][2] == timer:
            self._changed.set()

    def forget_before(self, view: int) -> None:
        """Drop timers of views that are over."""
        for timer in [t for t in self._deadlines if t.view < view]:
            del self._deadlines[timer]

    async def run(self) -> NoReturn:
        """Fire timers as they fall due."""
        while True:
            self._changed = trio.Event()
            self._fire_due()
            with trio.move_on_at(self._heap[0][0] if self._heap else float("inf")):
                await self._changed.wait()

    def _fire_due(self) -> None:
        while self._heap:
            due, _, timer = self._heap[0]
            if self._deadlines.get(timer) != due:
                heapq.heappop(self._heap)
                continue
            if due > trio.current_time():
                return
            heapq.heappop(self._heap)
            del self._deadlines[timer]
            self._fire(timer)
