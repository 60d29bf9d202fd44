"""Power: how much one validator may have, and how fast the set may change (consensus.md §3.3).

Rules
    W1. From four validators on, new stake above `cap(n)` of the total, itself counted, is refused:
        `max(2 %, min(32 %, 125 %/n))`. What is staked already is never discounted: a share that
        grew because others left stays, and only keeps its owner from adding more.
    W2. What leaves, leaves at the next epoch and outside of any budget: exits, jails, slashes and
        stake taken back. Only the very last power of a set stays, so that a chain never ends by
        itself.
    W3. What comes shares the epoch's budget, `max_power_change_ppm` of the old total and at least
        one unit, in proportion to what each still lacks; what rounding leaves goes one unit each
        in ascending order of address. So several small stakes get what one large one would, but
        for that unit.
    W4. Jail takes the worst first and stops where less than two thirds of the set's power would
        be left; those behind it keep their place until the next epoch judges them again. Equally
        bad ones go in ascending order of address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PPM: Final = 1_000_000
CAPPED_FROM: Final = 4
"""With fewer validators nobody could stay below a cap (W1)."""

_CAP_LEAST_PPM: Final = 20_000
_CAP_MOST_PPM: Final = 320_000
_CAP_SHARE_PPM: Final = 1_250_000


def cap_ppm(count: int) -> int:
    """Return the greatest share of one among `count` validators, in millionths (W1)."""
    if count < CAPPED_FROM:
        return PPM
    return max(_CAP_LEAST_PPM, min(_CAP_MOST_PPM, _CAP_SHARE_PPM // count))


def room_below_cap(stake: int, others: int, count: int) -> int | None:
    """Return how much may be added to a stake; None: as much as one likes (W1).

    Args:
        stake: What the validator has now.
        others: What all others have.
        count: How many validators there are with it.
    """
    cap = cap_ppm(count)
    if cap >= PPM:
        return None
    # What is added counts for both sides: the stake and the total.
    return max(0, others * cap // (PPM - cap) - stake)


def ramp(
    current: Mapping[bytes, int], wanted: Mapping[bytes, int], max_change_ppm: int
) -> dict[bytes, int]:
    """Return the next epoch's powers (W2, W3).

    Args:
        current: Power by address in this epoch, each at least 1.
        wanted: What each stake is worth; an address that is missing leaves.
        max_change_ppm: Greatest share of the total that may come in.

    Returns:
        Power by address, each at least 1; not in any order.
    """
    powers = {
        address: min(power, wanted[address])
        for address, power in current.items()
        if wanted.get(address)
    }
    if current and not powers and not any(wanted.values()):
        last = max(current, key=lambda address: (current[address], address))
        return {last: current[last]}
    lacking = {
        address: power - powers.get(address, 0)
        for address, power in wanted.items()
        if power > powers.get(address, 0)
    }
    total_lacking = sum(lacking.values())
    budget = min(total_lacking, max(1, sum(current.values()) * max_change_ppm // PPM))
    if not powers:
        budget = total_lacking
    if not budget:
        return powers
    grants = {address: budget * lack // total_lacking for address, lack in lacking.items()}
    rest = budget - sum(grants.values())
    for address in sorted(lacking):
        if not rest:
            break
        if grants[address] < lacking[address]:
            grants[address] += 1
            rest -= 1
    for address, grant in grants.items():
        if grant:
            powers[address] = powers.get(address, 0) + grant
    return powers


def to_jail(candidates: Mapping[bytes, int], powers: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """Return whom to jail (W4).

    Args:
        candidates: How well each of those that missed too much did; less is worse.
        powers: The whole set's.
    """
    total = sum(powers.values())
    left = total
    jailed = []
    for address in sorted(candidates, key=lambda who: (candidates[who], who)):
        if 3 * (left - powers[address]) < 2 * total:
            break
        left -= powers[address]
        jailed.append(address)
    return tuple(jailed)
