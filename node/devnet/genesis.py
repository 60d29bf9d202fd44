"""The genesis of a devnet: who validates, what trades, who owns what, where the money is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import (
    EpochParams,
    FeeShares,
    Genesis,
    GenesisBalance,
    GenesisSettlement,
    GenesisStaking,
    check_genesis,
)
from omninode.node.devnet import accounts
from omninode.node.devnet.chain_place import ChainPlace
from omninode.node.devnet.deployment import XOM, plan_contracts
from omninode.node.home_setup import HomeIdentity
from omninode.node.local_genesis import ASSETS, FUNDS, MARKETS, genesis_validator

CHAIN_ID: Final = "omninode-devnet"
POWER: Final = 10_000
"""What each validator has staked at genesis, in XOM."""

JAIL_VOTES_PPM: Final = 0
"""Nobody is jailed: of four validators a jail would leave three, who must all agree then, and a
crowded machine keeps one of them silent for an epoch easily."""

RESERVE_XOM: Final = "1000000"
EPOCH_MS: Final = 30_000
EPOCH_BLOCKS_MIN: Final = 20
UNBONDING_MS: Final = 120_000
"""Two minutes, so that one sees a stake come back."""

BUYER_USDC: Final = "1000000000"
SELLER_BTC: Final = "10000"
HOUSE_FUNDS: Final = (("USDC", "100000000"), ("ETH", "100000"), ("XOM", "100000000"))

CONFIRMATIONS: Final = 2
"""Its chain has one author and no reorganisations; two show that they are waited for."""

CHECKPOINT_INTERVAL_MS: Final = 1_000


def devnet_genesis(
    validators: Sequence[HomeIdentity],
    keys: Mapping[str, SigningKey],
    chain: ChainPlace,
    *,
    seed: int,
    time_ms: int,
) -> Genesis:
    """Return the genesis of a devnet.

    Args:
        validators: The nodes' keys, in their order.
        keys: The accounts' keys by name (`accounts.derive_keys`).
        chain: The settlement chain; the contracts' addresses follow from it.
        seed: The devnet's seed.
        time_ms: The time of the genesis block, milliseconds since the epoch.
    """
    deployer = accounts.derive_key(seed, accounts.DEPLOYER).address
    reserve = _address(accounts.derive_key(seed, accounts.RESERVE))
    plan = plan_contracts(deployer, chain.first_nonce, ASSETS)
    genesis = Genesis(
        chain_id=CHAIN_ID,
        settlement_chain_id=chain.chain_id,
        genesis_time_ms=time_ms,
        fees=FeeShares(
            treasury=_address(accounts.derive_key(seed, accounts.TREASURY)),
            development=_address(accounts.derive_key(seed, accounts.DEVELOPMENT)),
        ),
        validators=tuple(
            msgspec.structs.replace(
                genesis_validator(identity, moniker=f"node{index}", power=POWER),
                owner=_address(accounts.derive_key(seed, accounts.staker(index))),
            )
            for index, identity in enumerate(validators)
        ),
        assets=tuple(
            msgspec.structs.replace(asset, token=checksum_address(plan.tokens[asset.name]))
            for asset in ASSETS
        ),
        markets=MARKETS,
        balances=(
            *(
                GenesisBalance(address=_address(key), asset=asset, amount=amount)
                for name, key in keys.items()
                for asset, amount in _funds(name)
            ),
            GenesisBalance(address=reserve, asset=XOM, amount=RESERVE_XOM),
        ),
        epochs=EpochParams(epoch_ms=EPOCH_MS, min_epoch_blocks=EPOCH_BLOCKS_MIN),
        settlement=GenesisSettlement(
            contract=checksum_address(plan.contract),
            start_block=chain.start_block,
            confirmations=CONFIRMATIONS,
            checkpoint_interval_ms=CHECKPOINT_INTERVAL_MS,
        ),
        staking=GenesisStaking(
            asset=XOM,
            unbonding_ms=UNBONDING_MS,
            reserve=reserve,
            jail_votes_ppm=JAIL_VOTES_PPM,
        ),
    )
    check_genesis(genesis)
    return genesis


def _funds(name: str) -> tuple[tuple[str, str], ...]:
    if name in accounts.PEOPLE:
        return FUNDS
    if name == accounts.HOUSE:
        return HOUSE_FUNDS
    if name in accounts.BUYERS:
        return (("USDC", BUYER_USDC),)
    return (("BTC", SELLER_BTC),) if name in accounts.SELLERS else ()


def _address(key: SigningKey) -> str:
    return checksum_address(key.address)
