"""Checkpoints brought to the real contract on a real EVM, whatever happens on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_abi.abi import encode
from eth_account import Account

from evm_chain import GENESIS_HASH, Refusal, Server, served
from omninode.contracts import relay as relay_module
from omninode.contracts.abi import SettlementAbi
from omninode.contracts.artifacts import load_artifact
from omninode.contracts.confirmed import ConfirmedLog
from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.errands import Errands, Held
from omninode.contracts.follower import Follower
from omninode.contracts.relay import Relay
from omninode.contracts.sending import GasAccount
from omninode.contracts.source import ContractTerms, Source
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.evm import (
    SettlementDomain,
    checkpoint_digest,
    handover_digest,
    state_leaf,
    validator_set_hash,
)
from omninode.dex.bridge.handover import CertifiedHandover, Handover
from omninode.dex.bridge.merkle import root_of
from omninode.dex.bridge.stake_proofs import StakeLeaf, StakeProof
from omninode.errors import EndpointError
from omninode.node.funds.calls import encode_call
from omninode.storage.database import Database

pytestmark = pytest.mark.slow

CHAIN_ID = 31_337
DEPLOYER = SigningKey(b"\xdd" * 32)
PAYER = SigningKey(b"\xaa" * 32)
VALIDATORS = [SigningKey(bytes([1 + place]) * 32) for place in range(4)]
WORDS = tuple(key.address + (10).to_bytes(12, "big") for key in VALIDATORS)
TOKEN = b"\x70" * 20
NEXT_WORDS = (*WORDS[1:], SigningKey(b"\x05" * 32).address + (30).to_bytes(12, "big"))
TERMS = ContractTerms((TOKEN,), 0, validator_set_hash(0, WORDS), TOKEN)
COINS = 10**20
COLUMN = b"e"
DEADLINE_S = 30
SEND = "eth_sendRawTransaction"
SUBMIT_GAS = 400_000


def contract_address(deployer: bytes) -> bytes:
    """Where the deployer's first transaction puts a contract: its RLP is `[address, 0]`."""
    return keccak256(b"\xd6\x94" + deployer + b"\x80")[12:]


DOMAIN = SettlementDomain(CHAIN_ID, contract_address(DEPLOYER.address), GENESIS_HASH)
ABI = SettlementAbi(DOMAIN.contract)


def handover(signers: tuple[int, ...] = (0, 2, 3)) -> CertifiedHandover:
    """From the validators of genesis to those of epoch 3."""
    next_hash = validator_set_hash(3, NEXT_WORDS)
    digest = handover_digest(0, next_epoch=3, next_set_hash=next_hash, domain=DOMAIN)
    signatures = tuple((place, VALIDATORS[place].sign(digest)) for place in signers)
    return CertifiedHandover(Handover(0, WORDS, 3, next_hash), signatures)


def certified(
    number: int,
    *,
    signers: tuple[int, ...] = (0, 1, 2),
    epoch: int = 0,
    state_root: bytes = b"\1" * 32,
) -> CertifiedCheckpoint:
    checkpoint = Checkpoint(
        number,
        epoch,
        10 * number,
        1_000 + number,
        state_root,
        bytes(32),
        0,
        b"\2" * 32,
        0,
        GENESIS_HASH,
    )
    digest = checkpoint_digest(checkpoint, DOMAIN)
    keys = VALIDATORS if epoch == 0 else [*VALIDATORS[1:], SigningKey(b"\x05" * 32)]
    return CertifiedCheckpoint(
        checkpoint, tuple((place, keys[place].sign(digest)) for place in signers)
    )


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(relay_module, "FAILURE_PAUSE_S", 0.1)
    monkeypatch.setattr(relay_module, "EMPTY_PAUSE_S", 0.2)
    monkeypatch.setattr(relay_module, "RESEND_S", 0.3)


