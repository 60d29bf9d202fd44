"""Trading on a network of real processes: any node takes an order, all agree on what it did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from omninode.errors import UserError
from real_network import RealNetwork, RealNode, until
from real_trading import MARKET, Load, Trader, hex_of, limit_order

pytestmark = pytest.mark.slow

ETH = "ETH-USDC"
"""A market that the load leaves alone."""


def books_and_accounts(network: RealNetwork, node: RealNode) -> Iterable[dict[str, Any]]:
    """Read all that a node says of the exchange."""
    for market in network.genesis.market_specs:
        yield node.call("omni_getOrderBook", market=market, depth=1_000)
    for key in network.accounts:
        address = Trader(network, key).address
        yield node.call("omni_getAccount", address=address)
        yield node.call("omni_getOpenOrders", address=address)
        yield node.call("omni_getFills", address=address, limit=1_000)


def assert_same_exchange(network: RealNetwork, nodes: list[RealNode]) -> None:
    first, *others = network.at_one_height(lambda n: books_and_accounts(network, n), nodes)
    for node, other in zip(nodes[1:], others, strict=True):
        assert other == first, f"{node.name} differs from {nodes[0].name}"


def test_an_order_through_one_validator_fills_against_one_through_another(
    network: RealNetwork,
) -> None:
    one, third = network.validators[0], network.validators[2]
    seller, buyer = (Trader(network, key) for key in network.quiet_accounts)
    rested = seller.send(one, limit_order("sell", "1.25", "40", market=ETH))
    assert (rested["code"], rested["items"][0]["status"]) == ("ok", "open")
    taken = buyer.send(third, limit_order("buy", "1.3", "100", tif="ioc", market=ETH))
    (fill,) = taken["fills"]
    assert (fill["price"], fill["size"], fill["liquidity"]) == ("1.25", "40", "taker")
    network.wait_height(taken["height"], network.validators)
    order = one.call("omni_getOrder", order_id=rested["items"][0]["order_id"])
    assert (order["state"], order["filled"]) == ("filled", "40")
    # 40 x 1.25, and 0.1 % and 0.2 % of it.
    for node in network.validators:
        assert (seller.free(node, "ETH"), seller.free(node, "USDC")) == ("60", "1000049.95")
        assert (buyer.free(node, "ETH"), buyer.free(node, "USDC")) == ("140", "999949.9")
    assert_same_exchange(network, network.validators)


def test_every_validator_has_the_same_exchange_after_load(network: RealNetwork, seed: int) -> None:
    with Load(network, network.validators, rate=200, seed=seed) as load:
        load.wait_acknowledged(600)
    load.assert_all_final(network.validators)
    assert set(load.refused) <= {"insufficient_balance"}
    assert_same_exchange(network, network.validators)
    trades = network.validators[0].call("omni_getTrades", market=MARKET, limit=1_000)["trades"]
    assert len(trades) > 20
    network.assert_one_chain()


def test_nodes_that_only_follow_serve_reads_and_hand_in_transactions(network: RealNetwork) -> None:
    seller, buyer = (Trader(network, key) for key in network.quiet_accounts)
    with network.full_node("near") as near, network.full_node("far", behind=[near]) as far:
        network.wait_in_sync([near, far])
        for node in (near, far):
            assert node.status()["validator"] is None
            assert not node.call("omni_getConsensusState")["armed"]
            assert node.health()[0] == 200
        rested = seller.send(far, limit_order("sell", "1.5", "7", market=ETH))
        assert rested["code"] == "ok"
        taken = buyer.send(near, limit_order("buy", "1.5", "7", market=ETH))
        assert taken["fills"][0]["size"] == "7"
        network.wait_height(taken["height"], [far])
        shown = far.call("omni_getOrder", order_id=rested["items"][0]["order_id"])
        assert shown["state"] == "filled"
        assert_same_exchange(network, [*network.validators, near, far])
        network.assert_one_chain()


def test_what_a_full_node_acknowledged_becomes_final_without_it(network: RealNetwork) -> None:
    trader = Trader(network, network.quiet_accounts[0])
    with network.full_node("leaving") as full:
        network.wait_in_sync([full])
        order = trader.sign(limit_order("buy", "0.5", "1"))
        sent = full.call("omni_sendTransaction", tx=hex_of(order))
        full.kill()

        def is_final() -> bool:
            try:
                shown = network.validators[3].call("omni_getTransaction", hash=sent["hash"])
            except UserError:
                return False
            return bool(shown["state"] == "final")

        until(is_final, 10, why=network.describe)
