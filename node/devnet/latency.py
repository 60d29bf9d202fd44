"""Latencies in bounded memory: a histogram whose buckets are one percent apart. No clock."""

from __future__ import annotations

import math
from typing import Final

_STEP: Final = math.log(1.01)
_FINEST_MS: Final = 0.01


class Latencies:
    """Counts milliseconds; a quantile is right to one percent."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}

    def add(self, latency_ms: float) -> None:
        """Count one latency."""
        bucket = int(math.log(max(latency_ms, _FINEST_MS) / _FINEST_MS) / _STEP)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """Return the latency that this share of all is not above, in ms; `None` without any."""
        if not self.count:
            return None
        wanted = math.ceil(self.count * share)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                break
        return round(_FINEST_MS * math.exp((bucket + 0.5) * _STEP), 1)
