"""Four validators' settlement parts over one exchange and one chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from evm_chain import Refusal, Server, SimChain, checkpointed, deposited, served
from exchange_world import (
    ALICE,
    CHECKPOINT_MS,
    CONTRACT,
    TOKENS,
    VALIDATORS,
    World,
    deposit,
    make_settled_genesis,
)
from omninode.consensus.types import ValidatorSet
from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import FORWARDED_REPLY_BYTES_MAX
from omninode.contracts.opening import ChainSettings, open_chain_side
from omninode.contracts.service import SettlementService
from omninode.contracts.statements import Statements
from omninode.dex.actions import AttestDeposits, SignCheckpoint, SignHandover
from omninode.dex.bridge.deposits import Cursor
from omninode.dex.bridge.evm import validator_set_hash, validator_set_words
from omninode.dex.eip712 import Domain
from omninode.dex.genesis import GenesisSettlement
from omninode.dex.transaction import Transaction, decode_transaction, recover_signer
from omninode.errors import EndpointError, UserError
from omninode.storage.database import Database

CONFIRMATIONS = 2
DEADLINE_S = 20
BLOCK_S = 0.02


class Network:
    """An exchange whose blocks take what the validators' doors took.

    Attributes:
        taken: Transactions that the doors took, in order.
        refuse: Why the doors refuse everything, if they do.
        lose: Whether what the doors took never comes into a block.
        behind: Whether the nodes are fetching blocks.
    """

    def __init__(self) -> None:
        terms = GenesisSettlement(
            contract=make_settled_genesis().settlement.contract,  # type: ignore[union-attr]
            start_block=1,
            confirmations=CONFIRMATIONS,
            checkpoint_interval_ms=CHECKPOINT_MS,
        )
        self.world = World(make_settled_genesis(settlement=terms))
        self.exchange = self.world.exchange
        domain = self.exchange.state.bridge.domain
        assert domain.contract == CONTRACT
        validators = self.exchange.rules.validator_set
        self.chain = SimChain(
            length=9,
            domain=domain,
            tokens=tuple(TOKENS.values()),
            set_hash=validator_set_hash(validators.epoch, validator_set_words(validators)),
        )
        self.server = Server(self.chain.answer)
        self.taken: list[Transaction] = []
        self.refuse = ""
        self.lose = False
        self.behind = False
        self.services: list[SettlementService] = []
        self.databases: list[Database] = []
        self._pool: list[Transaction] = []
        self._deposits = 0
        self._rolling = self.exchange.rules.hash

    async def submit(self, raw: bytes) -> bytes:
        transaction = decode_transaction(raw)
        rules = self.exchange.rules
        recover_signer(transaction, Domain(rules.settlement_chain_id, rules.hash))
        await trio.lowlevel.checkpoint()
        if self.refuse:
            raise UserError(self.refuse)
        self.taken.append(transaction)
        if not self.lose:
            self._pool.append(transaction)
        return transaction.hash

    def make_service(self, place: int, folder: Path, *, endpoints: int) -> SettlementService:
        key = VALIDATORS[place]
        service = SettlementService(
            self.exchange,
            key=key,
            statements=Statements(
                key, door=self, exchange=self.exchange, now_ms=lambda: self.exchange.time_ms
            ),
            is_behind=lambda: self.behind,
        )
        if endpoints:
            self.databases.append(Database.open(folder / f"node{place}"))
            side = open_chain_side(
                ChainSettings(
                    endpoints=[self.server.url] * endpoints,
                    poll_interval_s=0.02,
                    request_timeout_s=2,
                ),
                self.exchange,
                self.databases[-1],
                column=b"e",
                payer=None,
                me=key.address,
                on_change=service.changed,
                on_call=lambda _: None,
            )
            service.attach(side)
        self.services.append(service)
        return service

    def deposit(self, amount: int) -> None:
        """Let the contract log a deposit of Alice's."""
        made = deposit(ALICE, amount)
        block = self.chain.extend(1, deposited(self._deposits, made, self._rolling))
        self._rolling = block.logs[0].data[-32:]
        self._deposits += 1

    async def make_blocks(self) -> None:
        while True:
            await trio.sleep(BLOCK_S)
            self.step()

    def step(self, after_ms: int = 100) -> None:
        taken, self._pool = self._pool, []
        self.world.apply(*taken, after_ms=after_ms)
        for service in self.services:
            service.changed()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(DEADLINE_S):
            while not condition():
                await trio.sleep(0.01)
            return
        pytest.fail(f"{[s.status() for s in self.services]} {self.taken[-5:]}")

    @property
    def credited(self) -> Cursor:
        return self.exchange.state.bridge.deposits.credited

    def certified(self) -> int:
        return self.services[0].certified_checkpoint() or 0

    def said(self, kind: type[object], place: int = 0) -> list[Transaction]:
        account = VALIDATORS[place].address
        return [t for t in self.taken if t.account == account and isinstance(t.action, kind)]


