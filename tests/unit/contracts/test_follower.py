"""The follower against endpoints over real HTTP: agreement, absence, lies, reorganisations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from evm_chain import (
    CHAIN_ID,
    CONTRACT,
    DOMAIN,
    GENESIS_HASH,
    TERMS,
    Refusal,
    Server,
    SimChain,
    checkpointed,
    deposit_hash_of,
    deposit_of,
    deposited,
    rotated,
    served,
    withdrawn,
)
from omninode.contracts import follower as follower_module
from omninode.contracts import source as source_module
from omninode.contracts.abi import SettlementAbi
from omninode.contracts.confirmed import ConfirmedLog
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.errands import Held
from omninode.contracts.follower import Follower
from omninode.contracts.limits import TIP_BLOCKS
from omninode.contracts.source import Source
from omninode.dex.bridge.deposits import Cursor
from omninode.dex.bridge.evm import SettlementDomain
from omninode.errors import ConfigError
from omninode.storage.database import Database

CONFIRMATIONS = 2
COLUMN = b"e"
DEADLINE_S = 20
ABI = SettlementAbi(CONTRACT)
LATER = {7: b"\x07" * 32}
"""Hashes of later validators that the exchange knows."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "RETRY_PAUSE_S", 0.02)
    monkeypatch.setattr(follower_module, "RETRY_PAUSE_MAX_S", 0.1)


