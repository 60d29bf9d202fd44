"""The wall clock of the node; everything below the root gets the time as an argument."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