@asynccontextmanager
async def running(
    folder: Path, *, validators: int = 4, endpoints: int = 1, blocks: bool = True
) -> AsyncIterator[Network]:
    network = Network()
    async with served(network.server), trio.open_nursery() as nursery:
        for place in range(validators):
            await nursery.start(network.make_service(place, folder, endpoints=endpoints).run)
        if blocks:
            nursery.start_soon(network.make_blocks)
        yield network
        nursery.cancel_scope.cancel()
    for database in network.databases:
        database.close()


async def test_deposits_are_credited_and_checkpoints_certified(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        before, _ = network.world.balance(ALICE, "USDC")
        for amount in (5, 70, 900):
            network.deposit(amount)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.credited.count == 3)
        assert network.world.balance(ALICE, "USDC") == (before + 975, 0)
        number = network.certified()
        await network.until(lambda: network.certified() >= number + 2)
        status = network.services[0].status()
        assert (status.state, status.detail, status.deposits) == ("following", "", 3)
        assert status.contract == network.exchange.rules.settlement.contract  # type: ignore[union-attr]


async def test_each_thing_is_said_once(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.credited.count == 1)
        number = network.certified()
        await network.until(lambda: network.certified() >= number + 3)
        for place in range(4):
            assert len(network.said(AttestDeposits, place)) <= 1
            numbers = [t.action.number for t in network.said(SignCheckpoint, place)]  # type: ignore[union-attr]
            assert len(numbers) == len(set(numbers))


async def test_what_got_lost_is_said_again_when_it_has_expired(tmp_path: Path) -> None:
    async with running(tmp_path, validators=1, blocks=False) as network:
        network.lose = True
        network.step(CHECKPOINT_MS)
        await network.until(lambda: len(network.said(SignCheckpoint)) == 1)
        window = network.exchange.rules.consensus.nonce_window_ms
        for _ in range(20):
            network.step(1)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(network.said(SignCheckpoint)) == 1
        network.step(window + 1)  # makes another checkpoint too: only the newest is signed
        await network.until(lambda: len(network.said(SignCheckpoint)) == 2)


async def test_a_refusal_is_survived(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        network.refuse = "mempool_full"
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.services[0].status().deposits == 1)
        await trio.sleep(0.2)
        assert network.credited.count == 0
        network.refuse = ""
        await network.until(lambda: network.credited.count == 1)


async def test_a_clock_that_was_a_day_ahead_silences_nobody_once_it_is_right() -> None:
    network = Network()
    exchange, said = network.exchange, SignCheckpoint(1, bytes(65))
    now_ms = exchange.time_ms + 86_400_000
    statements = Statements(VALIDATORS[0], door=network, exchange=exchange, now_ms=lambda: now_ms)
    await statements.say("checkpoint 1", said)
    assert statements.is_open("checkpoint 1")
    now_ms = exchange.time_ms
    assert not statements.is_open("checkpoint 1")
    await statements.say("checkpoint 1", said)
    window_ms = exchange.rules.consensus.nonce_window_ms
    assert network.taken[1].nonce <= now_ms + window_ms


async def test_without_endpoints_it_signs_and_says_that_it_is_off(tmp_path: Path) -> None:
    async with running(tmp_path, endpoints=0) as network:
        await network.until(lambda: network.certified() >= 2)
        status = network.services[0].status()
        assert status.state == "off"
        assert status.chain_height is None
        assert network.services[0].newest_checkpoint() is None
        assert not network.services[0].is_claimed(0)
        with pytest.raises(EndpointFailure):
            await network.services[0].forward("eth_chainId", [])
        genesis, world = network.credited.hash, network.world
        for place, units in enumerate((1, 2)):
            lie = deposit(ALICE, units)
            told = deposited(0, lie, genesis)
            world.apply(world.attest(place, AttestDeposits(genesis, 1, told[1][-32:], (lie,))))
        assert "validators differ about deposit 0" in network.services[0].status().detail


async def test_who_leaves_hands_over_and_then_falls_silent(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        await network.until(lambda: network.certified() >= 1)
        state = network.exchange.state
        stay = state.validator_set.validators[2:]
        state.validator_set = ValidatorSet(4, stay, seed=state.validator_set.seed)
        number, handovers = network.certified(), state.bridge.handovers
        await network.until(lambda: handovers.after(0) is not None)
        await network.until(lambda: network.certified() >= number + 2)
        certified = state.bridge.checkpoints.certified
        assert certified is not None
        assert certified.checkpoint.epoch == 4
        assert [place for place, _ in certified.signatures] == [0, 1]
        assert all(len(network.said(SignHandover, place)) <= 1 for place in range(4))
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.credited.count == 1)
        assert all(network.said(AttestDeposits, place) for place in (2, 3))
        assert not any(network.said(AttestDeposits, place) for place in (0, 1))


