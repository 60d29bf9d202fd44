"""Subscriptions: what they begin with and what follows."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from omninode.crypto import SigningKey
from omninode.dex.actions import (
    CancelAll,
    CancelOrder,
)
from omninode.dex.transaction import Transaction
from omninode.storage.records import CommittedBlock
from rpc_world import (
    ALICE,
    BOB,
    MARKET,
    Client,
    World,
    address,
    check_shape,
    limit_order,
)


class Listener:
    """A WebSocket client that sorts what it hears by subscription."""

    def __init__(self, ws: WebSocketConnection) -> None:
        self.ws = ws
        self.heard: dict[str, list[dict[str, Any]]] = {}
        self._count = 0

    async def call(self, name: str, **params: Any) -> Any:
        self._count += 1
        request = {"jsonrpc": "2.0", "id": self._count, "method": name, "params": params}
        await self.ws.send_message(json.dumps(request))
        while True:
            message = await self._next()
            if message.get("id") == self._count:
                assert "error" not in message, message
                check_shape(name, message["result"])
                return message["result"]

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.ws.get_message())
        if "method" in message:
            assert message["method"] == "omni_subscription"
            event = message["params"]
            events = self.heard.setdefault(event["subscription"], [])
            events.append(event)
            assert event["sequence"] == len(events)
        return message

    async def hear(self, subscription: str, height: int) -> list[dict[str, Any]]:
        """Return what a subscription brought, once it has brought a block."""
        while not any(e["height"] >= height for e in self.heard.get(subscription, [])):
            await self._next()
        return self.heard[subscription]


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[Listener]:
    async with open_websocket_url(world.ws_url) as ws:
        yield Listener(ws)


async def test_streams_of_blocks_trades_orders_and_fills(world: World, client: Client) -> None:
    first = world.sign(ALICE, limit_order("sell", "1", "100", client_id="first"))
    await client.send(first)
    await world.block()
    async with listening(world) as listener:
        blocks = await listener.call("omni_subscribe", channel="blocks")
        trades = await listener.call("omni_subscribe", channel="trades", market=MARKET)
        orders = await listener.call("omni_subscribe", channel="orders", address=address(ALICE))
        fills = await listener.call("omni_subscribe", channel="fills", address=address(BOB))
        ticker = await listener.call("omni_subscribe", channel="ticker", market=MARKET)
        assert blocks["height"] == trades["height"] == orders["height"] == 1
        assert [order["client_id"] for order in orders["snapshot"]] == ["first"]
        assert ticker["snapshot"]["best_ask"] == "100"

        taker = world.sign(BOB, limit_order("buy", "0.25", "100"))
        await client.send(taker)
        height = await world.block()

        [block] = await listener.hear(blocks["subscription"], height)
        assert block["transactions"] == [
            {"hash": "0x" + taker.hash.hex(), "code": "ok", "reason": ""}
        ]
        shown = await client.call("omni_getBlock", height=height)
        assert (block["hash"], block["app_hash"]) == (shown["hash"], shown["app_hash"])
        [trade] = await listener.hear(trades["subscription"], height)
        assert [t["price"] for t in trade["trades"]] == ["100"]
        listed = await client.call("omni_getTrades", market=MARKET)
        assert trade["trades"] == listed["trades"]
        [update] = await listener.hear(orders["subscription"], height)
        [order] = update["orders"]
        assert (order["state"], order["filled"]) == ("partially_filled", "0.25")
        [fill] = await listener.hear(fills["subscription"], height)
        assert fill["fills"] == (await client.call("omni_getFills", address=address(BOB)))["fills"]
        [tick] = await listener.hear(ticker["subscription"], height)
        assert tick["last_price"] == "100"

        assert await listener.call("omni_unsubscribe", subscription=trades["subscription"]) is True
        await client.send(world.sign(BOB, limit_order("buy", "0.25", "100")))
        height = await world.block()
        await listener.hear(blocks["subscription"], height)
        assert len(listener.heard[trades["subscription"]]) == 1


async def test_snapshot_and_updates_of_a_book_fit_together(
    world: World, client: Client, rng: random.Random
) -> None:
    """Apply every update to the snapshot: after each block it is the book that is asked for."""
    for n in range(20):
        side = rng.choice(("buy", "sell"))
        price = str(100 + n if side == "sell" else 100 - n - 1)
        await client.send(world.sign(ALICE, limit_order(side, "0.01", price)))
    await world.block()
    async with listening(world) as listener:
        started = await listener.call("omni_subscribe", channel="book", market=MARKET)
        sides = {name: dict(map(tuple, started["snapshot"][name])) for name in ("bids", "asks")}
        for _ in range(12):
            for _ in range(rng.randrange(1, 6)):
                await client.send(random_action(world, rng))
            height = await world.block()
            book = await client.call("omni_getOrderBook", market=MARKET, depth=1000)
            if {name: dict(map(tuple, book[name])) for name in sides} != sides:
                *_, update = await listener.hear(started["subscription"], height)
                assert update["height"] == height
                for name, levels in sides.items():
                    for price, size in update[name]:
                        if size == "0":  # gone, or come and gone within one block
                            levels.pop(price, None)
                        else:
                            levels[price] = size
            assert {name: dict(map(tuple, book[name])) for name in sides} == sides


def random_action(world: World, rng: random.Random) -> Transaction:
    key = rng.choice((ALICE, BOB))
    if rng.random() < 0.05:
        return world.sign(key, CancelAll(0, MARKET))
    if rng.random() < 0.3:
        orders = list(world.exchange.state.open_orders.by_id.values())
        if orders:
            order = rng.choice(orders)
            owner = ALICE if order.account.owner.address == ALICE.address else BOB
            return world.sign(owner, CancelOrder(0, order.order_id, ""))
    side = rng.choice(("buy", "sell"))
    return world.sign(key, limit_order(side, "0.01", str(rng.randrange(80, 120))))


async def test_a_snapshot_ahead_of_storage_is_not_told_twice(world: World, client: Client) -> None:
    """A book read between execution and storage already holds the block that is told later."""
    async with listening(world) as listener:
        started = await listener.call("omni_subscribe", channel="book", market=MARKET)
        late: list[Any] = []
        stored = world.rpc.stored

        def hold(committed: CommittedBlock) -> None:
            late.append(committed)

        world.rpc.stored = hold  # type: ignore[method-assign]
        await client.send(world.sign(ALICE, limit_order("sell", "1", "100")))
        height = await world.block()
        ahead = await listener.call("omni_subscribe", channel="book", market=MARKET)
        assert (ahead["height"], ahead["snapshot"]["asks"]) == (height, [["100", "1"]])
        world.rpc.stored = stored  # type: ignore[method-assign]
        for committed in late:
            stored(committed)
        await client.send(world.sign(ALICE, limit_order("sell", "1", "101")))
        height = await world.block()
        [update] = await listener.hear(ahead["subscription"], height)
        assert update["asks"] == [["101", "1"]]
        assert len(await listener.hear(started["subscription"], height)) == 2


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"channel": "chat"},
        {"channel": "book"},
        {"channel": "blocks", "market": MARKET},
        {"channel": "orders", "market": MARKET},
        {"channel": "fills"},
        {"channel": "orders", "address": address(ALICE) + "/1"},
        {"channel": "orders", "address": "0x"},
    ],
)
async def test_a_wrong_subscription_is_invalid(world: World, params: dict[str, Any]) -> None:
    async with open_websocket_url(world.ws_url) as ws:
        request = {"jsonrpc": "2.0", "id": 1, "method": "omni_subscribe", "params": params}
        await ws.send_message(json.dumps(request))
        error = json.loads(await ws.get_message())["error"]
        assert error["code"] == -32602
        batched = [request, request]
        await ws.send_message(json.dumps(batched))
        assert {r["error"]["code"] for r in json.loads(await ws.get_message())} == {-32602}


async def test_a_subscription_ends_with_its_connection(world: World) -> None:
    async with listening(world) as listener:
        await listener.call("omni_subscribe", channel="blocks")
        assert world.rpc.feed.subscriptions() == {"blocks": 1}
    while world.rpc.feed.subscriptions():
        await trio.sleep(0.005)
    await world.block()


async def test_reads_hold_while_orders_pour_in(world: World, client: Client) -> None:
    """Many readers and writers at once: every answer is whole, and heights never go back."""
    heights: list[list[int]] = []

    async def read() -> None:
        mine: list[int] = []
        heights.append(mine)
        for _ in range(20):
            book = await client.call("omni_getOrderBook", market=MARKET)
            mine.append(book["height"])
            assert all(float(a[0]) > float(b[0]) for a in book["asks"] for b in book["bids"][:1])

    async def write(key: SigningKey, side: str, price: int) -> None:
        for n in range(20):
            await client.send(world.sign(key, limit_order(side, "0.01", str(price + n % 5))))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as work:
            for _ in range(3):
                work.start_soon(read)
            work.start_soon(write, ALICE, "sell", 102)
            work.start_soon(write, BOB, "buy", 99)
            nursery.start_soon(make_blocks, world)
        nursery.cancel_scope.cancel()
    assert all(mine == sorted(mine) and mine[-1] > 0 for mine in heights)


async def make_blocks(world: World) -> None:
    while True:
        await world.block()
