"""What owners ask of the settlement contract about their validators (`StakeChange` of its log).

Rules (PROTOCOL.md P6)
    C1. Whatever is wrong with a request is a word, never an error: the log goes on. Money that came
        with a refused one is its owner's free balance.
    C2. Of an addition above the cap the excess is refused, and only that; less than the minimum can
        not be staked (rule W1 of `consensus.participation.power`).
    C3. What is asked back leaves at once and waits for its time; its power goes at the next cut.
        An exit of one who is in the set waits for the cut.
    C4. Out of jail comes who asks after a whole epoch in it; it enters the set as a newcomer does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.consensus.participation.power import room_below_cap
from omninode.dex.bridge.deposits import ADD_STAKE, EXIT, REGISTER, UNJAIL, UNSTAKE, StakeChange
from omninode.dex.decimals import AMOUNT_LIMIT
from omninode.dex.staking.events import StakeChanged, StakeRefused, ValidatorChanged
from omninode.dex.staking.identity import Identity, check_identity, decode_identity
from omninode.dex.staking.limits import UNBONDINGS_PER_OWNER_MAX
from omninode.dex.staking.registry import (
    ACTIVE,
    CANDIDATE,
    EXITING,
    JAILED,
    STAKING,
    TOMBSTONED,
    UNBONDING,
    Member,
)
from omninode.dex.staking.state import BONDED
from omninode.encoding import amount_from_bytes, amount_to_bytes
from omninode.errors import Malformed, Rejected

if TYPE_CHECKING:
    from omninode.dex.state import State


def take_change(state: State, change: StakeChange) -> str:
    """Do what an owner asked, or return why not (C1).

    Returns:
        An empty string, or `no_staking`, `already_registered`, `bad_identity`,
        `bad_vote_signature`, `bad_beacon_proof`, `key_in_use`, `peer_in_use`, `registry_full`,
        `below_minimum`, `cap_exceeded`, `supply_exceeded`, `not_registered`, `not_staking`,
        `insufficient_stake`, `too_many_unbondings`, `not_jailed` or `still_jailed`.
    """
    if state.staking.terms is None:
        return "no_staking"
    try:
        if change.kind == REGISTER:
            _register(state, change)
            return ""
        member = state.staking.registry.of(change.owner)
        if member is None:
            return "not_registered"
        if member.status not in STAKING:
            return "not_staking"
        if change.kind == ADD_STAKE:
            _add(state, member, amount_from_bytes(change.amount), "added")
        elif change.kind == UNSTAKE:
            _remove(state, member, amount_from_bytes(change.amount))
        elif change.kind == EXIT:
            _exit(state, member)
        elif change.kind == UNJAIL:
            _unjail(state, member)
    except Rejected as error:
        return error.reason
    return ""


def _register(state: State, change: StakeChange) -> None:
    staking, owner = state.staking, change.owner
    terms, registry = staking.terms, staking.registry
    assert terms is not None
    if owner in registry.members:
        raise Rejected("already_registered", "one validator per owner")
    if len([m for m in registry if m.status != TOMBSTONED]) >= (terms.validators_max):
        raise Rejected("registry_full", f"there are {terms.validators_max} validators")
    amount = amount_from_bytes(change.amount)
    if amount < terms.minimum:
        raise Rejected("below_minimum", f"a stake is at least {terms.minimum} units")
    identity, address = _identity(change, state.genesis.hash)
    taken = registry.taken(
        address=address, beacon_key=identity.beacon_key, peer_id=identity.peer_id
    )
    if taken is not None:
        raise Rejected(taken, "another validator has it")
    member = Member(
        owner=owner,
        address=address,
        public_key=identity.public_key,
        beacon_key=identity.beacon_key,
        peer_id=identity.peer_id,
        moniker=identity.moniker,
        registered_ms=staking.time_ms,
        status=CANDIDATE,
        tenure_from_ms=staking.time_ms,
    )
    _add(state, member, amount, "registered")
    registry.add(member)
    _tell(state, member, "registered")


def _identity(change: StakeChange, genesis_hash: bytes) -> tuple[Identity, bytes]:
    try:
        identity = decode_identity(change.identity)
    except Malformed as error:
        raise Rejected("bad_identity", str(error)) from None
    return identity, check_identity(identity, change.owner, genesis_hash)


def _add(state: State, member: Member, amount: int, kind: str) -> None:
    """Credit what came in, up to the cap as stake (C2)."""
    staking, accounts = state.staking, state.accounts
    terms, owner = staking.terms, member.owner
    assert terms is not None
    if state.bridge.supply(terms.asset) + amount >= AMOUNT_LIMIT:
        raise Rejected("supply_exceeded", "no balance could hold it")
    stake = staking.stake(owner)
    others = [m for m in staking.capped() if m.owner != owner]
    room = room_below_cap(
        stake, sum(staking.stake(other.owner) for other in others), len(others) + 1
    )
    accepted = amount if room is None else min(amount, room)
    if not accepted or stake + accepted < terms.minimum:
        raise Rejected("cap_exceeded", "the stake would be too large a part of the total")
    state.bridge.add_credited(terms.asset, amount)
    accounts.credit(staking.balance(owner, BONDED), accepted)
    if amount > accepted:
        accounts.credit(staking.balance(owner, 0), amount - accepted)
        refused = StakeRefused(owner, amount_to_bytes(amount - accepted), "cap_exceeded")
        state.open_orders.events.append(refused)
    _tell_stake(state, member, kind, accepted)


def _remove(state: State, member: Member, amount: int) -> None:
    staking, owner = state.staking, member.owner
    assert staking.terms is not None
    stake = staking.stake(owner)
    if amount > stake:
        raise Rejected("insufficient_stake", f"{stake} units are staked")
    if stake - amount < staking.terms.minimum:
        raise Rejected("below_minimum", "less than the minimum would stay; exit instead")
    if len(staking.unbondings.of(owner)) >= UNBONDINGS_PER_OWNER_MAX:
        raise Rejected("too_many_unbondings", f"{UNBONDINGS_PER_OWNER_MAX} parts unbond already")
    staking.begin_unbonding(owner, amount)
    _tell_stake(state, member, "removed", amount)


def _exit(state: State, member: Member) -> None:
    if member.status == ACTIVE:
        set_status(state, member, EXITING, "exit")
    else:
        leave(state, member)
        set_status(state, member, UNBONDING, "exit")


def _unjail(state: State, member: Member) -> None:
    if member.status != JAILED:
        raise Rejected("not_jailed", f"the validator is {member.status}")
    if state.staking.epochs.number < member.jailed_epoch + 2:
        raise Rejected("still_jailed", "after a whole epoch in jail")
    set_status(state, member, CANDIDATE, "unjailed")


def leave(state: State, member: Member) -> None:
    """Let all that a validator has bonded go its way back."""
    stake = state.staking.stake(member.owner)
    if stake:
        state.staking.begin_unbonding(member.owner, stake)
        _tell_stake(state, member, "left", stake)


def set_status(state: State, member: Member, status: str, reason: str) -> None:
    """Let a validator stand differently, and tell it."""
    member.status = status
    state.staking.registry.touch(member)
    _tell(state, member, reason)


def _tell(state: State, member: Member, reason: str) -> None:
    state.open_orders.events.append(
        ValidatorChanged(member.owner, member.address, member.status, reason)
    )


def _tell_stake(state: State, member: Member, kind: str, amount: int) -> None:
    stake = state.staking.stake(member.owner)
    state.open_orders.events.append(
        StakeChanged(
            member.owner, member.address, kind, amount_to_bytes(amount), amount_to_bytes(stake)
        )
    )
