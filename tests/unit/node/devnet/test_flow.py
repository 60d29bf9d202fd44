"""Recorded operations as what accounts sign."""

from __future__ import annotations

import pytest

from omninode.dex.actions import Batch, CancelAll, CancelOrder, PlaceOrder
from omninode.dex.eip712 import Domain
from omninode.dex.replay import Operation, Replay
from omninode.dex.transaction import TRANSACTION_BYTES_MAX, decode_transaction, sign_wallet
from omninode.node.devnet.accounts import BUYERS, SELLERS, derive_keys
from omninode.node.devnet.flow import Flow
from omninode.node.devnet.replay_file import read_replay

DOMAIN = Domain(31_337, bytes(32))


def flow_of(*operations: Operation) -> Flow:
    return Flow(Replay(operations, ()), run="r", buyers=("b0", "b1"), sellers=("s0", "s1"))


def buy(number: int, *, time_ms: int = 5, kind: str = "L", price: int = 7_831_800) -> Operation:
    return Operation(time_ms, kind, number, is_buy=True, price=price, amount=153_453_667)


def test_a_limit_order_in_human_numbers() -> None:
    flow = flow_of(buy(3))
    request = flow.request(2, flow.live[0])
    assert request.trader == "b1"
    assert request.action == PlaceOrder(
        subaccount=0,
        market="BTC-USDC",
        side="buy",
        order_type="limit",
        size="1.53453667",
        price="78318",
        tif="gtc",
        post_only=False,
        slippage_ppm=0,
        client_id="r-2-3",
    )


def test_a_market_order_has_a_bound_and_no_price() -> None:
    flow = flow_of(buy(4, kind="M", price=0))
    action = flow.request(0, flow.live[0]).action
    assert isinstance(action, PlaceOrder)
    assert (action.order_type, action.price, action.tif) == ("market", "", "ioc")
    assert action.slippage_ppm == 50_000


def test_a_cancel_comes_from_the_account_of_its_order() -> None:
    sell = Operation(5, "P", 7, is_buy=False, price=7_831_900, amount=1)
    flow = flow_of(sell, Operation(9, "C", 7))
    placed, cancelled = (flow.request(1, operation) for operation in flow.live)
    assert placed.trader == cancelled.trader == "s1"
    assert cancelled.action == CancelOrder(0, b"", "r-1-7")


def test_what_can_not_be_said_is_left_out_with_its_cancel() -> None:
    flow = flow_of(buy(1, price=0), Operation(9, "C", 1), Operation(9, "C", 99), buy(2))
    assert [operation.number for operation in flow.live] == [2]


def test_the_opening_book_comes_in_batches_per_account() -> None:
    flow = flow_of(*(buy(number, time_ms=0, kind="P") for number in range(1, 402)))
    requests = list(flow.opening(0))
    assert [(r.trader, r.orders) for r in requests] == [
        ("b1", 100),
        ("b1", 100),
        ("b1", 1),
        ("b0", 100),
        ("b0", 100),
    ]
    assert not flow.live


def test_a_pack_cancels_before_it_places() -> None:
    flow = flow_of(buy(2), buy(4), Operation(6, "C", 2))
    (request,) = flow.pack(0, flow.live)
    assert request.orders == 3
    assert isinstance(request.action, Batch)
    assert [cancel.client_id for cancel in request.action.cancels] == ["r-0-2"]
    assert [order.client_id for order in request.action.orders] == ["r-0-2", "r-0-4"]


def test_clearing_is_for_every_trader() -> None:
    assert [(r.trader, r.action) for r in flow_of().clearing()] == [
        (name, CancelAll(0, "BTC-USDC")) for name in ("b0", "b1", "s0", "s1")
    ]


def test_the_shipped_flow_decodes_as_transactions() -> None:
    replay = read_replay(None)
    flow = Flow(replay, run="l9x0z3k1", buyers=BUYERS, sellers=SELLERS)
    keys = derive_keys(1)
    opening = list(flow.opening(0))
    assert sum(request.orders for request in opening) == 6_510 - 22
    requests = [*opening, *(flow.request(0, operation) for operation in flow.live[:200])]
    for nonce, request in enumerate(requests):
        signed = sign_wallet(keys[request.trader], request.action, nonce=nonce, domain=DOMAIN)
        assert len(signed.raw) <= TRANSACTION_BYTES_MAX
        assert decode_transaction(signed.raw).action == request.action
    assert len(flow.live) == pytest.approx(35_598, abs=100)