class World:
    """A chain with the contract, a gate before it, and what one validator runs.

    Attributes:
        sent: Raw transactions that came to the gate, in order.
        certified: The newest certified checkpoint.
        index: The validator's place in the set.
    """

    def __init__(self, path: Path) -> None:
        self.sent: list[bytes] = []
        self.certified: CertifiedCheckpoint | None = None
        self.handovers: dict[int, CertifiedHandover] = {}
        self.proofs: dict[int, tuple[StakeProof, ...]] = {}
        self.index: int | None = 1
        self.gate = Server(self.forward)
        self._path = path

    async def start(self, nursery: trio.Nursery, *, coins: int) -> None:
        alloc = {checksum_address(DEPLOYER.address): COINS}
        if coins:
            alloc[checksum_address(PAYER.address)] = coins
        settings = ChainSettings(
            home=self._path / "chain", port=0, block_interval_ms=100, alloc=alloc
        )
        self.chain = Endpoint(await nursery.start(run_chain, settings), timeout_s=10)
        arguments = encode(
            ["bytes32", "uint64", "bytes32", "address[]", "address"],
            [GENESIS_HASH, 0, validator_set_hash(0, WORDS), [checksum_address(TOKEN)], TOKEN],
        )
        await self.act(None, load_artifact("Settlement").bytecode + arguments, gas=6_000_000)

    async def act(self, to: bytes | None, data: bytes = b"", *, gas: int, value: int = 0) -> None:
        """Send a transaction of the deployer and wait until it has succeeded."""
        sender = checksum_address(DEPLOYER.address)
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": int(await self.chain.call("eth_getTransactionCount", [sender, "latest"]), 16),
            "value": value,
            "data": data,
            "gas": gas,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        }
        if to is not None:
            fields["to"] = checksum_address(to)
        raw = Account.sign_transaction(fields, DEPLOYER.secret).raw_transaction.to_0x_hex()
        name = await self.chain.call(SEND, [raw])
        with trio.fail_after(DEADLINE_S):
            while (found := await self.chain.call("eth_getTransactionReceipt", [name])) is None:
                await trio.sleep(0.02)
        assert found["status"] == "0x1", found

    async def forward(self, method: str, params: list[Any]) -> Any:
        if method == SEND:
            self.sent.append(bytes.fromhex(params[0][2:]))
        return await self.ask(method, params)

    async def ask(self, method: str, params: list[Any]) -> Any:
        """Ask the chain itself."""
        try:
            return await self.chain.call(method, params)
        except EndpointError as error:
            raise Refusal(error.code, str(error), error.data) from None

    @asynccontextmanager
    async def validator(self) -> AsyncIterator[None]:
        """Run the validator's part; leaving it is a crash with what is on the disk kept."""
        self.database = Database.open(self._path / "node")
        endpoint = Endpoint(self.gate.url, timeout_s=5)
        confirmed = ConfirmedLog(self.database, column=COLUMN, domain=DOMAIN, start_block=1)
        self.confirmed = confirmed
        self.follower = Follower(
            [Source(endpoint, abi=ABI, domain=DOMAIN, terms=TERMS)],
            abi=ABI,
            confirmed=confirmed,
            confirmations=2,
            poll_interval_s=0.05,
            on_change=self._changed,
        )
        self.account = GasAccount(PAYER, self.database, column=COLUMN, chain_id=CHAIN_ID)
        self.relay = Relay(
            self.account,
            abi=ABI,
            follower=self.follower,
            errands=Errands(
                ABI,
                certified=lambda: self.certified,
                words={0: WORDS, 3: NEXT_WORDS}.get,
                handover=self.handovers.get,
                proofs=lambda number: self.proofs.get(number, ()),
            ),
            turn=lambda: (self.index, len(WORDS)),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self.follower.run)
            await nursery.start(self.relay.run)
            yield
            nursery.cancel_scope.cancel()
        await endpoint.close()
        self.database.close()

    def _changed(self) -> None:
        self.relay.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(DEADLINE_S):
            while not condition():
                await trio.sleep(0.01)
            return
        pytest.fail(
            f"{self.relay.trouble!r} {self.relay.counts} {len(self.sent)} sent, "
            f"open: {self.account.open is not None}, {self.follower.state()}"
        )

    async def on_chain(self, number: int) -> None:
        """Wait until the contract has a checkpoint, and our transaction is settled."""
        await self.until(lambda: self.follower.newest_checkpoint >= number)
        assert await self.latest() >= number
        await self.until(lambda: self.account.open is None)

    async def latest(self) -> int:
        call = {
            "to": checksum_address(DOMAIN.contract),
            "data": "0x" + keccak256(b"latestCheckpoint()")[:4].hex(),
        }
        return int((await self.chain.call("eth_call", [call, "latest"]))[2:66], 16)

    async def transactions(self) -> int:
        """How many of the payer's transactions are in blocks."""
        sender = checksum_address(PAYER.address)
        return int(await self.chain.call("eth_getTransactionCount", [sender, "latest"]), 16)