class World:
    """A follower, its database, and an endpoint for each chain."""

    def __init__(self, path: Path, chains: list[SimChain], domain: SettlementDomain) -> None:
        self.chains = chains
        self.servers = [Server(chain.answer) for chain in chains]
        self.domain = domain
        self.changes = 0
        self._path = path

    def open(self) -> None:
        self.database = Database.open(self._path)
        self.confirmed = ConfirmedLog(
            self.database, column=COLUMN, domain=self.domain, start_block=1
        )
        self.endpoints = [Endpoint(server.url, timeout_s=1) for server in self.servers]
        self.follower = Follower(
            [
                Source(endpoint, abi=ABI, domain=self.domain, terms=TERMS, later_set_hash=LATER.get)
                for endpoint in self.endpoints
            ],
            abi=ABI,
            confirmed=self.confirmed,
            confirmations=CONFIRMATIONS,
            poll_interval_s=0.02,
            on_change=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.close()
        self.database.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(DEADLINE_S):
            while not condition():
                await trio.sleep(0.01)
            return
        pytest.fail(f"{self.follower.state()} {self.confirmed.base} {self.confirmed.ledger}")

    async def reach(self, number: int) -> None:
        await self.until(lambda: self.confirmed.base.number >= number)

    async def state(self, word: str) -> str:
        await self.until(lambda: self.follower.state()[0] == word)
        return self.follower.state()[1]

    @property
    def deposits(self) -> int:
        return self.confirmed.ledger.deposits.count


@asynccontextmanager
async def following(
    path: Path, *chains: SimChain, domain: SettlementDomain = DOMAIN
) -> AsyncIterator[World]:
    world = World(path, list(chains), domain)
    async with served(*world.servers):
        world.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(world.follower.run)
            yield world
            nursery.cancel_scope.cancel()
        await world.close()


def shared(chain: SimChain, count: int) -> list[SimChain]:
    return [chain] * count


async def test_it_follows_and_stores_what_is_confirmed(tmp_path: Path) -> None:
    chain = SimChain(length=5)
    chain.extend(1, deposited(0), deposited(1))
    chain.extend(1, checkpointed(3), withdrawn(8))
    chain.extend(CONFIRMATIONS)
    async with following(tmp_path, chain) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.follower.state() == ("following", "")
        assert world.confirmed.ledger.deposits == Cursor(2, deposit_hash_of(2))
        assert world.confirmed.deposits(0, 2) == (deposit_of(0), deposit_of(1))
        assert [world.confirmed.deposit_hash(n) for n in range(4)] == [
            GENESIS_HASH,
            deposit_hash_of(1),
            deposit_hash_of(2),
            None,
        ]
        assert world.follower.newest_checkpoint == 3
        assert world.follower.is_claimed(8)
        assert not world.follower.is_claimed(7)
        assert world.follower.chain_height == chain.height


async def test_what_is_seen_but_not_confirmed(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        chain.extend(1, checkpointed(4), withdrawn(2), deposited(0))
        await world.until(lambda: world.follower.newest_checkpoint == 4)
        assert world.follower.is_claimed(2)
        assert world.confirmed.ledger.checkpoint == 0
        assert world.deposits == 0
        chain.drop(1)
        chain.extend(2)
        await world.until(lambda: world.follower.newest_checkpoint == 0)
        assert not world.follower.is_claimed(2)


async def test_a_deposit_that_a_reorganisation_removes_is_never_confirmed(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        chain.extend(1, deposited(0))
        await world.until(lambda: world.follower.chain_height == chain.height)
        chain.drop(1)
        chain.extend(4)
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 0
        chain.extend(1, deposited(0))
        chain.extend(CONFIRMATIONS)
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 1


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    chain.extend(1, deposited(0))
    chain.extend(CONFIRMATIONS)
    async with following(tmp_path, chain) as world:
        await world.reach(chain.height - CONFIRMATIONS)
    chain.extend(1, deposited(1))
    chain.extend(CONFIRMATIONS)
    async with following(tmp_path, chain) as world:
        assert world.deposits == 1
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 2
        assert world.servers[0].calls["eth_getLogs"] < 10


async def test_the_log_of_another_contract_is_not_taken_over(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        await world.reach(chain.height - CONFIRMATIONS)
    other = SettlementDomain(CHAIN_ID, b"\xee" * 20, GENESIS_HASH)
    database = Database.open(tmp_path)
    with pytest.raises(ConfigError):
        ConfirmedLog(database, column=COLUMN, domain=other, start_block=1)
    database.close()


async def test_a_long_absence_is_caught_up_in_few_calls(tmp_path: Path) -> None:
    chain = SimChain(length=3)
    for index in range(50):
        chain.extend(100, deposited(index))
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 50
        assert world.servers[0].calls.total() < 200


async def test_a_range_that_is_too_long_for_the_endpoint_is_halved(tmp_path: Path) -> None:
    chain = SimChain(length=3)
    for index in range(6):
        chain.extend(100, deposited(index))

    def answer(method: str, params: list[Any]) -> Any:
        chosen = params[0] if method == "eth_getLogs" else {}
        if "fromBlock" in chosen and int(chosen["toBlock"], 16) - int(chosen["fromBlock"], 16) > 40:
            raise Refusal(-32005, "query returned more than 10000 results")
        return chain.answer(method, params)

    async with following(tmp_path, chain) as world:
        world.servers[0].answer = answer
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 6


async def test_more_logs_than_one_stretch_may_have_are_read_in_shorter_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "LOGS_MAX", 4)
    chain = SimChain(length=3)
    for index in range(30):
        chain.extend(100 if index > 20 else 5, deposited(index))
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 30


async def test_an_endpoint_that_is_away_is_told_and_made_up_for(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        world.servers[0].is_open = False
        detail = await world.state("unreachable")
        assert world.servers[0].url in detail
        assert world.servers[1].url not in detail
        before = world.confirmed.base
        chain.extend(1, deposited(0))
        chain.extend(60)
        await trio.sleep(0.2)
        assert world.confirmed.base == before
        world.servers[0].is_open = True
        await world.state("following")
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 1


async def test_an_hour_without_any_endpoint_is_made_up_for(tmp_path: Path) -> None:
    """Blocks of a second, a deposit in every hundredth."""
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        for server in world.servers:
            server.is_open = False
        await world.state("unreachable")
        for index in range(36):
            chain.extend(100, deposited(index))
        assert world.deposits == 0
        for server in world.servers:
            server.is_open = True
        await world.state("following")
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 36


async def test_one_of_three_may_be_away(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 3)) as world:
        world.servers[1].is_open = False
        await world.reach(chain.height - CONFIRMATIONS)
        chain.extend(1, deposited(0))
        chain.extend(40)
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 1
        state, detail = world.follower.state()
        assert state == "following"
        assert world.servers[1].url in detail
        assert [s.name for s in world.follower.healthy()] == [
            world.servers[0].url,
            world.servers[2].url,
        ]


async def test_two_that_differ_are_named_and_nothing_counts_until_they_agree(
    tmp_path: Path,
) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        liar = world.servers[1]

        def lie(method: str, params: list[Any]) -> Any:
            return [] if method == "eth_getLogs" else chain.answer(method, params)

        liar.answer = lie
        chain.extend(1, deposited(0))
        chain.extend(CONFIRMATIONS + 3)
        detail = await world.state("disagreement")
        assert all(server.url in detail for server in world.servers)
        assert world.deposits == 0
        chain.extend(30)
        await trio.sleep(0.2)
        assert world.deposits == 0
        liar.answer = chain.answer
        await world.state("following")
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 1


async def test_a_deposit_that_never_was_is_not_taken_from_one_of_three(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, *shared(chain, 3)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        false = chain.copy()
        false.extend(1, deposited(0))
        false.extend(30)
        world.servers[2].answer = false.answer
        chain.extend(40)
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.deposits == 0
        await world.until(lambda: "is behind" in world.follower.state()[1])
        false.extend(30)
        named = ("on another chain than the others", "tells otherwise since block")
        await world.until(lambda: any(words in world.follower.state()[1] for words in named))
        assert world.servers[2].url in world.follower.state()[1]
        assert world.follower.state()[0] == "following"
        assert [s.name for s in world.follower.healthy()] == [s.url for s in world.servers[:2]]
        world.servers[2].answer = chain.answer

        def is_whole() -> bool:
            chain.extend()
            return world.follower.state() == ("following", "")

        await world.until(is_whole)


async def test_what_can_not_be_is_not_confirmed_whoever_tells_it(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        wrong = chain.copy()
        wrong.extend(1, deposited(3))
        wrong.extend(5)
        world.servers[0].answer = wrong.answer
        assert "can not be" in await world.state("disagreement")
        assert world.deposits == 0
        assert world.confirmed.base.number == chain.height
        chain.extend(10)
        world.servers[0].answer = chain.answer
        await world.state("following")
        await world.reach(chain.height - CONFIRMATIONS)


async def test_a_deep_reorganisation_halts_also_over_a_restart_until_it_is_undone(
    tmp_path: Path,
) -> None:
    chain = SimChain(length=9)
    chain.extend(1, deposited(0))
    chain.extend(CONFIRMATIONS + 3)
    async with following(tmp_path, *shared(chain, 2)) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        kept = chain.copy()
        base = world.confirmed.base
        chain.drop(CONFIRMATIONS + 4)
        chain.extend(CONFIRMATIONS + 9)
        halted_when_asked: list[bool] = []

        def answer(method: str, params: list[Any]) -> Any:
            if method == "eth_getBlockByNumber" and params[0] == hex(base.number):
                halted_when_asked.append(bool(world.follower.halted))
            return chain.answer(method, params)

        for server in world.servers:
            server.answer = answer
        vanished = f"{base.number - 3} to {base.number}"
        await world.until(lambda: vanished in world.follower.state()[1])
        assert world.follower.state()[0] == "halted"
        assert halted_when_asked[0], "how deep it goes is asked after it is over"
    async with following(tmp_path, *shared(chain, 2)) as world:
        assert world.follower.halted
        await world.until(lambda: world.servers[0].calls["eth_getBlockByNumber"] > 3)
        assert world.follower.state()[0] == "halted"
        assert world.confirmed.base == base
        kept.extend(30)
        for server in world.servers:
            server.answer = kept.answer
        await world.state("following")
        await world.reach(kept.height - CONFIRMATIONS)
        assert not world.follower.halted
    async with following(tmp_path, *shared(kept, 2)) as world:
        assert not world.follower.halted


CHECKS: dict[str, Callable[[SimChain, str, list[Any]], Any]] = {
    "its chain id is 1": lambda chain, method, params: (
        "0x1" if method == "eth_chainId" else chain.answer(method, params)
    ),
    "there is no contract": lambda chain, method, params: (
        "0x" if method == "eth_getCode" else chain.answer(method, params)
    ),
    "is not the settlement contract": lambda chain, method, params: (
        "0x6000" if method == "eth_getCode" else chain.answer(method, params)
    ),
    "another genesis": lambda chain, method, params: (
        "0x" + "77" * 32
        if method == "eth_call" and len(params[0]["data"]) == 10
        else chain.answer(method, params)
    ),
    "genesis does not": lambda chain, method, params: (
        SimChain(tokens=(*chain.tokens, b"\x55" * 20)).answer(method, params)
        if method == "eth_call"
        else chain.answer(method, params)
    ),
    "other validators than those of genesis": lambda chain, method, params: (
        SimChain(set_hash=b"\x55" * 32).answer(method, params)
        if method == "eth_call"
        else chain.answer(method, params)
    ),
    "takes 0x5555555555555555555555555555555555555555 as stake": lambda chain, method, params: (
        SimChain(stake_token=b"\x55" * 20).answer(method, params)
        if method == "eth_call"
        else chain.answer(method, params)
    ),
    "other validators than those of epoch 7": lambda chain, method, params: (
        SimChain(epoch=7, set_hash=b"\x55" * 32).answer(method, params)
        if method == "eth_call"
        else chain.answer(method, params)
    ),
    "does not take token": lambda chain, method, params: (
        "0x" + "00" * 32
        if method == "eth_call" and len(params[0]["data"]) > 10
        else chain.answer(method, params)
    ),
}


@pytest.mark.parametrize("expected", list(CHECKS))
async def test_another_chain_or_contract_never_counts(tmp_path: Path, expected: str) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        world.servers[0].answer = lambda method, params: CHECKS[expected](chain, method, params)
        await world.until(lambda: expected in world.follower.state()[1])
        assert world.follower.state()[0] in {"starting", "unreachable"}
        assert not world.confirmed.has_progress
        world.servers[0].answer = chain.answer
        await world.reach(chain.height - CONFIRMATIONS)


async def test_a_contract_that_knows_later_validators_is_the_right_one(tmp_path: Path) -> None:
    for epoch, set_hash in ((1, b"\x55" * 32), (7, LATER[7])):
        chain = SimChain(f"epoch {epoch}", length=9, epoch=epoch, set_hash=set_hash)
        async with following(tmp_path / str(epoch), chain) as world:
            await world.reach(chain.height - CONFIRMATIONS)


async def test_the_epoch_that_the_contract_is_in_is_followed(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.follower.held == Held(0, 0)
        chain.extend(1, rotated(3), checkpointed(2))
        await world.until(lambda: world.follower.held == Held(3, 2))
        assert world.confirmed.ledger.epoch == 0
        chain.drop(1)
        chain.extend(2)
        await world.until(lambda: world.follower.held == Held(0, 0))
        chain.extend(1, rotated(5))
        chain.extend(CONFIRMATIONS)
        await world.until(lambda: world.confirmed.ledger.epoch == 5)
    async with following(tmp_path, chain) as world:
        assert world.follower.held == Held(5, 0)


async def test_an_endpoint_that_stands_still_is_named(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    still = chain.copy()
    async with following(tmp_path, chain, still) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        chain.extend(TIP_BLOCKS + 1)
        behind = f"{world.endpoints[1].name} is behind, at block {still.height}"
        await world.until(lambda: behind in world.follower.state()[1])
        still.blocks = list(chain.blocks)
        await world.reach(chain.height - CONFIRMATIONS)
        assert world.follower.state() == ("following", "")


async def test_the_contract_is_checked_again_after_every_absence(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        await world.reach(chain.height - CONFIRMATIONS)
        world.servers[0].is_open = False
        await world.state("unreachable")
        world.servers[0].answer = lambda method, params: CHECKS["its chain id is 1"](
            chain, method, params
        )
        world.servers[0].is_open = True
        await world.until(lambda: "chain id is 1" in world.follower.state()[1])
        assert world.follower.state()[0] == "unreachable"


RUBBISH: list[Any] = [None, 5, "0x", "0xzz", [], {}, [[]], [{}], {"number": "0x1"}, "é" * 500, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    ["eth_chainId", "eth_getCode", "eth_call", "eth_getBlockByNumber", "eth_getLogs"],
)
async def test_rubbish_in_any_answer_stops_nothing(tmp_path: Path, method: str) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        for rubbish in RUBBISH:
            world.servers[0].is_open = True
            before = world.servers[0].calls[method]

            def answer(asked: str, params: list[Any], rubbish: Any = rubbish) -> Any:
                return rubbish if asked == method else chain.answer(asked, params)

            world.servers[0].answer = answer
            chain.extend()
            await world.until(lambda n=before: world.servers[0].calls[method] > n + 1)
        assert not world.follower.halted
        world.servers[0].answer = chain.answer
        chain.extend(3)
        await world.reach(chain.height - CONFIRMATIONS)


async def test_the_calls_of_following_are_two_a_block(tmp_path: Path) -> None:
    chain = SimChain(length=9)
    async with following(tmp_path, chain) as world:
        calls = world.servers[0].calls
        # Those of the newest blocks are asked for after the block below them is confirmed.
        await world.until(lambda: calls["eth_getLogs"] >= chain.height)
        hashes = calls["eth_getBlockByHash"]
        for _ in range(20):
            chain.extend()
            await world.until(lambda: calls["eth_getLogs"] >= chain.height)
        await world.reach(chain.height - CONFIRMATIONS)
        assert calls["eth_getLogs"] == chain.height
        assert calls["eth_getBlockByHash"] - hashes == 0
