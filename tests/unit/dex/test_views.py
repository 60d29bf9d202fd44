"""What users see: the documents of INTERFACES, in decimal text."""

from __future__ import annotations

import json

import pytest

from exchange_world import (
    ALICE,
    BOB,
    BTC,
    CAROL,
    CHECKPOINT_MS,
    DAVE,
    ETH,
    TOKENS,
    XOM,
    Log,
    World,
    deposit,
    make_settled_genesis,
    order,
)
from omninode.crypto import checksum_address, keccak256
from omninode.dex.actions import ApproveAgent
from omninode.dex.documents import (
    event_document,
    fill_document,
    order_document,
    rejected_order_document,
    result_document,
    trade_document,
)
from omninode.dex.events import OrderRejected, OrderUpdated, Trade
from omninode.dex.views import (
    account_view,
    limits_view,
    markets_view,
    open_orders_view,
    order_book_view,
    order_by_client_id_view,
    order_view,
    supply_view,
)
from omninode.errors import Rejected

AGENT = keccak256(b"agent")[-20:]

ORDER_KEYS = [
    "order_id",
    "client_id",
    "market",
    "side",
    "type",
    "tif",
    "state",
    "reason",
    "price",
    "size",
    "filled",
    "remaining",
    "average_price",
    "fees",
    "height",
    "children",
]
"""Word for word from INTERFACES.md §1."""


def test_an_order_document_has_the_promised_keys_through_its_life() -> None:
    world = World()
    first = world.place(ALICE, "buy", "1.5", "100.25", client_id="mine").items[0].order_id
    document = order_view(world.exchange, first)
    assert document is not None
    assert list(document) == ORDER_KEYS
    assert document == {
        "order_id": "0x" + first.hex(),
        "client_id": "mine",
        "market": BTC,
        "side": "buy",
        "type": "limit",
        "tif": "gtc",
        "state": "open",
        "reason": "",
        "price": "100.25",
        "size": "1.5",
        "filled": "0",
        "remaining": "1.5",
        "average_price": None,
        "fees": "0",
        "height": 1,
        "children": [],
    }
    world.place(BOB, "sell", "0.5", "100")
    document = order_view(world.exchange, first)
    assert document is not None
    assert (document["state"], document["filled"], document["remaining"]) == (
        "partially_filled",
        "0.5",
        "1",
    )
    assert (document["average_price"], document["fees"]) == ("100.25", "0.050125")
    assert order_by_client_id_view(world.exchange, ALICE, 0, client_id="mine") == document
    world.cancel(ALICE, first)
    assert order_view(world.exchange, first) is None
    [event] = world.of_type(OrderUpdated)
    spec = world.exchange.rules.market_specs[BTC]
    closed = order_document(spec, event.order, event.state, event.reason)
    assert closed == document | {"state": "cancelled", "reason": "user"}


def test_a_rejected_order_has_the_same_keys() -> None:
    world = World()
    world.place(ALICE, "buy", "1", "100.001", client_id="x")
    [event] = world.of_type(OrderRejected)
    document = rejected_order_document(event, 1)
    assert list(document) == ORDER_KEYS
    assert (document["state"], document["reason"], document["price"]) == (
        "rejected",
        "off_tick",
        "100.001",
    )


def test_an_average_price_over_several_levels_is_cut_not_rounded() -> None:
    world = World()
    for price in ("100", "100.01", "100.01"):
        world.place(ALICE, "sell", "1", price)
    result = world.place(BOB, "buy", "3")
    document = result_document(world.exchange.rules, result)
    [item] = document["items"]
    assert (item["status"], item["filled"], item["average_price"]) == (
        "filled",
        "3",
        "100.00666666",
    )
    [taker] = [e for e in world.of_type(OrderUpdated) if e.order.account == BOB]
    spec = world.exchange.rules.market_specs[BTC]
    assert order_document(spec, taker.order, taker.state, taker.reason)["price"] is None


