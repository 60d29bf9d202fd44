"""Durations of consensus in integer milliseconds.

Rules
    T1. Δ is the assumed bound on one message delay. Patience for a leader is 2Δ, for a certificate
        3Δ after our vote.
    T2. Both grow by 1.5 with every further view without finality, up to four times (consensus.md
        §1.4, T4): more would make a run of silent leaders a standstill.
    T3. Views that we nullified although their leaders proposed say that Δ is too small for this
        network or these machines: `HASTY_VIEWS_PER_DOUBLING` of them double both once more, up to
        `HASTY_DOUBLINGS_MAX` times (ADR 015). Silent leaders never do.
"""

from __future__ import annotations

from dataclasses import dataclass

from omninode.consensus.limits import (
    BACKOFF_PERMILLE,
    HASTY_DOUBLINGS_MAX,
    HASTY_VIEWS_PER_DOUBLING,
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Configured: Δ, the shortest distance between blocks, and that of blocks without content."""

    delta_ms: int
    min_block_interval_ms: int
    idle_block_interval_ms: int

    def patience_ms(self, views_without_finality: int, hasty_views: int = 0) -> int:
        """How long to wait for a leader's block (T1 to T3)."""
        return 2 * self.delta_ms * _factor_permille(views_without_finality, hasty_views) // 1_000

    def advance_ms(self, views_without_finality: int, hasty_views: int = 0) -> int:
        """How long to wait for a certificate after our own notarize vote (T1 to T3)."""
        return 3 * self.delta_ms * _factor_permille(views_without_finality, hasty_views) // 1_000


def _factor_permille(views_without_finality: int, hasty_views: int) -> int:
    step = min(max(views_without_finality - 2, 0), len(BACKOFF_PERMILLE) - 1)
    doublings = min(hasty_views // HASTY_VIEWS_PER_DOUBLING, HASTY_DOUBLINGS_MAX)
    return BACKOFF_PERMILLE[step] << doublings
