"""What this validator says about deposits: what is confirmed and not yet behind its tip.

Rules
    A1. It attests what its own confirmed log holds and nothing else, from the highest place that
        the state already knows, at most `ATTESTED_DEPOSITS_MAX` at a time.
    A2. A log that contradicts what is credited is attested once, so that everybody hears of it, and
        is a reason to halt here.
    A3. A validator that the state names in a disagreement for a log that is not the confirmed one,
        and that has nothing newer to attest, attests the credited cursor itself, without deposits.
        That takes its place beside the others, and the state names it no more; so it is said once.
        Whoever is not named never does: a log that is shorter than what was attested may only be
        followed anew.

Pure, apart from reads of the confirmed log.
"""

from __future__ import annotations

from typing import Protocol

from omninode.dex.actions import AttestDeposits
from omninode.dex.bridge.deposits import Cursor, Deposit, Deposits
from omninode.dex.bridge.limits import ATTESTED_DEPOSITS_MAX, PENDING_DEPOSITS_MAX


class DepositLog(Protocol):
    """The confirmed deposits (`confirmed.ConfirmedLog`)."""

    def deposit_hash(self, count: int) -> bytes | None:
        """Return the rolling hash over the first `count` deposits, if so many are confirmed."""
        ...

    def deposits(self, first: int, last: int) -> tuple[Deposit, ...]:
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
    tip_is_ours = tip is not None and tip.hash == log.deposit_hash(tip.count)
    if end == credited.count:
        is_to_recant = not tip_is_ours and _is_named(state, me)
        return _attest(end, end, log) if is_to_recant else None
    if tip is not None and tip_is_ours and tip.count >= end:
        return None
    known = _highest_known(state, end, log)
    last = min(known + ATTESTED_DEPOSITS_MAX, end)
    return _attest(known, last, log)


def _is_named(state: Deposits, me: bytes) -> bool:
    """Whether the state has this validator on a side of a disagreement (A3)."""
    return any(
        me in addresses
        for disagreement in state.disagreements
        for _, addresses in disagreement.sides
    )


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
