"""What must always hold in the staking state; a breach is our own defect and stops the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.dex.staking.registry import TOMBSTONED
from omninode.dex.staking.state import BONDED, UNBONDING_PART
from omninode.errors import BrokenInvariant

if TYPE_CHECKING:
    from omninode.dex.state import State


def check_staking(state: State) -> None:
    """Check that every stake is a validator's, and that what unbonds adds up.

    Raises:
        BrokenInvariant: The first breach found.
    """
    staking, terms = state.staking, state.staking.terms
    if terms is None:
        return
    if staking.epochs.number != state.validator_set.epoch:
        raise BrokenInvariant(f"epoch {staking.epochs.number}, its set says otherwise")
    waiting: dict[bytes, int] = {}
    for part in staking.unbondings.parts.values():
        waiting[part.owner] = waiting.get(part.owner, 0) + part.amount
    for owner in state.accounts.owners.values():
        for subaccount in (BONDED, UNBONDING_PART):
            account = owner.subaccounts.get(subaccount)
            units = 0 if account is None else account.free(terms.asset)
            if units and owner.address not in staking.registry.members:
                raise BrokenInvariant(f"0x{owner.address.hex()} stakes and is no validator")
        if staking.unbonding(owner.address) != waiting.pop(owner.address, 0):
            raise BrokenInvariant(f"what 0x{owner.address.hex()} unbonds does not add up")
    if waiting:
        raise BrokenInvariant("nobody's stake is on its way back")
    for convict in staking.convictions.by_owner:
        member = staking.registry.of(convict)
        if member is None or member.status != TOMBSTONED:
            raise BrokenInvariant(f"0x{convict.hex()} was convicted and is no tombstone")
