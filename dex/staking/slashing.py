"""Evidence becomes a conviction: what it takes, and that it is for ever.

Rules (consensus.md §1.5, PROTOCOL.md P6)
    L1. The offender is whoever registered the key that signed both votes, while any of its stake is
        bonded or unbonding. It is convicted once: a tombstone is never convicted again, and never
        comes back.
    L2. The part is `max(5 %, min(100 %, 3 * share of the power convicted within the last unbonding
        time))` of what it has bonded and unbonding; the treasury gets it. A later conviction within
        that time raises the part for those before it as well: a third of the power that attacks
        together loses everything, whoever is convicted first.
    L3. The offender leaves the set at the next cut; what it has left waits as any other stake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.consensus.participation.evidence import offence, vote_signer
from omninode.consensus.participation.rewards import PPM, slash_ppm
from omninode.dex.staking.changes import set_status
from omninode.dex.staking.convictions import Conviction
from omninode.dex.staking.events import Slashed
from omninode.dex.staking.registry import TOMBSTONED, Member
from omninode.encoding import amount_from_bytes, amount_to_bytes
from omninode.errors import Malformed, Rejected

if TYPE_CHECKING:
    from omninode.dex.staking.statements import ReportEvidence
    from omninode.dex.state import State


def report_evidence(state: State, action: ReportEvidence) -> None:
    """Convict the signer of two votes that contradict each other; about 0.2 ms.

    Raises:
        Rejected: `no_offence`, `bad_signature`, `different_signers`, `unknown_offender` or
            `already_convicted`.
    """
    word = offence(action.first, action.second)
    if word is None:
        raise Rejected("no_offence", "the two votes may stand side by side")
    try:
        signers = [vote_signer(v, state.genesis.hash) for v in (action.first, action.second)]
    except Malformed as error:
        raise Rejected("bad_signature", str(error)) from None
    if signers[0] != signers[1]:
        raise Rejected("different_signers", "the votes are of two keys")
    member = state.staking.registry.by_address(signers[0])
    if member is None:
        raise Rejected("unknown_offender", "no stake stands behind that key")
    if member.status == TOMBSTONED:
        raise Rejected("already_convicted", "the validator is tombstoned")
    _convict(state, member, word)


def _convict(state: State, member: Member, word: str) -> None:
    """Convict, take its part, and raise that of those convicted lately (L2)."""
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    convictions = staking.convictions
    convictions.drop(staking.time_ms - terms.unbonding_ms)
    base = staking.stake(member.owner) + staking.unbonding(member.owner)
    convictions.put(
        Conviction(
            staking.time_ms,
            member.owner,
            word,
            base // terms.unit,
            amount_to_bytes(base),
            amount_to_bytes(0),
        )
    )
    part = slash_ppm(*_shares(state))
    for owner in sorted(convictions.by_owner):
        _take(state, owner, part)
    set_status(state, member, TOMBSTONED, word)


def _shares(state: State) -> tuple[int, int]:
    """Return the power convicted lately, and what the set has together with it."""
    staking, validators = state.staking, state.validator_set
    convicted = total = 0
    members = {validator.address for validator in validators.validators}
    for owner, conviction in staking.convictions.by_owner.items():
        convicted += conviction.power
        if staking.registry.members[owner].address not in members:
            total += conviction.power
    return convicted, total + validators.total_power


def _take(state: State, owner: bytes, part: int) -> None:
    """Take what a convicted one still owes of its part."""
    staking = state.staking
    conviction = staking.convictions.by_owner[owner]
    taken = amount_from_bytes(conviction.taken)
    due = amount_from_bytes(conviction.base) * part // PPM - taken
    amount = min(due, staking.stake(owner) + staking.unbonding(owner))
    if amount <= 0:
        return
    staking.take(owner, amount)
    conviction.taken = amount_to_bytes(taken + amount)
    staking.convictions.put(conviction)
    state.bridge.require_proof(owner)
    address = staking.registry.members[owner].address
    state.open_orders.events.append(
        Slashed(owner, address, conviction.offence, part, amount_to_bytes(amount))
    )
