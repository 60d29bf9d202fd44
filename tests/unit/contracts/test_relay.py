"""Checkpoints brought to the real contract on a real EVM, whatever happens on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_account import Account

from evm_chain import Refusal
from omninode.contracts import relay as relay_module
from omninode.crypto import checksum_address, keccak256
from relay_world import (
    ABI,
    CHAIN_ID,
    DOMAIN,
    PAYER,
    SEND,
    SUBMIT_GAS,
    TOKEN,
    WORDS,
    World,
    certified,
    chain_world,
    make_hasty,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    make_hasty(monkeypatch)


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