async def test_while_the_chain_is_away_checkpoints_are_certified(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        await network.until(lambda: network.services[0].status().state == "following")
        network.server.is_open = False
        await network.until(lambda: network.services[0].status().state == "unreachable")
        number = network.certified()
        await network.until(lambda: network.certified() >= number + 2)
        with pytest.raises(EndpointFailure):
            await network.services[0].forward("eth_chainId", [])
        network.server.is_open = True
        await network.until(lambda: network.services[0].status().state == "following")


async def test_a_node_that_is_behind_says_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        network.behind = True
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.services[0].status().deposits == 1)
        taken = len(network.taken)
        await trio.sleep(0.3)
        assert len(network.taken) == taken
        assert network.credited.count == 0
        network.behind = False
        await network.until(lambda: network.credited.count == 1)


async def test_after_a_deep_reorganisation_nothing_is_said(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.credited.count == 1)
        network.chain.drop(CONFIRMATIONS + 1)
        network.chain.extend(CONFIRMATIONS + 5)
        await network.until(lambda: all(s.status().state == "halted" for s in network.services))
        await trio.sleep(0.2)
        taken, number = len(network.taken), network.certified()
        await trio.sleep(0.5)
        assert len(network.taken) == taken
        assert network.certified() == number
        assert "not on the chain any more" in network.services[0].status().detail


async def test_credited_deposits_that_are_not_on_the_chain_halt_and_are_objected_to(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, validators=1) as network:
        await network.until(lambda: network.services[0].status().state == "following")
        false = deposit(ALICE, 1_000_000)
        world = network.world
        log_hash = network.exchange.state.bridge.deposits.credited.hash
        told = deposited(0, false, log_hash)
        action = AttestDeposits(log_hash, 1, told[1][-32:], (false,))
        world.apply(*(world.attest(place, action) for place in (1, 2, 3)))
        assert network.credited.count == 1
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        await network.until(lambda: network.services[0].status().state == "halted")
        await network.until(lambda: len(network.said(AttestDeposits)) == 1)
        await network.until(lambda: world.exchange.state.bridge.deposits.disagreement is not None)
        signed = len(network.said(SignCheckpoint))
        await trio.sleep(0.5)
        assert len(network.said(SignCheckpoint)) == signed
        assert "validators differ about deposit 0" in network.services[0].status().detail


async def test_a_validator_that_went_astray_comes_back_once(tmp_path: Path) -> None:
    async with running(tmp_path) as network:
        network.behind = True  # so that its false word is there before its own program's
        await network.until(lambda: network.services[0].status().state == "following")
        genesis, world = network.credited.hash, network.world
        told = deposited(0, deposit(ALICE, 1_000_000), genesis)
        false = AttestDeposits(genesis, 1, told[1][-32:], (deposit(ALICE, 1_000_000),))
        world.apply(world.attest(0, false))
        network.deposit(5)
        network.chain.extend(CONFIRMATIONS)
        true = network.chain.logs(0, network.chain.height)[0]
        right = AttestDeposits(genesis, 1, true.data[-32:], (deposit(ALICE, 5),))
        world.apply(*(world.attest(place, right) for place in (1, 2, 3)))
        assert network.exchange.state.bridge.deposits.disagreement is not None
        network.behind = False
        await network.until(lambda: network.exchange.state.bridge.deposits.disagreement is None)
        number = network.certified()
        await network.until(lambda: network.certified() >= number + 3)
        [said] = network.said(AttestDeposits)
        assert said.action == AttestDeposits(network.credited.hash, 1, network.credited.hash, ())
        assert not any(network.said(AttestDeposits, place) for place in (1, 2, 3))


async def test_calls_are_passed_on(tmp_path: Path) -> None:
    async with running(tmp_path, validators=1) as network:
        service = network.services[0]
        await network.until(lambda: service.status().state == "following")
        assert bytes(await service.forward("eth_chainId", [])) == b'"0x7a69"'

        def refuse(method: str, params: object) -> object:
            raise Refusal(3, "execution reverted", "0xabcd")

        network.server.answer = refuse
        with pytest.raises(EndpointError) as failure:
            await service.forward("eth_call", [])
        assert (failure.value.code, failure.value.data) == (3, "0xabcd")


async def test_an_answer_too_long_to_pass_on_is_asked_for_once(tmp_path: Path) -> None:
    async with running(tmp_path, validators=1, endpoints=2) as network:
        service = network.services[0]
        await network.until(lambda: service.status().state == "following")
        chain = network.server.answer

        def flood(method: str, params: list[Any]) -> object:
            if method == "eth_getBlockReceipts":
                return "a" * FORWARDED_REPLY_BYTES_MAX
            return chain(method, params)

        network.server.answer = flood
        with pytest.raises(EndpointFailure) as failure:
            await service.forward("eth_getBlockReceipts", ["latest"])
        assert failure.value.too_long
        assert network.server.calls["eth_getBlockReceipts"] == 1


async def test_the_newest_checkpoint_on_the_chain_is_known(tmp_path: Path) -> None:
    async with running(tmp_path, validators=1) as network:
        service = network.services[0]
        assert service.newest_checkpoint() is None
        network.chain.extend(1, checkpointed(2))
        await network.until(lambda: service.newest_checkpoint() == 2)
        assert service.status().checkpoint == 2
