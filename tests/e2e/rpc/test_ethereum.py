"""The node as an endpoint of the settlement chain: what passes, how it comes back, what not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

import rpc_world
from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.errors import METHOD_HINTS
from omninode.node.rpc.limits import RESPONSE_BYTES_MAX
from omninode.node.rpc.methods.ethereum import COSTS
from rpc_chain import ChainServer, Refused, Side
from rpc_world import DEADLINE_S, Client, World

WORD = "0x" + "ab" * 32


class Node:
    """A node with a settlement chain that says what a test wants."""

    def __init__(self, chain: ChainServer, side: Side, world: World, client: Client) -> None:
        self.chain = chain
        self.side = side
        self.world = world
        self.client = client

    async def ask(self, name: str, *params: object) -> dict[str, Any]:
        reply: dict[str, Any] = (await self.client.reply(name, params)).json()
        return reply


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[Node]:
    async with trio.open_nursery() as nursery:
        chain = ChainServer()
        await nursery.start(chain.run)
        side = Side(chain.url)
        async with (
            rpc_world.running(folder, settlement=side, **settings) as world,
            httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http,
        ):
            try:
                yield Node(chain, side, world, Client(http))
            finally:
                await side.endpoint.close()
        nursery.cancel_scope.cancel()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with serving(tmp_path / "with-chain") as it:
        yield it


@pytest.mark.parametrize(
    "result",
    ["0x7a69", None, [], {"number": "0x1", "transactions": [{"value": "0x0", "x": None}]}, True],
)
async def test_a_result_comes_back_as_it_is(node: Node, result: object) -> None:
    node.chain.answers["eth_getBlockByNumber"] = result
    reply = await node.ask("eth_getBlockByNumber", "latest", False)
    assert reply == {"jsonrpc": "2.0", "id": 1, "result": result}
    assert node.chain.heard == [("eth_getBlockByNumber", ["latest", False])]


async def test_a_result_is_the_very_text_that_came(node: Node) -> None:
    # Numbers that a decoder would change, and spaces that an encoder leaves out.
    node.chain.answers["eth_getBlockByNumber"] = 1e300
    node.chain.answers["eth_call"] = [12345678901234567890123, 1.0, "é"]
    one = (await node.client.reply("eth_call", [{}])).text
    assert '[12345678901234567890123, 1.0, "\\u00e9"]' in one
    batch = [
        {"jsonrpc": "2.0", "id": 1e2, "method": "eth_getBlockByNumber", "params": []},
        {"jsonrpc": "2.0", "id": None, "method": "eth_call", "params": [{}]},
    ]
    text = (await node.client.http.post("/", json=batch)).text
    assert text == (
        '[{"jsonrpc":"2.0","id":100.0,"result":1e+300},'
        '{"jsonrpc":"2.0","id":null,"result":[12345678901234567890123, 1.0, "\\u00e9"]}]'
    )


async def test_a_result_too_long_is_refused_with_what_to_ask_instead(node: Node) -> None:
    node.chain.answers["eth_getLogs"] = "x" * RESPONSE_BYTES_MAX
    error = (await node.ask("eth_getLogs", {}))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32003, "response_too_large")
    assert "smaller range of blocks" in error["data"]["hint"]


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted: no", "data": "0x08c379a0" + "00" * 32},
        {"code": -32000, "message": "nonce too low"},
        {"code": -32003, "message": "rejected", "data": {"reason": 7, "more": [1, None]}},
    ],
)
async def test_an_error_comes_back_as_it_is(node: Node, error: dict[str, Any]) -> None:
    def refuse(params: object) -> None:
        raise Refused(error)

    node.chain.answers["eth_call"] = refuse
    reply = await node.ask("eth_call", {"to": "0x" + "11" * 20, "data": "0x"}, "latest")
    assert reply == {"jsonrpc": "2.0", "id": 1, "error": error}


async def test_parameters_are_by_position_or_absent(node: Node) -> None:
    node.chain.answers["eth_chainId"] = "0x7a69"
    for request in ({}, {"params": []}, {"params": {}}, {"params": None}):
        whole = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", **request}
        reply = (await node.client.http.post("/", json=whole)).json()
        assert reply["result"] == "0x7a69"
    assert node.chain.heard == [("eth_chainId", [])] * 4
    named = (await node.client.reply("eth_chainId", {"block": "latest"})).json()
    assert named["error"]["code"] == -32602
    assert len(node.chain.heard) == 4


async def test_a_batch_mixes_both_chains(node: Node) -> None:
    node.chain.answers |= {"eth_blockNumber": "0x10", "net_version": "31337"}
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_blockNumber"},
        {"jsonrpc": "2.0", "id": "b", "method": "omni_getDeposits", "params": ["0x" + "11" * 20]},
        {"jsonrpc": "2.0", "id": "c", "method": "eth_sign", "params": []},
        {"jsonrpc": "2.0", "method": "net_version"},
        {"jsonrpc": "2.0", "id": "d", "method": "net_version", "params": []},
        {"jsonrpc": "2.0", "id": "e", "method": "eth_accounts", "params": []},
    ]
    replies = (await node.client.http.post("/", json=batch)).json()
    assert [reply["id"] for reply in replies] == ["a", "b", "c", "d", "e"]
    assert replies[0]["result"] == "0x10"
    assert replies[1]["result"]["deposits"] == []
    assert replies[2]["error"]["code"] == -32601
    assert replies[3]["result"] == "31337"
    assert replies[4]["result"] == []
    assert len(node.chain.heard) == 3


async def test_a_websocket_passes_too(node: Node) -> None:
    node.chain.answers["eth_gasPrice"] = "0x3b9aca00"
    async with open_websocket_url(node.world.ws_url) as ws:
        await ws.send_message('{"jsonrpc":"2.0","id":7,"method":"eth_gasPrice","params":[]}')
        reply = json.loads(await ws.get_message())
        assert reply == {"jsonrpc": "2.0", "id": 7, "result": "0x3b9aca00"}
        await ws.send_message('[{"jsonrpc":"2.0","id":8,"method":"eth_subscribe","params":["x"]}]')
        [reply] = json.loads(await ws.get_message())
        assert reply["error"]["code"] == -32601
        assert "omni_subscribe" in reply["error"]["data"]["hint"]


@pytest.mark.parametrize(
    "name",
    [
        *METHOD_HINTS,
        "eth_coinbase",
        "eth_mine",
        "eth_submitWork",
        "personal_unlockAccount",
        "debug_traceTransaction",
        "admin_peers",
        "miner_start",
        "txpool_content",
        "engine_newPayloadV3",
        "anvil_setBalance",
        "hardhat_impersonateAccount",
        "evm_mine",
        "dev_mine",
        "net_shutdown",
        "web3_",
        "ETH_CHAINID",
        "eth_chainId ",
        "eth_chainid",
    ],
)
async def test_nothing_else_passes(node: Node, name: str) -> None:
    error = (await node.ask(name))["error"]
    assert error["code"] == -32601
    # Libraries look for these words to do without a method.
    assert "does not exist" in error["message"]
    assert error["data"]["reason"] == "method_not_found"
    assert error["data"]["hint"]
    assert node.chain.heard == []


async def test_all_that_is_listed_passes(node: Node) -> None:
    for name in COSTS:
        node.chain.answers[name] = name
        assert (await node.ask(name))["result"] == name
    assert not set(METHOD_HINTS) & set(METHODS)
    document = await node.client.call("rpc.discover")
    listed = {entry["name"]: entry for entry in document["methods"] if entry["name"] in COSTS}
    assert set(listed) == set(COSTS)
    assert {entry["paramStructure"] for entry in listed.values()} == {"by-position"}


async def test_an_endpoint_that_is_away(node: Node) -> None:
    node.side.endpoint._url = "http://127.0.0.1:1/"
    for name in ("eth_chainId", "eth_sendRawTransaction"):
        error = (await node.ask(name, "0x00"))["error"]
        assert (error["code"], error["data"]["reason"]) == (-32004, "settlement_unreachable")
        assert error["data"]["hint"]
        assert "can not connect" in error["message"]
    assert (await node.client.call("omni_status"))["settlement"]["state"] == "following"


async def test_a_node_without_an_endpoint(node: Node, world: World, client: Client) -> None:
    node.side.state = "off"
    assert (await node.ask("eth_chainId"))["error"]["data"]["reason"] == "settlement_off"
    # A node that knows of no settlement chain at all.
    assert await client.refusal("eth_chainId") == "no_settlement"
    assert (await client.call("omni_status"))["settlement"] is None


async def test_a_halted_node_still_passes_calls_on(node: Node) -> None:
    node.world.condition.why_halted = "the app hash of height 7 differs"
    node.chain.answers["eth_chainId"] = "0x7a69"
    assert (await node.ask("eth_chainId"))["result"] == "0x7a69"


async def test_calls_cost_what_they_are_said_to(tmp_path: Path) -> None:
    async with serving(tmp_path, requests_per_second=1, requests_burst=100) as node:
        node.chain.answers |= {"eth_getLogs": [], "eth_chainId": "0x1"}
        for _ in range(100 // COSTS["eth_getLogs"]):
            assert (await node.ask("eth_getLogs", {}))["result"] == []
        reply = await node.client.reply("eth_getLogs", [{}])
        assert reply.status_code == 429
        assert reply.json()["error"]["data"]["reason"] == "rate_limited"


async def test_the_results_of_a_batch_are_bounded_together(node: Node) -> None:
    node.chain.answers["eth_getLogs"] = "x" * (3 * 2**20)
    batch = [
        {"jsonrpc": "2.0", "id": number, "method": "eth_getLogs", "params": [{}]}
        for number in range(6)
    ]
    answer = await node.client.http.post("/", json=batch)
    replies = answer.json()
    assert [reply["id"] for reply in replies] == list(range(6))
    fitting = [reply for reply in replies if "result" in reply]
    assert len(fitting) == 3
    others = {reply["error"]["data"]["reason"] for reply in replies if "error" in reply}
    assert others == {"response_too_large"}
