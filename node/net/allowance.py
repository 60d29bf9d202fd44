"""How much of something a peer may do before it has to wait."""

from __future__ import annotations

import trio


class Allowance:
    """A credit that refills with time; who has none waits, so that its stream slows it down.

    Args:
        per_s: How much comes back each second.
        burst: The most there can be.
    """

    def __init__(self, per_s: int, *, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._at = trio.current_time()

    async def spend(self, count: int = 1) -> None:
        """Take from the allowance; sleep as long as it is overdrawn."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        self._left -= count
        if self._left < 0:
            await trio.sleep(-self._left / self._per_s)
