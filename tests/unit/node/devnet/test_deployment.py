"""Contracts on a real chain: planned, deployed, cut off and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from web3.utils import get_create_address

from money_world import money_world
from omninode.crypto import checksum_address
from omninode.errors import UserError
from omninode.node.devnet.deployment import (
    PLENTY,
    created_address,
    plan_of,
    vault_of,
)
from omninode.node.funds.calls import BALANCE_OF


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 255, 256, 70_000])
def test_addresses_are_those_that_others_compute(nonce: int) -> None:
    deployer = bytes(range(20))
    expected = get_create_address(checksum_address(deployer), nonce)
    assert checksum_address(created_address(deployer, nonce)) == expected


@pytest.mark.slow
async def test_everything_is_deployed_once_and_the_vault_is_exact(tmp_path: Path) -> None:
    async with money_world(tmp_path) as world:
        assert await world.deploy() == len(world.calls)
        for asset, units in vault_of(world.genesis).items():
            token = world.plan.tokens[asset]
            assert await world.chain.read(token, BALANCE_OF, world.plan.contract) == units
        alice = world.keys["alice"].address
        usdc = await world.chain.read(world.plan.tokens["USDC"], BALANCE_OF, alice)
        assert usdc == 100_000 * 10**6
        for who, coins in ((alice, PLENTY.account), (world.relayer, PLENTY.relayer)):
            params = [checksum_address(who), "latest"]
            assert int(await world.endpoint.call("eth_getBalance", params), 16) == coins
        assert await world.deploy() == 0


@pytest.mark.slow
@pytest.mark.parametrize("done", [2, 6])
async def test_a_deployment_that_was_cut_off_goes_on(tmp_path: Path, done: int) -> None:
    """Before the contract is there the look at the result fails; the next start does the rest."""
    async with money_world(tmp_path) as world:
        with pytest.raises(UserError):
            await world.deploy(world.calls[:done])
        assert await world.deploy() == len(world.calls) - done


async def test_a_deployer_without_coins_is_named(tmp_path: Path) -> None:
    async with money_world(tmp_path, coins=0) as world:
        with pytest.raises(UserError) as caught:
            await world.deploy()
        assert caught.value.reason == "deployer_needs_coins"
        assert checksum_address(world.deployer.address) in caught.value.hint


async def test_a_genesis_of_another_plan_is_refused(tmp_path: Path) -> None:
    async with money_world(tmp_path) as world:
        assert plan_of(world.genesis, world.deployer.address, 0) == world.plan
        with pytest.raises(UserError, match="other contracts"):
            plan_of(world.genesis, world.deployer.address, 1)
