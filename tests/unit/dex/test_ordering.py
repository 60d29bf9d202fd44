"""The order of execution inside a block (PROTOCOL.md P4)."""

from __future__ import annotations

from exchange_world import ALICE, BOB, BTC, CAROL, World, order
from omninode.crypto import keccak256
from omninode.dex.actions import (
    Action,
    ApproveAgent,
    AttestDeposits,
    Batch,
    CancelAll,
    CancelOrder,
    ReplaceOrder,
    RevokeAgent,
    SignCheckpoint,
    Transfer,
    Withdraw,
)
from omninode.dex.events import Trade
from omninode.dex.ordering import CANCELS, POST_ONLY, THE_REST, action_class, execution_order

CANCEL = CancelOrder(0, bytes(32), "")
POST = order("buy", "1", "100", post_only=True)
TAKE = order("buy", "1", "100", tif="ioc")
REST = order("buy", "1", "100")
REPLACE = ReplaceOrder(0, BTC, bytes(32), "", "1", "100")


def test_classes_of_actions() -> None:
    classes: list[tuple[Action, int]] = [
        (CANCEL, CANCELS),
        (CancelAll(0, ""), CANCELS),
        (RevokeAgent(BOB), CANCELS),
        (POST, POST_ONLY),
        (REST, THE_REST),
        (TAKE, THE_REST),
        (REPLACE, THE_REST),
        (Transfer(0, BOB, 0, "USDC", "1"), THE_REST),
        (ApproveAgent(BOB, "", ("trade",), 1), THE_REST),
        (Withdraw(0, "USDC", "1", BOB), THE_REST),
        (AttestDeposits(bytes(32), 1, bytes(32), ()), CANCELS),
        (SignCheckpoint(1, bytes(65)), CANCELS),
        (Batch((CANCEL,), (), ()), CANCELS),
        (Batch((CANCEL,), (), (POST, POST)), POST_ONLY),
        (Batch((), (), (POST, TAKE)), THE_REST),
        (Batch((CANCEL,), (REPLACE,), (POST,)), THE_REST),
    ]
    for action, expected in classes:
        assert action_class(action) == expected


def test_cancels_come_before_post_only_before_the_rest() -> None:
    world = World()
    body = [
        world.transaction(account, action)
        for account, action in ((ALICE, TAKE), (BOB, POST), (CAROL, CANCEL))
    ]
    for seed in range(20):
        assert execution_order(body, bytes([seed]) * 32) == [2, 1, 0]


def test_an_account_never_overtakes_itself() -> None:
    world = World()
    body = [
        world.transaction(ALICE, TAKE),
        world.transaction(ALICE, CANCEL),
        world.transaction(BOB, POST),
    ]
    assert execution_order(body, bytes(32)) == [2, 0, 1]
    assert execution_order([body[1], body[2], body[0]], bytes(32)) == [1, 2, 0]


def test_accounts_of_one_phase_stand_by_the_hash_of_seed_and_account() -> None:
    world = World()
    accounts = [keccak256(bytes([n]))[-20:] for n in range(30)]
    body = [world.transaction(account, TAKE) for account in accounts]
    orders = set()
    for seed in (b"a" * 32, b"b" * 32):
        places = execution_order(body, seed)
        assert [accounts[p] for p in places] == sorted(
            accounts, key=lambda account: keccak256(seed + account)
        )
        orders.add(tuple(places))
    assert len(orders) == 2


def test_the_order_does_not_depend_on_the_body() -> None:
    world = World()
    body = [
        world.transaction(account, action, nonce=world.now_ms + nonce)
        for account in (ALICE, BOB, CAROL)
        for nonce, action in enumerate((POST, CANCEL, TAKE, REST, CANCEL))
    ]
    expected = [body[place] for place in execution_order(body, bytes(32))]
    turned = body[::-1]
    assert [turned[place] for place in execution_order(turned, bytes(32))] == expected


def test_equal_nonces_of_two_signers_go_by_hash() -> None:
    world = World()
    pair = [
        world.transaction(ALICE, TAKE, nonce=world.now_ms),
        world.transaction(ALICE, CANCEL, nonce=world.now_ms, agent=BOB),
    ]
    pair.sort(key=lambda transaction: transaction.hash)
    assert execution_order(pair, bytes(32)) == [0, 1]
    assert execution_order(pair[::-1], bytes(32)) == [1, 0]


def test_a_maker_in_danger_gets_away_whatever_the_body_says() -> None:
    """A cancel in the same block comes before the order that would have hit it."""
    world = World()
    resting = world.place(ALICE, "sell", "1", "100").items[0].order_id
    taker = world.transaction(BOB, TAKE)
    outcome = world.apply(taker, world.transaction(ALICE, CancelOrder(0, resting, "")))
    assert [result.items[0].status for result in outcome.results] == ["cancelled", "cancelled"]
    assert world.of_type(Trade) == []
