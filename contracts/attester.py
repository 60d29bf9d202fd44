"""What this validator says about deposits: what is confirmed and not yet behind its tip.

Rules
    A1. It attests what its own confirmed log holds and nothing else, from the highest place that
        the state already knows, at most `ATTESTED_DEPOSITS_MAX` at a time, with at most
        `ATTESTED_IDENTITY_BYTES_MAX` of identities in them.
    A2. A log that contradicts what is credited is attested once, so that everybody hears of it, and
        is a reason to halt here.
    A3. A validator whose tip contradicts what is credited, while its confirmed log does not, and
        that has nothing newer to attest, attests the credited cursor itself, without deposits. That
        takes the tip's place, and the state names it no more; so it is said once. A tip above the
        cursor is left alone until the log gets there: it is not known to be false before.

Pure, apart from reads of the confirmed log.
"""

from __future__ import annotations

from typing import Protocol

from omninode.dex.actions import AttestDeposits
from omninode.dex.bridge.deposits import Cursor, Deposits, LogEntry, StakeChange
from omninode.dex.bridge.limits import (
    ATTESTED_DEPOSITS_MAX,
    ATTESTED_IDENTITY_BYTES_MAX,
    PENDING_DEPOSITS_MAX,
)


class DepositLog(Protocol):
    """The confirmed deposits (`confirmed.ConfirmedLog`)."""

    def deposit_hash(self, count: int) -> bytes | None:
        """Return the rolling hash over the first `count` deposits, if so many are confirmed."""
        ...

    def deposits(self, first: int, last: int) -> tuple[LogEntry, ...]:
        """Return deposits from index `first` to below `last`."""
        ...


def contradiction(state: Deposits, confirmed: Cursor, log: DepositLog) -> str:
    """Return how the confirmed log contradicts what is credited, or nothing (A2)."""
    credited = state.credited
    if credited.count > confirmed.count:
        return ""
    ours = log.deposit_hash(credited.count)
    if ours in (None, credited.hash):
        return ""
    return (
        f"the {credited.count} credited deposits are not those on the chain, as this node sees it"
    )


def next_attestation(
    state: Deposits, confirmed: Cursor, log: DepositLog, *, me: bytes
) -> AttestDeposits | None:
    """Return what this validator has to say now, if anything (A1).

    Args:
        state: The deposits of the newest executed state.
        confirmed: How many deposits are confirmed, and their rolling hash.
        log: The confirmed deposits.
        me: The validator's address.
    """
    credited, tip = state.credited, state.tip(me)
    end = min(confirmed.count, credited.count + PENDING_DEPOSITS_MAX)
    if end == 0 or end < credited.count:
        return None
    if contradiction(state, confirmed, log):
        return _objection(credited, log, tip)
    if end == credited.count:
        return _attest(end, end, log) if _is_astray(state, me) else None
    tip_is_ours = tip is not None and tip.hash == log.deposit_hash(tip.count)
    if tip is not None and tip_is_ours and tip.count >= end:
        return None
    known = _highest_known(state, end, log)
    last = min(known + ATTESTED_DEPOSITS_MAX, end)
    return _attest(known, known + _fitting(log.deposits(known, last)), log)


def _fitting(entries: tuple[LogEntry, ...]) -> int:
    """Return how many of the first entries fit in one attestation (A1)."""
    room = ATTESTED_IDENTITY_BYTES_MAX
    for count, entry in enumerate(entries):
        room -= len(entry.identity) if isinstance(entry, StakeChange) else 0
        if room < 0:
            return count
    return len(entries)


def _is_astray(state: Deposits, me: bytes) -> bool:
    """Whether this validator's tip contradicts what is credited (A3)."""
    tip = state.tips.get(me)
    return tip is not None and tip.stray is not None


def _highest_known(state: Deposits, end: int, log: DepositLog) -> int:
    """Return the highest count up to `end` at which the state knows our log."""
    for count in range(end, state.credited.count, -1):
        ours = log.deposit_hash(count)
        if ours is not None and state.knows(count, ours):
            return count
    return state.credited.count


def _objection(credited: Cursor, log: DepositLog, tip: Cursor | None) -> AttestDeposits | None:
    ours = log.deposit_hash(credited.count)
    if ours is None or credited.count == 0 or (tip is not None and tip.hash == ours):
        return None
    return _attest(credited.count - 1, credited.count, log)


def _attest(start: int, end: int, log: DepositLog) -> AttestDeposits | None:
    parent, final = log.deposit_hash(start), log.deposit_hash(end)
    deposits = log.deposits(start, end)
    if parent is None or final is None or len(deposits) != end - start:
        return None
    return AttestDeposits(parent, end, final, deposits)
