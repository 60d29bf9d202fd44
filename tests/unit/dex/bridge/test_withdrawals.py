"""Taking funds out: who may, what it costs, and the tree that proves it."""

from __future__ import annotations

from typing import Any

import pytest

from exchange_world import (
    ALICE,
    BOB,
    CONTRACT,
    DAVE,
    TOKENS,
    Log,
    World,
    deposit,
    make_settled_genesis,
)
from omninode.crypto import keccak256
from omninode.dex.actions import ApproveAgent, Withdraw
from omninode.dex.bridge.evm import withdrawal_leaf
from omninode.dex.bridge.merkle import Peaks, proof, verify
from omninode.dex.events import CheckpointMade, WithdrawalRequested
from omninode.encoding import amount_from_bytes

AGENT = keccak256(b"agent")[-20:]
SOMEWHERE = keccak256(b"somewhere")[-20:]


@pytest.fixture
def world() -> World:
    return World(make_settled_genesis())


def test_a_withdrawal_takes_the_funds_and_is_told(world: World) -> None:
    result = world.withdraw(ALICE, "12.5", recipient=SOMEWHERE)
    assert result.code == "ok"
    assert world.balance(ALICE, "USDC") == (999_987_500_000, 0)
    (event,) = world.of_type(WithdrawalRequested)
    assert event == WithdrawalRequested(
        0,
        ALICE,
        0,
        "USDC",
        (12_500_000).to_bytes(16, "big"),
        TOKENS["USDC"],
        SOMEWHERE,
        result.hash,
    )
    assert world.exchange.state.bridge.supply(0) == 3_000_000 * 10**6 - 12_500_000


def test_all_of_it_and_not_a_unit_more(world: World) -> None:
    assert world.withdraw(ALICE, "1000000.000001").reason == "insufficient_balance"
    assert world.withdraw(ALICE, "1000000").code == "ok"
    assert world.balance(ALICE, "USDC") == (0, 0)
    assert world.withdraw(ALICE, "0.000001").reason == "insufficient_balance"
    assert world.withdraw(DAVE, "1").reason == "insufficient_balance"
    assert world.exchange.state.bridge.withdrawals.count == 1


def test_what_orders_hold_stays(world: World) -> None:
    world.place(ALICE, "sell", "10", "1000")
    assert world.withdraw(ALICE, "0.00000001", asset="BTC").reason == "insufficient_balance"
    world.cancel_all(ALICE)
    assert world.withdraw(ALICE, "10", asset="BTC").code == "ok"


def test_a_subaccount_withdraws_its_own(world: World) -> None:
    world.transfer(ALICE, ALICE, "5", to_subaccount=3)
    assert world.withdraw(ALICE, "6", subaccount=3).reason == "insufficient_balance"
    assert world.withdraw(ALICE, "5", subaccount=3).code == "ok"
    assert world.of_type(WithdrawalRequested)[0].subaccount == 3


def test_a_session_key_never_withdraws(world: World) -> None:
    permissions = ("trade", "cancel", "transfer")
    world.do(ALICE, ApproveAgent(AGENT, "bot", permissions, world.now_ms + 10**6))
    assert world.do(ALICE, Withdraw(0, "USDC", "1", AGENT), agent=AGENT).reason == "not_authorised"
    assert world.exchange.state.bridge.withdrawals.count == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"asset": "DOGE"}, "unknown_asset"),
        ({"asset": "ETH"}, "not_withdrawable"),
        ({"amount": "0.0000001"}, "off_grid"),
        ({"amount": "9" * 38}, "malformed"),
        ({"recipient": bytes(20)}, "invalid_recipient"),
        ({"recipient": CONTRACT}, "invalid_recipient"),
        ({"recipient": TOKENS["USDC"]}, "invalid_recipient"),
    ],
)
def test_what_could_never_be_paid_is_refused(
    world: World, fields: dict[str, Any], reason: str
) -> None:
    values = {"subaccount": 0, "asset": "USDC", "amount": "1", "recipient": ALICE} | fields
    assert world.do(ALICE, Withdraw(**values)).reason == reason


def test_without_settlement_nothing_is_withdrawn() -> None:
    world = World()
    assert world.withdraw(ALICE, "1").reason == "no_settlement"


def test_every_withdrawal_is_proven_against_every_later_checkpoint(world: World) -> None:
    nodes: dict[tuple[int, int], bytes] = {}
    leaves: list[bytes] = []
    history = Peaks()
    roots: list[tuple[int, bytes]] = []
    for number in range(23):
        recipient = keccak256(b"%d" % number)[-20:]
        world.apply(
            *(
                world.transaction(trader, Withdraw(0, asset, "0.5", recipient))
                for trader, asset in ((ALICE, "USDC"), (BOB, "BTC"))[: 1 + number % 2]
            ),
            after_ms=1_000 if number % 3 == 0 else 100,
        )
        for event in world.of_type(WithdrawalRequested):
            leaf = withdrawal_leaf(
                event.index, event.token, event.recipient, amount_from_bytes(event.amount)
            )
            assert event.index == len(leaves)
            leaves.append(leaf)
            nodes.update({(level, index): node for level, index, node in history.append(leaf)})
        made = [event.checkpoint for event in world.of_type(CheckpointMade)]
        roots += [(c.withdrawal_count, c.withdrawal_root) for c in made]
    assert len(roots) > 5
    assert roots[-1][0] > 20
    for count, root in roots:
        for index in range(count):
            siblings = proof(index, count, lambda level, at: nodes[level, at])
            assert verify(leaves[index], siblings, root)


def test_in_and_out_again_leaves_the_supply_as_it_was(world: World) -> None:
    log = Log(world.exchange.rules.hash, [deposit(DAVE, 12345, "BTC")])
    world.apply(*(world.attest(n, log.attestation(0)) for n in range(3)))
    assert world.withdraw(DAVE, "0.00012345", asset="BTC").code == "ok"
    flow = world.exchange.state.bridge.flows[1]
    assert (flow.credited, flow.withdrawn) == (12345, 12345)
    assert world.exchange.state.bridge.supply(1) == 30 * 10**8
