"""Markets, accounts, blocks and the refusals of reads."""

from __future__ import annotations

from typing import Any

import pytest

from omninode.crypto import ZERO_HASH
from omninode.node.rpc.catalogue import METHODS
from rpc_world import (
    ALICE,
    BOB,
    MARKET,
    STRANGER,
    VALIDATOR,
    Client,
    World,
    address,
    limit_order,
)


async def trade_a_little(world: World, client: Client) -> None:
    """Make three blocks with a book of five levels and five trades."""
    for n in range(5):
        await client.send(world.sign(ALICE, limit_order("sell", "1", str(100 + n))))
    await world.block(certified=False)
    for _ in range(3):
        await client.send(world.sign(BOB, limit_order("buy", "0.25", "100")))
    await world.block()
    await client.send(world.sign(BOB, limit_order("buy", "0.5", "101")))
    await world.block()


async def test_markets_books_trades_and_tickers(world: World, client: Client) -> None:
    await trade_a_little(world, client)
    [market] = (await client.call("omni_getMarkets"))["markets"]
    assert (market["market"], market["tick"], market["best_ask"]) == (MARKET, "0.01", "101")
    book = await client.call("omni_getOrderBook", market=MARKET, depth=2)
    assert book["asks"] == [["101", "0.75"], ["102", "1"]]
    assert (book["bids"], book["height"]) == ([], 3)
    trades = await client.call("omni_getTrades", market=MARKET, limit=2)
    assert [trade["trade_id"] for trade in trades["trades"]] == [5, 4]
    more = await client.call("omni_getTrades", market=MARKET, limit=10, before=trades["next"])
    assert [trade["trade_id"] for trade in more["trades"]] == [3, 2, 1]
    assert more["next"] is None
    [ticker] = (await client.call("omni_getTickers"))["tickers"]
    assert (ticker["last_price"], ticker["best_ask"], ticker["trades"]) == ("101", "101", 5)


