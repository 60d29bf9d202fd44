"""How much work each peer may cause: a credit that refills with time.

Work that a peer can ask for at no cost of its own (checking a signature, reading a run of blocks)
is paid from its credit. What to do about an empty one is the caller's affair: wait, or say no.
"""

from __future__ import annotations

import trio

from omninode.consensus.driver.limits import BUDGET_PEERS_MAX


class Budget:
    """The credits of all peers, on trio's clock.

    Args:
        per_second: How much comes back each second.
        burst: The most that a peer can have.
    """

    def __init__(self, *, per_second: int, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._spent: dict[str, tuple[float, float]] = {}

    def spend(self, peer: str, cost: int) -> float:
        """Take from a peer's credit, below zero if need be; returns seconds until it is not."""
        spent = self._now_spent(peer) + cost
        self._spent.pop(peer, None)
        self._spent[peer] = (spent, trio.current_time())
        if len(self._spent) > BUDGET_PEERS_MAX:
            del self._spent[next(iter(self._spent))]
        return max(spent - self._burst, 0.0) / self._per_second

    def is_empty(self, peer: str) -> bool:
        """Whether a peer has used up its credit."""
        return self._now_spent(peer) >= self._burst

    def _now_spent(self, peer: str) -> float:
        spent, since = self._spent.get(peer, (0.0, 0.0))
        return max(spent - (trio.current_time() - since) * self._per_second, 0.0)
