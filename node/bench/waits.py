"""How long things wait for a mark that only rises. No clock, no input or output.

A fill waits for a checkpoint of its height or a later one, a deposit for a count above its index:
both are a mark that is wanted and a mark that is reached.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

from omninode.node.devnet.tracker import quantile_ms


class Waits:
    """Measures waits for one rising mark; keeps one number for each of them.

    Attributes:
        mark: The highest mark that was reached.
    """

    def __init__(self) -> None:
        self.mark = -1
        self._waiting: Final[list[tuple[int, float]]] = []
        self._waited_ms: Final[list[float]] = []

    def begin(self, mark: int, *, now_s: float) -> None:
        """Begin to wait; what was reached before has waited 0."""
        if mark <= self.mark:
            self._waited_ms.append(0.0)
        else:
            heapq.heappush(self._waiting, (mark, now_s))

    def reach(self, mark: int, *, now_s: float) -> None:
        """End every wait for this mark or a lower one; a mark that is not higher ends none."""
        if mark <= self.mark:
            return
        self.mark = mark
        while self._waiting and self._waiting[0][0] <= mark:
            _, since_s = heapq.heappop(self._waiting)
            self._waited_ms.append((now_s - since_s) * 1_000)

    @property
    def next_mark(self) -> int | None:
        """The lowest mark that is waited for; `None` if none is."""
        return self._waiting[0][0] if self._waiting else None

    def document(self) -> dict[str, Any]:
        """Return the waits that ended (`count`, exact `p50` and `p99` in ms), and `open` ones."""
        return {
            "count": len(self._waited_ms),
            "open": len(self._waiting),
            "p50": quantile_ms(self._waited_ms, 0.50),
            "p99": quantile_ms(self._waited_ms, 0.99),
        }
