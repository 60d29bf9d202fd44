"""Durations of consensus in integer milliseconds.

Rules
    T1. Δ is the assumed bound on one message delay. Patience for a leader is 2Δ, for a certificate
        3Δ after our vote.
    T2. Both grow by 1.5 with every further view without finality, up to four times (consensus.md
        §1.4, T4).
"""

from __future__ import annotations

from dataclasses import dataclass

from omninode.consensus.limits import BACKOFF_PERMILLE


@dataclass(frozen=True, slots=True)
class Timing:
    """Configured: Δ, the shortest distance between blocks, and that of blocks without content."""

    delta_ms: int
    min_block_interval_ms: int
    idle_block_interval_ms: int

    def patience_ms(self, views_without_finality: int) -> int:
        """How long to wait for a leader's block (T1, T2)."""
        return 2 * self.delta_ms * _factor_permille(views_without_finality) // 1_000

    def advance_ms(self, views_without_finality: int) -> int:
        """How long to wait for a certificate after our own notarize vote (T1, T2)."""
        return 3 * self.delta_ms * _factor_permille(views_without_finality) // 1_000


def _factor_permille(views_without_finality: int) -> int:
    step = min(max(views_without_finality - 2, 0), len(BACKOFF_PERMILLE) - 1)
    return BACKOFF_PERMILLE[step]
