"""Service audits: who examines whom in an epoch, and what the verdicts come to (consensus.md §3.2).

Rules
    A1. Each validator has `min(7, n - 1)` auditors an epoch, drawn from the set's seed by power,
        none of them itself and none twice.
    A2. An auditor commits to a hash of its verdicts in the epoch and shows them in the next one, so
        that nobody can copy.
    A3. A service's result is the lower median of the verdicts; it needs more than half of the
        auditors, or the last result stands. A minority can not move it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from omninode.crypto import tagged_hash

AUDITORS_MAX: Final = 7
_DRAWS_MAX: Final = 64
"""Draws for one audited validator; the places that stay empty go to the next ones of the set."""


def auditors(seed: bytes, powers: Sequence[int], audited: int) -> tuple[int, ...]:
    """Return the indices of a validator's auditors, ascending (A1)."""
    count = len(powers)
    wanted = min(AUDITORS_MAX, count - 1)
    bounds = list(accumulate(powers))
    chosen: set[int] = set()
    for draw in range(_DRAWS_MAX):
        if len(chosen) == wanted:
            break
        place = audited.to_bytes(4, "big") + draw.to_bytes(4, "big")
        value = int.from_bytes(tagged_hash("omni/auditor/1", seed, place), "big")
        index = bisect_right(bounds, value % bounds[-1])
        if index != audited:
            chosen.add(index)
    step = audited + 1
    while len(chosen) < wanted:
        if step % count != audited:
            chosen.add(step % count)
        step += 1
    return tuple(sorted(chosen))


def duties(seed: bytes, powers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return whom each validator examines, by its index."""
    examined: list[list[int]] = [[] for _ in powers]
    for audited in range(len(powers)):
        for auditor in auditors(seed, powers, audited):
            examined[auditor].append(audited)
    return tuple(tuple(mine) for mine in examined)


def median(points: Sequence[int], auditor_count: int) -> int | None:
    """Return the lower median, or None while too few have spoken (A3)."""
    if not points or 2 * len(points) <= auditor_count:
        return None
    return sorted(points)[(len(points) - 1) // 2]


def audit_commitment(auditor: bytes, epoch: int, salt: bytes, verdicts: bytes) -> bytes:
    """Return what an auditor commits to (A2); `verdicts` in their canonical encoding."""
    return tagged_hash("omni/audits/1", auditor, epoch.to_bytes(8, "big"), salt, verdicts)