@asynccontextmanager
async def chain_world(path: Path, *, coins: int = COINS) -> AsyncIterator[World]:
    world = World(path)
    async with trio.open_nursery() as nursery, served(world.gate):
        await world.start(nursery, coins=coins)
        yield world
        await world.chain.close()
        nursery.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with chain_world(tmp_path) as made:
        yield made


def swallow(world: World) -> None:
    """Let the gate say yes to transactions and hand none on."""

    async def answer(method: str, params: list[Any]) -> Any:
        if method != SEND:
            return await world.ask(method, params)
        raw = bytes.fromhex(params[0][2:])
        world.sent.append(raw)
        return "0x" + keccak256(raw).hex()

    world.gate.answer = answer


async def test_each_checkpoint_is_brought_once(world: World) -> None:
    async with world.validator():
        for number in (1, 5, 9):
            world.certified = certified(number)
            world.relay.wake()
            await world.on_chain(number)
        assert await world.transactions() == 3
        assert world.relay.counts["done"] == 3
        assert world.relay.trouble == ""


async def test_a_handover_comes_after_the_last_checkpoint_and_before_the_next(
    world: World,
) -> None:
    world.certified = certified(4)
    world.handovers[0] = handover()
    async with world.validator():
        await world.until(lambda: world.follower.held == Held(3, 4))
        await world.until(lambda: world.account.open is None)
        world.certified = certified(5, signers=(0, 1, 3), epoch=3)
        world.relay.wake()
        await world.on_chain(5)
        assert await world.transactions() == 3
        assert world.relay.trouble == ""


async def test_a_newer_checkpoint_waits_for_the_handover_whatever_crashes(world: World) -> None:
    async def hang(method: str, params: list[Any]) -> Any:
        if method == SEND:
            await trio.sleep_forever()
        return await world.ask(method, params)

    world.gate.answer = hang
    world.certified = certified(5, signers=(0, 1, 3), epoch=3)
    async with world.validator():
        await trio.sleep(0.3)
        assert world.account.open is None  # the contract would not take it, and nothing else is due
        world.handovers[0] = handover()
        world.relay.wake()
        await world.until(lambda: world.gate.calls[SEND] == 1)
        assert world.account.open is not None
        assert world.account.open.name == "the handover to epoch 3"
    world.gate.answer = world.forward
    async with world.validator():
        await world.on_chain(5)
        assert world.follower.held == Held(3, 5)
        assert world.relay.trouble == ""
    assert await world.transactions() == 2


async def test_a_handover_that_another_has_brought_is_passed_over(world: World) -> None:
    world.handovers[0] = handover()
    data = ABI.rotate_validators(handover((0, 1, 2, 3)))
    await world.act(DOMAIN.contract, data, gas=400_000)
    world.certified = certified(1, signers=(0, 1, 3), epoch=3)
    async with world.validator():
        await world.on_chain(1)
        assert await world.transactions() == 1
        assert world.follower.held == Held(3, 1)
        assert world.relay.trouble == ""
        await world.until(lambda: world.confirmed.ledger.epoch == 3)


async def stake_of(world: World, owner: bytes) -> int:
    data = encode_call("stakeOf(address)", (checksum_address(owner),))
    call = {"to": checksum_address(DOMAIN.contract), "data": "0x" + data.hex()}
    return int(await world.chain.call("eth_call", [call, "latest"]), 16)


async def test_a_slashed_stake_is_proven_once_by_what_the_contract_has(world: World) -> None:
    owners = [bytes([n]) * 20 for n in (7, 8)]
    leaves = [state_leaf(place, owners[place], 1_000, TOKEN, 50 + place) for place in range(2)]

    def proofs(checkpoint: Checkpoint, due_from: int) -> tuple[StakeProof, ...]:
        return tuple(
            StakeProof(checkpoint, owners[n], StakeLeaf(n, 50 + n, (leaves[1 - n],)), due_from + n)
            for n in range(2)
        )

    for number in (4, 5):
        made = certified(number, state_root=root_of(leaves))
        world.proofs[number] = proofs(made.checkpoint, 3)
        world.certified = made
        async with world.validator():
            await world.on_chain(number)
            await world.until(lambda: world.relay._errand is None and not world.account.open)
            assert [await stake_of(world, owner) for owner in owners] == [50, 51]
            assert world.relay.trouble == ""
    # Two checkpoints, and each stake once: the second checkpoint proves what is proven already.
    assert await world.transactions() == 4
    world.proofs[5] = proofs(made.checkpoint, 5)  # slashed again
    async with world.validator():
        await world.until(lambda: world.relay.counts["done"] == 2)
    assert await world.transactions() == 6