def test_an_account_shows_balances_by_subaccount_and_living_agents() -> None:
    world = World()
    world.place(ALICE, "sell", "2.5", "100")
    world.transfer(ALICE, ALICE, "0.000001", to_subaccount=2)
    world.do(ALICE, ApproveAgent(AGENT, "bot", ("trade",), world.now_ms + 10_000))
    document = account_view(world.exchange, ALICE)
    assert document["address"] == checksum_address(ALICE)
    assert document["height"] == 3
    main, other = document["subaccounts"]
    assert main["account"] == checksum_address(ALICE) + "/0"
    assert main["balances"][0] == {
        "asset": "USDC",
        "free": "999999.999999",
        "held": "0",
        "total": "999999.999999",
    }
    assert main["balances"][1] == {"asset": "BTC", "free": "7.5", "held": "2.5", "total": "10"}
    assert main["open_orders"] == 1
    assert other["balances"] == [
        {"asset": "USDC", "free": "0.000001", "held": "0", "total": "0.000001"}
    ]
    assert [agent["agent"] for agent in document["agents"]] == [checksum_address(AGENT)]
    world.apply(after_ms=20_000)
    assert account_view(world.exchange, ALICE)["agents"] == []


def test_reading_a_stranger_makes_no_account() -> None:
    world = World()
    document = account_view(world.exchange, DAVE)
    assert (document["subaccounts"], document["agents"]) == ([], [])
    assert open_orders_view(world.exchange, DAVE) == []
    assert limits_view(world.exchange, DAVE)["open_orders"] == 0
    assert order_by_client_id_view(world.exchange, DAVE, 0, client_id="x") is None
    assert DAVE not in world.exchange.state.accounts.owners


def test_open_orders_stand_by_market_and_age_also_after_a_restart() -> None:
    world = World()
    world.transfer(ALICE, ALICE, "1000", to_subaccount=1)
    world.place(ALICE, "sell", "1", "3000", market=ETH)
    world.place(ALICE, "sell", "10", "1.01", market=XOM)
    for price in ("110", "105", "120"):
        world.place(ALICE, "sell", "1", price)
    world.place(ALICE, "buy", "1", "50", subaccount=1)
    documents = open_orders_view(world.exchange, ALICE)
    assert [d["price"] for d in documents] == ["110", "105", "120", "50", "3000", "1.01"]
    assert documents[3]["account"] == checksum_address(ALICE) + "/1"
    assert [d["price"] for d in open_orders_view(world.exchange, ALICE, subaccount=1)] == ["50"]
    assert [d["price"] for d in open_orders_view(world.exchange, ALICE, market=XOM)] == ["1.01"]
    assert open_orders_view(world.reload(), ALICE) == documents


def test_a_book_shows_aggregated_levels_best_first() -> None:
    world = World()
    for trader, side, size, price in (
        (ALICE, "buy", "1", "99"),
        (BOB, "buy", "0.5", "99"),
        (BOB, "buy", "1", "98.5"),
        (BOB, "buy", "1", "97"),
        (CAROL, "sell", "2", "101"),
        (CAROL, "sell", "1", "100.5"),
    ):
        world.place(trader, side, size, price)
    document = order_book_view(world.exchange, BTC, depth=2)
    assert document["bids"] == [["99", "1.5"], ["98.5", "1"]]
    assert document["asks"] == [["100.5", "1"], ["101", "2"]]
    assert document["height"] == 6
    for depth in (0, 1_001):
        with pytest.raises(Rejected, match="depth"):
            order_book_view(world.exchange, BTC, depth=depth)
    with pytest.raises(Rejected, match="DOGE"):
        order_book_view(world.exchange, "DOGE-USDC", depth=1)


def test_markets_show_rules_and_top_of_book() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "101")
    world.place(BOB, "buy", "0.5", "101")
    world.place(BOB, "buy", "0.5", "99")
    first = markets_view(world.exchange)[0]
    assert first == {
        "market": BTC,
        "base": "BTC",
        "quote": "USDC",
        "tick": "0.01",
        "lot": "0.00000001",
        "min_notional": "0",
        "max_notional": None,
        "maker_fee_ppm": 1_000,
        "taker_fee_ppm": 2_000,
        "price_band_ppm": 0,
        "last_price": "101",
        "best_bid": "99",
        "best_ask": "101",
        "trades": 1,
    }


def test_limits_say_what_is_left() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "101")
    document = limits_view(world.exchange, ALICE)
    assert (document["open_orders"], document["open_orders_left"]) == (1, 999)
    assert document["nonce_max"] - document["nonce_min"] == 60_000


