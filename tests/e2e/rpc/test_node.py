"""Status, peers, genesis, health, halting and metrics, asked from outside."""

from __future__ import annotations

import httpx
import msgspec
import trio

from omninode import __version__
from omninode.dex.genesis import (
    Genesis,
)
from omninode.node.config import MetricsSection
from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.metrics_server import MetricsServer
from rpc_world import (
    ALICE,
    GENESIS,
    NOW,
    VALIDATOR,
    Client,
    World,
    address,
)


async def test_status(world: World, client: Client) -> None:
    status = await client.call("omni_status")
    head = world.chain.head()
    assert head is not None
    assert status == {
        "chain_id": "test-rpc",
        "genesis_hash": "0x" + GENESIS.hash.hex(),
        "version": __version__,
        "node_id": "12D3KooWTest",
        "moniker": "val-0",
        "height": 0,
        "block_hash": "0x" + world.genesis_header.hash.hex(),
        "app_hash": "0x" + world.exchange.app_hash.hex(),
        "block_time_ms": NOW,
        "catching_up": False,
        "halted": None,
        "peers": 1,
        "validator": {
            "address": address(VALIDATOR),
            "power": 10,
            "score": "50",
            "jailed": False,
        },
        "settlement": None,
    }
    await world.block()
    later = await client.call("omni_status")
    assert later["height"] == 1
    assert later["app_hash"] == "0x" + world.exchange.app_hash.hex() != status["app_hash"]
    world.condition.validator_index = None
    assert (await client.call("omni_status"))["validator"] is None


async def test_peers_validators_consensus_and_genesis(client: Client) -> None:
    peers = await client.call("omni_getPeers")
    assert peers["peers"][0]["peer_id"] == "12D3KooWOther"
    assert peers["peers"][0]["connected"] is True
    assert peers["peers"][0]["banned_until_ms"] is None
    validators = await client.call("omni_getValidators")
    assert validators["total_power"] == 10
    assert validators["validators"][0]["address"] == address(VALIDATOR)
    assert validators["validators"][0]["score"] == "50"
    assert validators["validators"][0]["status"] == "active"
    asked = await client.reply("omni_getParticipation", {"address": address(VALIDATOR)})
    assert asked.json()["error"]["data"]["reason"] == "no_staking"
    consensus = await client.call("omni_getConsensusState")
    assert consensus["leader"] == address(VALIDATOR)
    assert consensus["quorum"] == 7
    assert consensus["votes"] == [
        {"address": address(VALIDATOR), "moniker": "val-0", "power": 10, "votes": []}
    ]
    genesis = await client.call("omni_getGenesis")
    assert genesis["genesis_hash"] == "0x" + GENESIS.hash.hex()
    assert msgspec.convert(genesis["genesis"], Genesis, strict=True).hash == GENESIS.hash


async def test_health_follows_the_node_s_condition(world: World, client: Client) -> None:
    assert (await client.http.get("/health")).status_code == 200
    world.condition.catching_up = True
    answer = await client.http.get("/health")
    assert answer.status_code == 503
    assert [p["reason"] for p in answer.json()["problems"]] == ["catching_up"]


async def test_a_halted_node_serves_no_state_and_says_why(world: World, client: Client) -> None:
    world.condition.why_halted = "the app hash of height 7 differs"
    for name in ("omni_getMarkets", "omni_getValidators", "rpc.discover", "omni_getGenesis"):
        reply = (await client.reply(name, {})).json()
        assert ("error" in reply) == METHODS[name].reads_state, name
    assert await client.refusal("omni_getAccount", address=address(ALICE)) == "halted"
    assert (await client.call("omni_status"))["halted"] == "the app hash of height 7 differs"
    answer = await client.http.get("/health")
    assert answer.status_code == 503
    assert "height 7" in answer.json()["problems"][0]["message"]


async def test_metrics_have_a_port_of_their_own(world: World, client: Client) -> None:
    await client.call("omni_status")
    await world.block()
    world.rpc.show_in(world.metrics)
    server = MetricsServer(world.metrics.registry, settings=MetricsSection(port=0))
    async with trio.open_nursery() as nursery, httpx.AsyncClient() as http:
        [(_, port)] = await nursery.start(server.run)
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        assert "omninode_consensus_height 1.0" in lines
        assert 'omninode_rpc_requests_total{method="omni_status",reason="ok"} 1.0' in lines
        assert "omninode_rpc_connections 1.0" in lines
        assert "omninode_rpc_subscriptions 0.0" in lines
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 404
        assert (await http.post(f"http://127.0.0.1:{port}/metrics")).status_code == 405
        nursery.cancel_scope.cancel()
    answer = await client.http.get("/metrics")
    assert answer.status_code == 404