async def test_one_who_is_not_in_the_set_brings_nothing(world: World) -> None:
    world.index = None
    world.certified = certified(1)
    async with world.validator():
        await trio.sleep(0.5)
        assert world.sent == []


async def test_only_the_newest_is_brought_after_an_absence(world: World) -> None:
    world.gate.is_open = False
    async with world.validator():
        for number in range(1, 8):
            world.certified = certified(number)
            world.relay.wake()
            await trio.sleep(0.02)
        world.gate.is_open = True
        await world.on_chain(7)
        assert await world.transactions() == 1


async def test_crashed_between_signing_and_sending(world: World) -> None:
    async def hang(method: str, params: list[Any]) -> Any:
        if method == SEND:
            await trio.sleep_forever()
        return await world.ask(method, params)

    world.gate.answer = hang
    world.certified = certified(1)
    async with world.validator():
        await world.until(lambda: world.gate.calls[SEND] == 1)
        assert world.account.open is not None
        (signed,) = world.account.open.raws
    assert world.sent == []
    world.gate.answer = world.forward
    world.certified = certified(4)  # newer by now, and not what is sent first
    async with world.validator():
        await world.on_chain(4)
    assert world.sent[0] == signed
    assert await world.transactions() == 2


async def test_crashed_between_sending_and_the_receipt(world: World) -> None:
    async def hide(method: str, params: list[Any]) -> Any:
        if method == "eth_getTransactionReceipt":
            await trio.sleep_forever()
        return await world.forward(method, params)

    world.gate.answer = hide
    world.certified = certified(1)
    async with world.validator():
        await world.until(lambda: world.follower.newest_checkpoint == 1)
        assert world.account.open is not None
    world.gate.answer = world.forward
    async with world.validator():
        await world.until(lambda: world.account.open is None)
        assert world.relay.counts == {"done": 1}
        assert set(world.sent) == {world.sent[0]}
    assert await world.transactions() == 1


async def test_one_that_is_stuck_is_replaced_under_its_nonce(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "STUCK_S", 0.5)
    swallow(world)
    world.certified = certified(1)
    async with world.validator():
        await world.until(lambda: world.relay.counts["raised"] >= 1)
        world.certified = certified(6)
        raised = world.relay.counts["raised"]
        await world.until(lambda: world.relay.counts["raised"] > raised)
        world.gate.answer = world.forward
        await world.on_chain(6)
    assert await world.transactions() == 1
    assert len(set(world.sent)) > 2


async def test_an_underpriced_one_is_raised_at_once(world: World) -> None:
    async def refuse_first(method: str, params: list[Any]) -> Any:
        if method == SEND and world.gate.calls[SEND] < 3:
            raise Refusal(-32000, "replacement transaction underpriced")
        return await world.forward(method, params)

    world.gate.answer = refuse_first
    world.certified = certified(1)
    async with world.validator():
        await world.on_chain(1)
        assert world.relay.counts["raised"] >= 2
    assert await world.transactions() == 1


async def test_one_that_is_known_already_is_on_its_way(world: World) -> None:
    async def twice(method: str, params: list[Any]) -> Any:
        answer = await world.forward(method, params)
        if method == SEND:
            raise Refusal(-32000, "already known")
        return answer

    world.gate.answer = twice
    world.certified = certified(1)
    async with world.validator():
        await world.on_chain(1)
        assert world.relay.counts["raised"] == 0


async def test_a_nonce_that_somebody_else_used_is_given_up(world: World) -> None:
    swallow(world)
    world.certified = certified(1)
    async with world.validator():
        await world.until(lambda: len(world.sent) >= 1)
        fields = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": checksum_address(TOKEN),
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        }
        raw = Account.sign_transaction(fields, PAYER.secret).raw_transaction.to_0x_hex()
        await world.chain.call(SEND, [raw])
        await world.until(lambda: world.relay.counts["replaced"] == 1)
        world.gate.answer = world.forward
        await world.on_chain(1)
    assert await world.transactions() == 2