def test_a_trade_and_both_of_its_fills() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    world.place(BOB, "buy", "0.4", "100")
    [trade] = world.of_type(Trade)
    spec = world.exchange.rules.market_specs[BTC]
    public = trade_document(spec, trade, height=2, time_ms=5)
    assert (public["side"], public["price"], public["size"], public["trade_id"]) == (
        "buy",
        "100",
        "0.4",
        1,
    )
    taker = fill_document(spec, trade, is_taker=True, height=2, time_ms=5)
    maker = fill_document(spec, trade, is_taker=False, height=2, time_ms=5)
    assert (taker["side"], taker["fee"], taker["liquidity"]) == ("buy", "0.08", "taker")
    assert (maker["side"], maker["fee"], maker["liquidity"]) == ("sell", "0.04", "maker")
    assert maker["account"] == checksum_address(ALICE) + "/0"


def test_the_events_of_the_settlement_can_be_written_as_json() -> None:
    world = World(make_settled_genesis())
    unknown = keccak256(b"no token")[-20:]
    log = Log(world.exchange.rules.hash, [deposit(BOB, 2_500_000), deposit(BOB, 7, unknown)])
    lie = Log(world.exchange.rules.hash, [deposit(ALICE, 1)])
    truths = [world.attest(n, log.attestation(0)) for n in range(3)]
    events = list(world.apply(world.attest(3, lie.attestation(0)), *truths).events)
    world.withdraw(ALICE, "1.5", recipient=BOB)
    events += world.events
    events += world.apply(after_ms=CHECKPOINT_MS).events
    events += world.apply(*(world.sign(n, 1) for n in range(3))).events
    documents = {}
    for event in events:
        document = event_document(world.exchange.rules, event, height=1, time_ms=1)
        documents[document["event"]] = json.loads(json.dumps(document))
    assert documents.keys() == {
        "deposit",
        "deposit_ignored",
        "deposit_disagreement",
        "withdrawal",
        "checkpoint",
        "checkpoint_certified",
    }
    assert documents["deposit"]["amount"] == "2.5"
    assert documents["deposit"]["account"] == checksum_address(BOB) + "/0"
    assert documents["deposit_ignored"]["units"] == "7"
    assert documents["withdrawal"]["amount"] == "1.5"
    sides = documents["deposit_disagreement"]["sides"]
    assert [len(side["validators"]) for side in sides] == [3, 1]
    assert documents["checkpoint_certified"]["number"] == 1
    assert len(documents["checkpoint_certified"]["signers"]) == 3
    assert documents["checkpoint"]["state_root"].startswith("0x")


def test_the_supply_says_what_came_in_and_went_out() -> None:
    world = World(make_settled_genesis())
    log = Log(world.exchange.rules.hash, [deposit(BOB, 2_500_000)])
    world.apply(*(world.attest(n, log.attestation(0)) for n in range(3)))
    world.withdraw(ALICE, "1.25")
    document = supply_view(world.exchange)
    assert document["assets"][0] == {
        "asset": "USDC",
        "token": checksum_address(TOKENS["USDC"]),
        "decimals": 6,
        "exchange": "3000001.25",
        "genesis": "3000000",
        "credited": "2.5",
        "withdrawn": "1.25",
    }
    assert document["assets"][2]["token"] is None
    assert document["deposits"] == {"count": 1, "hash": "0x" + log.hashes[1].hex()}
    assert document["withdrawals"] == {"count": 1}
    assert (document["height"], document["block_time_ms"]) == (2, world.now_ms)


def test_every_event_and_result_can_be_written_as_json() -> None:
    world = World()
    world.place(ALICE, "sell", "1", "100")
    outcome = world.apply(
        world.transaction(BOB, order("buy", "0.4", "100")),
        world.transaction(BOB, order("buy", "0.4", "100.001")),
        world.transaction(ALICE, ApproveAgent(AGENT, "bot", ("trade",), world.now_ms + 10_000)),
    )
    kinds = []
    for event in outcome.events:
        document = event_document(
            world.exchange.rules, event, height=outcome.height, time_ms=world.now_ms
        )
        kinds.append(document["event"])
        json.dumps(document)
    assert set(kinds) == {"order", "trade", "level", "agent"}
    for result in outcome.results:
        json.dumps(result_document(world.exchange.rules, result))
