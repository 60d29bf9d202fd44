"""A settlement chain with a network's contracts on it, in this process; no validators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.contracts.endpoint import Endpoint
from omninode.crypto import SigningKey, checksum_address
from omninode.dex.decimals import format_units
from omninode.node.devnet.accounts import DEPLOYER, derive_key, derive_keys
from omninode.node.devnet.chain_place import ChainPlace
from omninode.node.devnet.deployment import (
    DEPLOYER_COINS,
    WEI,
    Plan,
    deploy,
    deployment_calls,
    plan_contracts,
    vault_of,
)
from omninode.node.devnet.genesis import devnet_genesis
from omninode.node.funds.calls import Call
from omninode.node.funds.chain import SettlementChain
from omninode.node.funds.terms import settlement_terms
from omninode.node.funds.wallet import Wallet
from omninode.node.home import Home
from omninode.node.home_setup import create_keys

SEED = 1
BLOCK_INTERVAL_MS = 50


class MoneyWorld:
    """The chain, the contracts' plan, and who has money there."""

    def __init__(self, folder: Path, url: str, endpoint: Endpoint) -> None:
        self.url = url
        self.endpoint = endpoint
        self.chain = SettlementChain(endpoint.call)
        self.deployer = derive_key(SEED, DEPLOYER)
        self.keys = derive_keys(SEED)
        validator = create_keys(Home(folder / "node"), password=None, light=True)
        place = ChainPlace("embedded", "http://127.0.0.1:0")
        self.genesis = devnet_genesis([validator], self.keys, place, seed=SEED, time_ms=1)
        self.plan: Plan = plan_contracts(self.deployer.address, 0, self.genesis.assets)
        self.calls: list[Call] = deployment_calls(
            self.genesis,
            self.plan,
            purses=[self.keys["alice"].address],
            relayers=[validator.relayer],
        )
        self.relayer = validator.relayer
        self.terms = settlement_terms(
            {
                "genesis": {
                    "chain_id": self.genesis.chain_id,
                    "settlement_chain_id": self.genesis.settlement_chain_id,
                    "settlement": {
                        "contract": checksum_address(self.plan.contract),
                        "start_block": 0,
                        "confirmations": 2,
                    },
                    "assets": [
                        {"name": asset.name, "decimals": asset.decimals, "token": asset.token}
                        for asset in self.genesis.assets
                    ],
                },
                "genesis_hash": "0x" + self.genesis.hash.hex(),
            }
        )

    async def deploy(self, calls: Sequence[Call] | None = None) -> int:
        chosen = self.calls if calls is None else calls
        return await deploy(self.endpoint.call, self.deployer, self.genesis, self.plan, chosen)

    def wallet(self, key: SigningKey) -> Wallet:
        return Wallet(key, self.endpoint.call, chain_id=self.genesis.settlement_chain_id)

    def supply(self, **changes: dict[str, int]) -> Callable[[], Any]:
        """Return an exchange as genesis left it, but for changes: asset -> field -> base units."""
        rows = []
        for asset in self.genesis.assets:
            units = vault_of(self.genesis)[asset.name]
            row = {"exchange": units, "genesis": units, "credited": 0, "withdrawn": 0}
            row |= changes.get(asset.name, {})
            texts = {name: format_units(value, asset.decimals) for name, value in row.items()}
            rows.append({"asset": asset.name, **texts})

        async def read() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            return {"height": 7, "assets": rows}

        return read


@asynccontextmanager
async def money_world(folder: Path, *, coins: int = DEPLOYER_COINS) -> AsyncIterator[MoneyWorld]:
    """Run a chain on which nothing is deployed yet."""
    deployer = derive_key(SEED, DEPLOYER)
    settings = ChainSettings(
        home=folder / "chain",
        port=0,
        block_interval_ms=BLOCK_INTERVAL_MS,
        alloc={checksum_address(deployer.address): coins * WEI},
    )
    async with trio.open_nursery() as nursery:
        url = await nursery.start(run_chain, settings)
        endpoint = Endpoint(url, timeout_s=30)
        try:
            yield MoneyWorld(folder, url, endpoint)
        finally:
            with trio.CancelScope(shield=True):
                await endpoint.close()
        nursery.cancel_scope.cancel()
