"""Both sides compared, on a real chain with real contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from money_world import MoneyWorld, money_world
from omninode.errors import ChainError, UserError
from omninode.node.devnet.deployment import vault_of
from omninode.node.funds.backing import Backing, check_contract, read_backing
from omninode.node.funds.calls import DEPOSIT_COUNT, selector, transfer
from omninode.node.funds.chain import SettlementChain
from omninode.node.funds.ledger import Ledger
from omninode.node.funds.moving import approve_if_needed, send_deposit
from omninode.node.funds.terms import SettlementTerms, settlement_terms

pytestmark = pytest.mark.slow


async def compare(world: MoneyWorld, ledger: Ledger, **changes: dict[str, int]) -> Backing:
    return await read_backing(world.supply(**changes), world.chain, ledger, world.terms)


async def deposit(world: MoneyWorld, units: int) -> int:
    wallet = world.wallet(world.keys["alice"])
    token = world.plan.tokens["USDC"]
    await approve_if_needed(wallet, world.chain, token, world.plan.contract, units)
    account = wallet.address
    mined = await send_deposit(wallet, world.terms, token, units, account=account, subaccount=0)
    return mined.index


async def test_what_is_under_way_is_counted_and_one_unit_too_few_is_seen(tmp_path: Path) -> None:
    async with money_world(tmp_path) as world:
        await world.deploy()
        await check_contract(world.chain, world.terms)
        ledger = Ledger(world.chain, world.terms)
        assert (await compare(world, ledger)).is_equal

        assert await deposit(world, 1_000_001) == 0
        assert await deposit(world, 2) == 1
        before = await compare(world, ledger)
        assert before.is_equal
        assert before.assets[0].deposits_under_way == 1_000_003

        genesis = vault_of(world.genesis)["USDC"]
        credited = {"exchange": genesis + 1_000_003, "credited": 1_000_003}
        after = await compare(world, ledger, USDC=credited)
        assert after.is_equal
        assert after.assets[0].deposits_under_way == 0

        withdrawn = {**credited, "exchange": genesis + 1_000_000, "withdrawn": 3}
        requested = await compare(world, ledger, USDC=withdrawn)
        assert requested.is_equal
        assert requested.assets[0].withdrawals_under_way == 3

        one_more = {"exchange": genesis + 1_000_004, "genesis": genesis + 1, "credited": 1_000_003}
        short = await compare(world, ledger, USDC=one_more)
        assert not short.is_right
        row = short.document()["assets"][0]
        assert (row["shortfall"], row["surplus"], row["ok"]) == ("0.000001", "0", False)

        from_nothing = {"exchange": genesis, "credited": 1_000_003}
        assert not (await compare(world, ledger, USDC=from_nothing)).is_right

        never_deposited = {"exchange": genesis + 1_000_004, "credited": 1_000_004}
        phantom = await compare(world, ledger, USDC=never_deposited)
        assert not phantom.is_right
        assert phantom.assets[0].deposits_under_way == -1

        gift = transfer(world.plan.tokens["XOM"], world.plan.contract, 5)
        await world.wallet(world.keys["alice"]).execute(gift, what="a gift")
        richer = await compare(world, ledger, USDC=credited)
        assert richer.is_right
        assert not richer.is_equal
        assert richer.document()["assets"][3]["surplus"] == "0.000000000000000005"

        await _leaves_events_out(world)
        await _another_network(world)


async def _leaves_events_out(world: MoneyWorld) -> None:
    """An endpoint that hides a deposit contradicts the contract's own count."""

    async def ask(method: str, params: list[Any]) -> Any:
        answer = await world.endpoint.call(method, params)
        return answer[1:] if method == "eth_getLogs" else answer

    with pytest.raises(ChainError, match="counts 2 deposits"):
        await Ledger(SettlementChain(ask), world.terms).advance()


async def _another_network(world: MoneyWorld) -> None:
    genesis = {
        "chain_id": "other",
        "settlement_chain_id": 31_337,
        "settlement": {
            "contract": "0x" + world.plan.contract.hex(),
            "start_block": 0,
            "confirmations": 1,
        },
        "assets": [],
    }
    other = settlement_terms({"genesis": genesis, "genesis_hash": "0x" + bytes(32).hex()})
    with pytest.raises(UserError) as caught:
        await check_contract(world.chain, other)
    assert caught.value.reason == "wrong_contract"
    elsewhere = settlement_terms(
        {"genesis": {**genesis, "settlement_chain_id": 1}, "genesis_hash": "0x" + "00" * 32}
    )
    with pytest.raises(UserError) as caught:
        await check_contract(world.chain, elsewhere)
    assert caught.value.reason == "wrong_chain"


class Branches:
    """A chain of which a test decides the blocks; deposits are one a block."""

    def __init__(self, *hashes: str, range_max: int = 1_000) -> None:
        self.hashes = list(hashes)
        self.range_max = range_max

    async def __call__(self, method: str, params: list[Any]) -> Any:
        await trio.lowlevel.checkpoint()
        if method == "eth_getBlockByNumber":
            newest = len(self.hashes) - 1
            number = newest if params[0] == "latest" else int(params[0], 16)
            if number > newest:
                return None
            return {"number": hex(number), "hash": self.hashes[number]}
        if method == "eth_getLogs":
            first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
            if last - first >= self.range_max:
                raise UserError("response_too_large", "the result is too long")
            return [self._deposit(number) for number in range(first, last + 1)]
        assert method == "eth_call"
        assert params[0]["data"] == "0x" + selector(DEPOSIT_COUNT).hex()
        return f"0x{int(params[1], 16) + 1:064x}"

    def _deposit(self, number: int) -> dict[str, Any]:
        from omninode.node.funds.calls import DEPOSITED, topic

        units = len(self.hashes[number])
        topics = [topic(DEPOSITED), hex(number), "0x" + "00" * 12 + "11" * 20, "0x" + "00" * 32]
        return {"topics": topics, "data": "0x" + f"{0:064x}{units:064x}" + "00" * 32}


def terms_of_branches() -> SettlementTerms:
    return settlement_terms(
        {
            "genesis": {
                "chain_id": "x",
                "settlement_chain_id": 1,
                "settlement": {
                    "contract": "0x" + "22" * 20,
                    "start_block": 0,
                    "confirmations": 1,
                },
                "assets": [],
            },
            "genesis_hash": "0x" + "00" * 32,
        }
    )


async def test_more_events_than_one_answer_may_have_are_read_in_halves() -> None:
    ledger = Ledger(SettlementChain(Branches(*"abcdefgh", range_max=3)), terms_of_branches())
    assert (await ledger.advance()).number == 7
    assert ledger.deposits == 8


async def test_after_a_reorganisation_everything_is_counted_anew() -> None:
    branches = Branches("0xa", "0xb", "0xc")
    ledger = Ledger(SettlementChain(branches), terms_of_branches())
    token = bytes.fromhex("11" * 20)
    await ledger.advance()
    assert (ledger.deposits, ledger.deposited[token]) == (3, 9)
    branches.hashes.append("0xd")
    await ledger.advance()
    assert (ledger.deposits, ledger.deposited[token]) == (4, 12)
    branches.hashes[1:] = ["0xbbbb", "0xcccc", "0xdddd", "0xe"]
    block = await ledger.advance()
    assert block.number == 4
    assert (ledger.deposits, ledger.deposited[token]) == (5, 3 + 18 + 3)