async def test_account_open_orders_and_fills(world: World, client: Client) -> None:
    await trade_a_little(world, client)
    account = await client.call("omni_getAccount", address=address(BOB).lower())
    assert account["address"] == address(BOB)
    balances = {b["asset"]: b for b in account["subaccounts"][0]["balances"]}
    assert balances["BTC"]["total"] == "11.25"
    only = await client.call("omni_getAccount", address=address(BOB) + "/7")
    assert only["subaccounts"] == []
    orders = await client.call("omni_getOpenOrders", address=address(ALICE))
    assert [order["price"] for order in orders["orders"]] == ["101", "102", "103", "104"]
    none = await client.call("omni_getOpenOrders", address=address(ALICE) + "/1", market=MARKET)
    assert none["orders"] == []

    pages: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.call(
            "omni_getFills", address=address(BOB), limit=2, **({"before": cursor} if cursor else {})
        )
        pages += page["fills"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [fill["trade_id"] for fill in pages] == [5, 4, 3, 2, 1]
    assert {fill["liquidity"] for fill in pages} == {"taker"}
    assert (await client.call("omni_getFills", address=address(STRANGER)))["fills"] == []
    own = await client.call("omni_getFills", address=address(BOB) + "/0")
    assert own["fills"] == pages
    other = await client.call("omni_getFills", address=address(BOB) + "/1")
    assert (other["fills"], other["next"]) == ([], None)


async def test_transactions_of_an_account_in_pages(world: World, client: Client) -> None:
    await trade_a_little(world, client)
    first = await client.call("omni_getTransactions", address=address(BOB), limit=3)
    assert [row["height"] for row in first["transactions"]] == [3, 2, 2]
    second = await client.call(
        "omni_getTransactions", address=address(BOB), limit=3, before=first["next"]
    )
    assert len(second["transactions"]) == 1
    assert second["next"] is None
    hashes = {row["hash"] for row in first["transactions"] + second["transactions"]}
    assert len(hashes) == 4


async def test_blocks_with_transactions_events_and_certificate(
    world: World, client: Client
) -> None:
    await trade_a_little(world, client)
    block = await client.call("omni_getBlock", height=2)
    assert len(block["transactions"]) == 3
    assert {event["event"] for event in block["events"]} == {"order", "trade"}
    assert block["certificate"]["height"] == 2
    assert block["certificate"]["signers"] == [address(VALIDATOR)]
    # The first block was stored without a certificate of its own: the next one covers it.
    blocks = (await client.call("omni_getBlocks", **{"from": 0, "to": 3}))["blocks"]
    assert [b["height"] for b in blocks] == [0, 1, 2, 3]
    assert blocks[1]["certificate"]["height"] == 2
    assert blocks[2] == block
    assert [b["header"]["parent_hash"] for b in blocks[1:]] == [b["hash"] for b in blocks[:-1]]
    assert blocks[3]["app_hash"] == "0x" + world.exchange.app_hash.hex()
    assert blocks[0]["certificate"] is None
    assert blocks[0]["header"]["parent_hash"] == "0x" + ZERO_HASH.hex()


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("omni_getBlock", {"height": 1}, "unknown_block"),
        ("omni_getBlock", {"height": -1}, "invalid_params"),
        ("omni_getBlock", {"height": 2**64}, "invalid_params"),
        ("omni_getBlock", {"height": "0"}, "invalid_params"),
        ("omni_getBlock", {}, "invalid_params"),
        ("omni_getBlocks", {"from": 1, "to": 0}, "invalid_params"),
        ("omni_getBlocks", {"from": 0, "to": 100}, "invalid_params"),
        ("omni_getBlocks", {"from": 0, "to": 1}, "unknown_block"),
        ("omni_getOrderBook", {"market": "X-Y"}, "unknown_market"),
        ("omni_getOrderBook", {"market": MARKET, "depth": 0}, "invalid_params"),
        ("omni_getOrderBook", {"market": MARKET, "depth": 1001}, "invalid_params"),
        ("omni_getTrades", {"market": "X-Y"}, "unknown_market"),
        ("omni_getTrades", {"market": MARKET, "limit": 0}, "invalid_params"),
        ("omni_getTrades", {"market": MARKET, "limit": 1001}, "invalid_params"),
        ("omni_getTrades", {"market": MARKET, "before": -1}, "invalid_params"),
        ("omni_getFills", {"address": "0x00"}, "invalid_params"),
        ("omni_getFills", {"address": address(BOB), "before": "1"}, "invalid_params"),
        ("omni_getFills", {"address": address(BOB), "before": "1:2:2"}, "invalid_params"),
        ("omni_getFills", {"address": address(BOB), "before": "9" * 40}, "invalid_params"),
        ("omni_getTransactions", {"address": address(BOB), "before": "a:b"}, "invalid_params"),
        ("omni_getTransactions", {"address": address(BOB) + "/0"}, "invalid_params"),
        ("omni_getLimits", {"address": address(BOB) + "/5"}, "invalid_params"),
        ("omni_getTransactions", {"address": address(BOB), "limit": 1001}, "invalid_params"),
        ("omni_getAccount", {"address": "bob"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB) + "/01"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB) + "/1000"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB) + "/"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB).swapcase()}, "invalid_params"),
        ("omni_getOpenOrders", {"address": address(BOB), "market": "X-Y"}, "unknown_market"),
        ("omni_getOrder", {}, "invalid_params"),
        ("omni_getOrder", {"order_id": "0x" + "00" * 32}, "unknown_order"),
        ("omni_getOrder", {"order_id": "0x" + "00" * 31}, "invalid_params"),
        ("omni_getOrder", {"order_id": "0x" + "0g" * 32}, "invalid_params"),
        ("omni_getOrder", {"address": address(BOB), "client_id": "x"}, "unknown_order"),
        ("omni_getOrder", {"address": address(BOB)}, "invalid_params"),
        ("omni_getTransaction", {"hash": "0x" + "00" * 32}, "unknown_transaction"),
        ("omni_getTransaction", {"hash": "00" * 32}, "invalid_params"),
        ("omni_sendTransaction", {"tx": "0x"}, "invalid_params"),
        ("omni_sendTransaction", {"tx": "0x0"}, "invalid_params"),
        ("omni_sendTransaction", {"tx": "0x" + "00" * 40_000}, "invalid_params"),
        ("omni_sendTransactionSync", {"tx": "0x00", "timeout_ms": 30_001}, "invalid_params"),
        ("omni_sendTransactionSync", {"tx": "0x00", "timeout_ms": 0}, "invalid_params"),
        ("omni_getTypedData", {"action": {}}, "malformed"),
        ("omni_getTypedData", {"action": []}, "invalid_params"),
        ("omni_subscribe", {"channel": "blocks"}, "websocket_required"),
        ("omni_unsubscribe", {"subscription": "0x1"}, "websocket_required"),
    ],
)
async def test_refusals_of_reads(
    client: Client, name: str, params: dict[str, Any], reason: str
) -> None:
    assert await client.refusal(name, **params) == reason


async def test_every_method_is_described_and_methods_of_later_are_absent(client: Client) -> None:
    document = await client.call("rpc.discover")
    assert document["openrpc"].startswith("1.")
    names = [entry["name"] for entry in document["methods"]]
    assert names == list(METHODS)
    references = set(_references(document))
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    for entry in document["methods"]:
        assert entry["summary"]
        assert entry["description"]
    for name in ("chat_rooms", "storage_add", "eth_sign"):
        reply = (await client.reply(name, {})).json()
        assert reply["error"]["code"] == -32601


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


async def test_a_batch_of_orders_in_one_request(world: World, client: Client) -> None:
    signed = [world.sign(ALICE, limit_order("buy", "0.01", str(50 + n))) for n in range(100)]
    batch = [
        {
            "jsonrpc": "2.0",
            "id": n,
            "method": "omni_sendTransaction",
            "params": ["0x" + t.raw.hex()],
        }
        for n, t in enumerate(signed)
    ]
    replies = (await client.http.post("/", json=batch)).json()
    assert [reply["id"] for reply in replies] == list(range(100))
    assert [reply["result"]["hash"] for reply in replies] == ["0x" + t.hash.hex() for t in signed]
    await world.block()
    book = await client.call("omni_getOrderBook", market=MARKET, depth=1000)
    assert len(book["bids"]) == 100
