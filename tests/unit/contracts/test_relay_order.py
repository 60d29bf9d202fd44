"""Handovers and proofs of stake, brought in their order whatever crashes, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from omninode.contracts.errands import Held
from omninode.crypto import checksum_address
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.evm import state_leaf
from omninode.dex.bridge.merkle import root_of
from omninode.dex.bridge.stake_proofs import StakeLeaf, StakeProof
from omninode.node.funds.calls import encode_call
from relay_world import (
    ABI,
    DOMAIN,
    SEND,
    TOKEN,
    World,
    certified,
    chain_world,
    handover,
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


async def see_blocks(world: World) -> None:
    """Return after several blocks, at each of which the relay has looked for what is due."""
    await world.until(lambda: world.follower.chain_height is not None)
    first = world.follower.chain_height or 0
    await world.until(lambda: (world.follower.chain_height or 0) >= first + 4)


async def test_a_newer_checkpoint_waits_for_the_handover_whatever_crashes(world: World) -> None:
    async def hang(method: str, params: list[Any]) -> Any:
        if method == SEND:
            await trio.sleep_forever()
        return await world.ask(method, params)

    world.gate.answer = hang
    world.certified = certified(5, signers=(0, 1, 3), epoch=3)
    async with world.validator():
        await see_blocks(world)
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
        await see_blocks(world)
        assert world.sent == []
