"""Nodes that know one address, or none but what a node before them knew: real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from omninode.node.config import NodeConfig
from omninode.node.home_setup import write_config, write_genesis
from real_network import RealNetwork, RealNode, until
from real_trading import Trader, limit_order

pytestmark = pytest.mark.slow

ETH = "ETH-USDC"
LAG_S = 1.0
FIND_S = 30.0


@contextmanager
def follower(
    network: RealNetwork, name: str, *, bootstrap: Sequence[RealNode], **p2p: Any
) -> Iterator[RealNode]:
    """Run a node without a validator key that knows where to ask, and nobody else."""
    node = network._make_node(name)
    settings = network._settings(node, mode="full", peers=[])
    settings["p2p"] |= {"bootstrap": [peer.multiaddress for peer in bootstrap], **p2p}
    write_genesis(node.home, network.genesis.to_json().decode())
    write_config(node.home, NodeConfig.model_validate(settings))
    node.home.validator_keystore.unlink()
    node.home.validator_password.unlink(missing_ok=True)
    network.nodes.append(node)
    try:
        node.start()
        yield node
    finally:
        network.nodes.remove(node)
        node.destroy()


def peers_of(node: RealNode) -> dict[str, dict[str, Any]]:
    """Return the connected peers of a node by their id."""
    peers = node.call("omni_getPeers")["peers"]
    return {peer["peer_id"]: peer for peer in peers if peer["connected"]}


def test_a_full_node_without_keys_trades_and_serves_the_same_state(network: RealNetwork) -> None:
    seller, buyer = (Trader(network, key) for key in network.quiet_accounts)
    with follower(network, "full", bootstrap=network.validators[:1]) as full:
        network.wait_in_sync([full])
        assert full.status()["validator"] is None
        sold = seller.send(full, limit_order("sell", "1.5", "7", market=ETH))
        assert sold["code"] == "ok"
        bought = buyer.send(full, limit_order("buy", "1.5", "7", market=ETH))
        assert bought["fills"][0]["size"] == "7"
        network.wait_height(bought["height"], network.nodes)
        for node in network.nodes:
            assert (seller.free(node, "ETH"), buyer.free(node, "ETH")) == ("93", "107"), node.name
        network.assert_one_chain(network.nodes)


def test_a_full_node_follows_the_head_within_a_second(network: RealNetwork) -> None:
    witness = network.validators[0]
    with follower(network, "full", bootstrap=network.validators[1:2]) as full:
        network.wait_in_sync([full])
        for _ in range(10):
            height = witness.height() + 1
            network.wait_height(height, [witness])
            seen = time.monotonic()
            network.wait_height(height, [full], LAG_S)
            assert time.monotonic() - seen < LAG_S
        assert not full.status()["catching_up"]


def test_followers_find_each_other_and_again_after_a_restart(network: RealNetwork) -> None:
    first_only = network.validators[:1]
    with (
        follower(network, "one", bootstrap=first_only) as one,
        follower(network, "two", bootstrap=first_only) as two,
    ):
        until(lambda: two.identity.peer_id in peers_of(one), FIND_S, why=network.describe)
        book = two.home.address_book
        until(
            lambda: book.exists() and one.identity.peer_id in book.read_text(),
            FIND_S,
            why=network.describe,
        )
        assert {peer["is_validator"] for peer in peers_of(one).values()} == {True, False}
        others = {v.identity.peer_id for v in network.validators[1:]}
        assert not others & set(peers_of(one)), "validators are told to validators only"
        assert two.stop() == 0
        known = json.loads(book.read_text())["addresses"]
        assert one.identity.peer_id in {entry["peer_id"] for entry in known}
        settings = network._settings(two, mode="full", peers=[])
        write_config(two.home, NodeConfig.model_validate(settings))
        two.start()
        until(lambda: one.identity.peer_id in peers_of(two), FIND_S, why=network.describe)
        network.wait_in_sync([two])


def test_the_command_shows_who_is_connected_and_who_is_banned(network: RealNetwork) -> None:
    node = network.validators[0]
    done = node.run("peers", "--rpc", node.url)
    assert done.code == 0
    assert len([peer for peer in done.document["peers"] if peer["connected"]]) == 3