async def test_a_nonce_with_a_gap_before_it_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "STUCK_S", 0.5)

    async def one_too_many(method: str, params: list[Any]) -> Any:
        answer = await world.forward(method, params)
        return "0x5" if method == "eth_getTransactionCount" and not world.sent else answer

    world.gate.answer = one_too_many
    world.certified = certified(1)
    async with world.validator():
        await world.on_chain(1)
        assert world.relay.counts["replaced"] == 1
    assert await world.transactions() == 1


async def test_a_late_turn_comes_though_newer_ones_are_certified_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "TURN_S", 0.4)
    world.index = 3
    async with world.validator():
        for number in range(4, 41, 4):  # each of them is first of all validator 0's, who is away
            world.certified = certified(number)
            world.relay.wake()
            with trio.move_on_after(0.3):
                await world.until(lambda: len(world.sent) > 0)
                break
        assert world.sent
        await world.on_chain(number)


async def test_a_turn_lasts_as_long_as_the_chain_needs_for_a_block(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "TURN_S", 0.01)
    world.index = 2
    async with world.validator():
        await world.until(lambda: world.follower.chain_height is not None)
        started = world.follower.chain_height
        assert started is not None
        world.certified = certified(1)
        world.relay.wake()
        await world.until(lambda: len(world.sent) > 0)
        height = world.follower.chain_height
        assert height is not None
        assert height >= started + 2
        await world.on_chain(1)


async def test_an_empty_account_is_told_until_it_is_funded(tmp_path: Path) -> None:
    async with chain_world(tmp_path, coins=0) as world:
        world.certified = certified(1)
        async with world.validator():
            address = checksum_address(PAYER.address)
            await world.until(lambda: address in world.relay.trouble)
            assert "fund it" in world.relay.trouble
            assert world.sent == []
            await world.act(PAYER.address, gas=21_000, value=10**18)
            await world.on_chain(1)
            assert world.relay.trouble == ""


async def test_one_that_somebody_else_brought_costs_nothing(world: World) -> None:
    brought = ABI.submit_checkpoint(certified(3), WORDS)
    await world.act(DOMAIN.contract, brought, gas=SUBMIT_GAS)
    world.certified = certified(2)
    async with world.validator():
        await world.until(lambda: world.follower.newest_checkpoint == 3)
        await trio.sleep(0.3)
        world.certified = certified(3)
        world.relay.wake()
        await trio.sleep(0.3)
        assert world.sent == []
        world.certified = certified(4)
        world.relay.wake()
        await world.on_chain(4)
    assert await world.transactions() == 1


async def test_what_the_contract_would_not_take_is_not_sent_and_told(world: World) -> None:
    world.certified = certified(1, signers=(0, 1))
    async with world.validator():
        await world.until(lambda: "NoQuorum" in world.relay.trouble)
        assert world.sent == []
        world.certified = certified(1)
        await world.on_chain(1)


async def test_each_waits_for_its_turn_and_the_next_takes_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "TURN_S", 0.8)
    world.index = 3
    world.certified = certified(1)
    async with world.validator():
        started = trio.current_time()
        await world.until(lambda: len(world.sent) > 0)
        # Number 1 is validator 1's; 2 waits one turn, 3 waits two.
        assert trio.current_time() - started >= 1.6
        await world.on_chain(1)
        world.certified = certified(3)
        started = trio.current_time()
        world.relay.wake()
        await world.until(lambda: len(world.sent) > 1)
        assert trio.current_time() - started < 0.8
        await world.on_chain(3)


async def test_nothing_is_sent_after_a_deep_reorganisation(world: World) -> None:
    async with world.validator():
        await world.until(lambda: (world.follower.confirmed_height or 0) >= 10)
        await world.chain.call("dev_reorganise", ["0x6"])
        await world.until(lambda: world.follower.state()[0] == "halted")
        world.certified = certified(1)
        world.relay.wake()
        await trio.sleep(0.3)
        assert world.gate.calls[SEND] == 0
        assert world.follower.healthy() == []
        assert len(world.follower.answering()) == 1
