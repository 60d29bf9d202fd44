"""The genesis of a devnet: who validates, what trades, who owns what, where the money is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisBalance,
    GenesisSettlement,
    check_genesis,
)
from omninode.node.devnet import accounts
from omninode.node.devnet.chain_place import ChainPlace
from omninode.node.devnet.deployment import plan_contracts
from omninode.node.home_setup import HomeIdentity
from omninode.node.local_genesis import ASSETS, FUNDS, MARKETS, genesis_validator

CHAIN_ID: Final = "omninode-devnet"
POWER: Final = 100

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
            genesis_validator(identity, moniker=f"node{index}", power=POWER)
            for index, identity in enumerate(validators)
        ),
        assets=tuple(
            msgspec.structs.replace(asset, token=checksum_address(plan.tokens[asset.name]))
            for asset in ASSETS
        ),
        markets=MARKETS,
        balances=tuple(
            GenesisBalance(address=_address(key), asset=asset, amount=amount)
            for name, key in keys.items()
            for asset, amount in _funds(name)
        ),
        settlement=GenesisSettlement(
            contract=checksum_address(plan.contract),
            start_block=chain.start_block,
            confirmations=CONFIRMATIONS,
            checkpoint_interval_ms=CHECKPOINT_INTERVAL_MS,
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
