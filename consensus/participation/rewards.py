"""Who gets what of an epoch's inflation and fees (consensus.md §3.5).

Rules
    R1. Shares are floored; what is left over is returned to the caller, who gives it to the
        treasury: what goes in is what comes out.
    R2. An eighth of the inflation goes to those who led the epoch's blocks, by their number; the
        rest goes to all by power x score, as the validators' share of the fees does. Power is
        linear here: a stake in two parts earns what it earns in one.
    R3. Inflation grows with finalized time and not with the number of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PPM: Final = 1_000_000
YEAR_MS: Final = 31_557_600_000
_PROPOSERS_PART: Final = 8


@dataclass(frozen=True, slots=True)
class Division:
    """An amount in shares, by whom; `rest` is what could not be divided."""

    shares: dict[bytes, int]
    rest: int


def divide(amount: int, weights: Mapping[bytes, int]) -> Division:
    """Divide an amount by weights (R1); without any weight all of it is the rest."""
    total = sum(weights.values())
    if not total:
        return Division({}, amount)
    shares = {who: amount * weight // total for who, weight in weights.items() if weight}
    return Division(shares, amount - sum(shares.values()))


def divide_inflation(
    amount: int, *, blocks: Mapping[bytes, int], weights: Mapping[bytes, int]
) -> Division:
    """Divide an epoch's inflation (R2).

    Args:
        amount: All of it.
        blocks: How many blocks each one led.
        weights: Power x score.
    """
    proposers = divide(amount // _PROPOSERS_PART, blocks)
    everybody = divide(amount - amount // _PROPOSERS_PART, weights)
    shares = dict(everybody.shares)
    for who, share in proposers.shares.items():
        shares[who] = shares.get(who, 0) + share
    return Division(shares, proposers.rest + everybody.rest)


def inflation(supply: int, *, elapsed_ms: int, yearly_ppm: int) -> int:
    """Return what a span of finalized time adds to a supply, floored (R3)."""
    return supply * yearly_ppm * max(0, elapsed_ms) // (PPM * YEAR_MS)


def slash_ppm(convicted_power: int, total_power: int) -> int:
    """Return the part of a stake that a conviction takes, in millionths (consensus.md §1.5).

    Args:
        convicted_power: Power of all convicted within the last unbonding period, this one counted.
        total_power: The set's power together with that of convicted ones who left it.

    Returns:
        Three times the convicted share, at least 5 % and at most everything: a lone accident is
        cheap, an attack by a third loses all.
    """
    if convicted_power >= total_power:
        return PPM
    return max(PPM // 20, min(PPM, 3 * PPM * convicted_power // total_power))
