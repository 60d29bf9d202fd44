"""A settlement chain with a network's contracts on it, in this process; no validators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from omninode.contracts.abi import SettlementAbi
from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.contracts.endpoint import Endpoint
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.evm import (
    SettlementDomain,
    checkpoint_digest,
    validator_set_words,
    withdrawal_leaf,
)
from omninode.dex.decimals import format_units
from omninode.dex.events import WithdrawalRequested
from omninode.encoding import amount_to_bytes
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
from omninode.node.keys.keystore import read_keystore
from omninode.node.rpc.settlement_reads import withdraw_calldata

SEED = 1
BLOCK_INTERVAL_MS = 50
RECIPIENT = bytes([9]) * 20


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
        self.validator = read_keystore(
            Home(folder / "node").validator_keystore,
            Home(folder / "node").validator_password.read_text().strip(),
        )
        self.genesis_answer: dict[str, Any] = {
            "genesis": {
                "chain_id": self.genesis.chain_id,
                "settlement_chain_id": self.genesis.settlement_chain_id,
                "settlement": {
                    "contract": checksum_address(self.plan.contract),
                    "start_block": 0,
                    "confirmations": 2,
                },
                "staking": {"asset": "XOM", "minimum": "1000", "unbonding_ms": 60_000},
                "assets": [
                    {"name": asset.name, "decimals": asset.decimals, "token": asset.token}
                    for asset in self.genesis.assets
                ],
            },
            "genesis_hash": "0x" + self.genesis.hash.hex(),
        }
        self.terms = settlement_terms(self.genesis_answer)

    async def deploy(self, calls: Sequence[Call] | None = None) -> int:
        chosen = self.calls if calls is None else calls
        return await deploy(self.endpoint.call, self.deployer, self.genesis, self.plan, chosen)

    def wallet(self, key: SigningKey) -> Wallet:
        return Wallet(key, self.endpoint.call, chain_id=self.genesis.settlement_chain_id)

    async def checkpoint_withdrawals(self, amounts: tuple[int, int]) -> list[dict[str, Any]]:
        """Give the contract a checkpoint with two withdrawals of USDC; return their proofs."""
        token, recipient = self.plan.tokens["USDC"], RECIPIENT
        leaves = [withdrawal_leaf(i, token, recipient, units) for i, units in enumerate(amounts)]
        checkpoint = Checkpoint(
            number=1,
            epoch=0,
            height=1,
            time_ms=1,
            state_root=bytes(32),
            withdrawal_root=keccak256(b"".join(sorted(leaves))),
            withdrawal_count=2,
            fee_root=bytes(32),
            deposit_count=0,
            deposit_hash=self.genesis.hash,
        )
        domain = SettlementDomain(
            self.genesis.settlement_chain_id, self.plan.contract, self.genesis.hash
        )
        signature = self.validator.sign(checkpoint_digest(checkpoint, domain))
        data = SettlementAbi(self.plan.contract).submit_checkpoint(
            CertifiedCheckpoint(checkpoint, ((0, signature),)),
            validator_set_words(self.genesis.validator_set),
        )
        submit = Call(self.plan.contract, data)
        await self.wallet(self.deployer).execute(submit, what="the checkpoint")
        return [
            {
                "id": i,
                "asset": "USDC",
                "amount": format_units(units, 6),
                "recipient": checksum_address(recipient),
                "calldata": "0x" + self._withdraw(checkpoint, i, units, leaves[1 - i]).hex(),
            }
            for i, units in enumerate(amounts)
        ]

    def _withdraw(self, checkpoint: Checkpoint, index: int, units: int, sibling: bytes) -> bytes:
        event = WithdrawalRequested(
            index=index,
            account=RECIPIENT,
            subaccount=0,
            asset="USDC",
            token=self.plan.tokens["USDC"],
            amount=amount_to_bytes(units),
            recipient=RECIPIENT,
            transaction_hash=bytes(32),
        )
        return withdraw_calldata(checkpoint, event, [sibling])

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
