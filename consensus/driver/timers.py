"""One task that fires the core's timers; setting a timer again replaces it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NoReturn

import trio

from omninode.consensus.messages import TimerId

_STALE_MAX = 256


class Timers:
    """A heap of deadlines on trio's clock, so that tests run on a virtual one.

    The core has a handful of timer kinds, and timers of passed views are dropped. What replaced or
    dropped timers leave in the heap is swept out when it is the larger part: a deadline may lie
    centuries ahead, since a leader chooses its block's time.
    """

    def __init__(self, fire: Callable[[TimerId], None]) -> None:
        self._fire = fire
        self._deadlines: dict[TimerId, float] = {}
        self._heap: list[tuple[float, int, TimerId]] = []
        self._sequence = 0
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, timer: TimerId, delay_ms: int) -> None:
        """Fire `timer` after `delay_ms`, instead of when it was due before."""
        due = trio.current_time() + delay_ms / 1000
        self._deadlines[timer] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, timer))
        if self._heap[0][2] == timer:
            self._changed.set()

    def clear(self) -> None:
        """Drop all timers: the views of another epoch begin."""
        self._deadlines.clear()
        self._heap.clear()

    def forget_before(self, view: int) -> None:
        """Drop timers of views that are over."""
        for timer in [t for t in self._deadlines if t.view < view]:
            del self._deadlines[timer]
        if len(self._heap) > len(self._deadlines) + _STALE_MAX:
            self._heap = [entry for entry in self._heap if self._is_set(entry)]
            heapq.heapify(self._heap)

    def _is_set(self, entry: tuple[float, int, TimerId]) -> bool:
        due, _, timer = entry
        return self._deadlines.get(timer) == due

    async def run(self) -> NoReturn:
        """Fire timers as they fall due."""
        while True:
            self._changed = trio.Event()
            self._fire_due()
            with trio.move_on_at(self._heap[0][0] if self._heap else float("inf")):
                await self._changed.wait()

    def _fire_due(self) -> None:
        while self._heap:
            if not self._is_set(self._heap[0]):
                heapq.heappop(self._heap)
                continue
            due, _, timer = self._heap[0]
            if due > trio.current_time():
                return
            heapq.heappop(self._heap)
            del self._deadlines[timer]
            self._fire(timer)
