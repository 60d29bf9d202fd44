"""The genesis that `omninode init` writes when it is given none: a network of this one validator.

It has the three markets that a devnet has, and all its funds belong to one account, so that the
node can be tried at once. A real network starts from a genesis that its validators wrote together
(`omninode init --genesis FILE`).
"""

from __future__ import annotations

from typing import Final

from omninode.crypto import checksum_address
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisValidator,
    check_genesis,
)
from omninode.node.home_setup import HomeIdentity

DEFAULT_CHAIN_ID: Final = "local"
SETTLEMENT_CHAIN_ID: Final = 31_337
"""The chain id that development chains use."""

DEV_CHAIN_IDS: Final = frozenset({1_337, SETTLEMENT_CHAIN_ID})
"""Chains of developers' tools: whoever runs one makes money on it."""

ASSETS: Final = (
    GenesisAsset(name="USDC", decimals=6),
    GenesisAsset(name="BTC", decimals=8),
    GenesisAsset(name="ETH", decimals=18),
    GenesisAsset(name="XOM", decimals=18),
)
MARKETS: Final = (
    GenesisMarket(name="BTC-USDC", base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
    GenesisMarket(name="ETH-USDC", base="ETH", quote="USDC", tick="0.01", lot="0.0001"),
    GenesisMarket(name="XOM-USDC", base="XOM", quote="USDC", tick="0.0001", lot="1"),
)
FUNDS: Final = (("USDC", "1000000"), ("BTC", "10"), ("ETH", "100"), ("XOM", "100000"))


def genesis_validator(identity: HomeIdentity, *, moniker: str, power: int) -> GenesisValidator:
    """Return a genesis' entry for the validator that has these keys."""
    return GenesisValidator(
        moniker=moniker,
        address=checksum_address(identity.address),
        public_key="0x" + identity.public_key.hex(),
        peer_id=identity.peer_id,
        power=power,
        beacon_key="0x" + identity.beacon_key.hex() if identity.beacon_key else "",
    )


def local_genesis(
    validator: HomeIdentity, *, moniker: str, chain_id: str, owner: bytes, time_ms: int
) -> Genesis:
    """Return the genesis of a network with one validator.

    Args:
        validator: Its keys.
        moniker: Its name.
        chain_id: The network's name.
        owner: The account that gets `FUNDS` and the treasury's share of fees.
        time_ms: The time of the genesis block, milliseconds since the epoch.

    Raises:
        ConfigError: The chain id is not one.
    """
    account = checksum_address(owner)
    genesis = Genesis(
        chain_id=chain_id,
        settlement_chain_id=SETTLEMENT_CHAIN_ID,
        genesis_time_ms=time_ms,
        fees=FeeShares(treasury=account, development=account),
        validators=(genesis_validator(validator, moniker=moniker, power=1),),
        assets=ASSETS,
        markets=MARKETS,
        balances=tuple(
            GenesisBalance(address=account, asset=asset, amount=amount) for asset, amount in FUNDS
        ),
    )
    check_genesis(genesis)
    return genesis
