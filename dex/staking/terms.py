"""The terms of staking, as genesis has them, in the exchange's units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from omninode.crypto import parse_address
from omninode.dex.decimals import parse_units

if TYPE_CHECKING:
    from omninode.dex.genesis import Genesis

_PPM_PER_BP = 100


class StakingTerms(msgspec.Struct, frozen=True):
    """What staking costs and pays.

    `asset` is the stake's index; `unit` base units are one of power; `minimum` in base units;
    `reserve` pays the inflation; who has less than `jail_votes` basis points of the votes of an
    epoch goes to jail.
    """

    asset: int
    asset_name: str
    unit: int
    minimum: int
    unbonding_ms: int
    inflation_ppm: int
    reserve: bytes | None
    jail_votes: int
    treasury: bytes
    epoch_ms: int
    blocks_min: int
    max_power_change_ppm: int
    validators_max: int


def staking_terms(genesis: Genesis, validators_max: int) -> StakingTerms | None:
    """Return a genesis' terms, or None where there is no staking."""
    staking = genesis.staking
    if staking is None:
        return None
    asset = genesis.asset_index[staking.asset]
    decimals = genesis.assets[asset].decimals
    return StakingTerms(
        asset=asset,
        asset_name=staking.asset,
        unit=10**decimals,
        minimum=parse_units(staking.minimum, decimals),
        unbonding_ms=staking.unbonding_ms,
        inflation_ppm=staking.inflation_ppm,
        reserve=parse_address(staking.reserve) if staking.reserve else None,
        jail_votes=staking.jail_votes_ppm // _PPM_PER_BP,
        treasury=parse_address(genesis.fees.treasury),
        epoch_ms=genesis.epochs.epoch_ms,
        blocks_min=genesis.epochs.min_epoch_blocks,
        max_power_change_ppm=genesis.epochs.max_power_change_ppm,
        validators_max=validators_max,
    )
