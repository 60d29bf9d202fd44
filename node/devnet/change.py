"""Waiting for something to become true, told by those who may make it so."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Change:
    """Wakes everybody who waits for a condition, to look again."""

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()

    def tell(self) -> None:
        """Say that something changed; costs nothing while nobody waits."""
        self._waiting.unpark_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once the condition holds."""
        while not is_so():
            await self._waiting.park()
