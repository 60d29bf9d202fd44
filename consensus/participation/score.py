"""A validator's score for one epoch, from what finalized blocks show of it (consensus.md §3.2).

Rules
    S1. A vote for a block earns full credit in a block at most two heights later, and a sixth less
        with each height after that, so that eight different leaders would have to censor it.
        Blocks of whose votes no leader showed any count for nobody.
    S2. Led views count with a prior of four turns of which 3.6 succeeded: one lost turn can not
        sink a validator, one lucky one can not lift it.
    S3. Uptime is the share of the epoch's sub-windows with a vote of its own among those in which
        any vote was shown: a resting chain is nobody's downtime.
    S4. A service that nobody has audited yet counts `NEUTRAL`, for everybody alike; in an epoch
        without enough verdicts the last result stands. Nobody loses by a port that is not open yet.
    S5. Stake counts by its logarithm between the minimum and the cap, tenure approaches its full
        share by half of the rest every 30 days; between two halvings it runs in a straight line.
    S6. The score follows by a quarter per epoch: `S = (3 * S + raw) / 4`. A new validator's is 50
        points.

All inputs are finalized; who computes them from the same blocks gets the same score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omninode.consensus.types import FULL_SCORE

CREDIT_FULL: Final = 6
"""Credit of a timely vote (S1)."""

CREDIT_DISTANCE_MAX: Final = 8
"""A vote shown so many heights later earns nothing."""

SUB_WINDOWS: Final = 60
NEUTRAL: Final = 5_000
SERVICES: Final = ("dex", "ipfs", "chat")

POINTS: Final = {
    "votes": 35,
    "blocks": 25,
    "uptime": 10,
    "dex": 10,
    "ipfs": 6,
    "chat": 4,
    "stake": 5,
    "tenure": 5,
}
"""Most points of each component; they make a hundred."""

_TIMELY: Final = 2
_PRIOR_TURNS: Final = 4
_PRIOR_DONE_BP: Final = 36_000
_HALF_LIFE_MS: Final = 30 * 86_400_000
_LOG_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class Tally:
    """What finalized blocks say about one validator in one window.

    `credits` is the sum over its votes, `CREDIT_FULL` each at most; `sub_windows` is a bitmap;
    `done` of `assigned` views that it led became blocks.
    """

    credits: int = 0
    done: int = 0
    assigned: int = 0
    sub_windows: int = 0


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a raw score, each in basis points of its own full share (`POINTS`)."""

    votes: int
    blocks: int
    uptime: int
    dex: int
    ipfs: int
    chat: int
    stake: int
    tenure: int

    @property
    def raw(self) -> int:
        """The raw score in basis points."""
        weighed = sum(getattr(self, name) * points for name, points in POINTS.items())
        return int(weighed) // 100


def vote_credit(distance: int) -> int:
    """Return the credit of a vote shown `distance` heights above its block (S1)."""
    if distance <= _TIMELY:
        return CREDIT_FULL
    return max(0, CREDIT_DISTANCE_MAX - distance)


def votes_share(credit: int, blocks: int) -> int:
    """Return the votes component of a sum of credits over `blocks` shown blocks (S1)."""
    if not blocks:
        return NEUTRAL
    return min(FULL_SCORE, FULL_SCORE * credit // (CREDIT_FULL * blocks))


def blocks_share(done: int, assigned: int) -> int:
    """Return the blocks component (S2)."""
    return min(FULL_SCORE, (FULL_SCORE * done + _PRIOR_DONE_BP) // (assigned + _PRIOR_TURNS))


def uptime_share(mine: int, anybodys: int) -> int:
    """Return the uptime component of two bitmaps of sub-windows (S3)."""
    if not anybodys:
        return NEUTRAL
    return FULL_SCORE * (mine & anybodys).bit_count() // anybodys.bit_count()


def stake_share(stake: int, minimum: int, cap: int) -> int:
    """Return the stake component (S5); all three in whole units."""
    if stake >= cap or cap <= minimum:
        return FULL_SCORE
    if stake <= minimum:
        return 0
    return FULL_SCORE * _log2(stake, minimum) // _log2(cap, minimum)


def tenure_share(tenure_ms: int) -> int:
    """Return the tenure component: half of what is missing every 30 days (S5)."""
    halvings, rest_ms = divmod(max(0, tenure_ms), _HALF_LIFE_MS)
    missing = FULL_SCORE - FULL_SCORE // 2 * rest_ms // _HALF_LIFE_MS
    return FULL_SCORE - (missing >> min(halvings, 64))


def smooth(previous: int, raw: int) -> int:
    """Return the new score (S6)."""
    return (3 * previous + raw) // 4


def leader_weight(power: int, score: int, *, jailed: bool = False) -> int:
    """Return a validator's chance to lead: its power times 0.5 to 1 by score; 0 in jail."""
    return 0 if jailed else power * (FULL_SCORE + score)


def _log2(value: int, base: int) -> int:
    """Return log2(value / base) with `_LOG_BITS` binary places, for value >= base >= 1."""
    whole = (value // base).bit_length() - 1
    mantissa = (value << 64) // (base << whole)  # in [1, 2) with 64 binary places
    result = whole
    for _ in range(_LOG_BITS):
        mantissa = mantissa * mantissa >> 64
        result <<= 1
        if mantissa >> 65:
            result |= 1
            mantissa >>= 1
    return result
