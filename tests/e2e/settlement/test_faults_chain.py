"""A settlement chain that changes its mind, and one that is gone for a while."""

from __future__ import annotations

import statistics
import time

import pytest

from real_chain import until_block
from real_network import RealNode
from real_settlement import CONFIRMATIONS, Holder, Made, SettledNetwork
from real_trading import limit_order

pytestmark = pytest.mark.slow

ORDERS = 15
SLOWER_FACTOR = 3
SLOWER_S = 0.3
"""So much slower may an order be while the chain is gone; the machine has other work, too."""


def deposit_nearly_confirmed(network: SettledNetwork, holder: Holder, amount: str) -> Made:
    """Make a deposit that every validator sees one block below its confirmation, and no further."""
    for gate in network.every_gate():
        gate.answering = until_block(network.chain.height())
    made = holder.deposit("ETH", amount)
    top = made.block + CONFIRMATIONS - 1
    for gate in network.every_gate():
        gate.answering = until_block(top)
    for node in network.validators:
        network.wait_for(lambda node=node: network.settlement(node)["chain_height"] == top)
        assert network.settlement(node)["confirmed_height"] < made.block
    network.chain.wait_height(top)
    return made


def wait_confirmed_again(network: SettledNetwork) -> None:
    """Let all see the chain as it is, and wait until they have confirmed what is new in it."""
    for gate in network.every_gate():
        gate.answering = None
    top = network.chain.height() + 1
    for node in network.validators:
        network.wait_for(lambda node=node: network.settlement(node)["confirmed_height"] >= top)


def test_removed_below_the_confirmations_it_is_credited_only_when_mined_again(
    settled: SettledNetwork,
) -> None:
    node, holder, contract = settled.validators[0], settled.holders[0], settled.contract
    before, credited = holder.balance(node, "ETH"), settled.credited(node)
    tokens = contract.balance("ETH", holder.address)
    made = deposit_nearly_confirmed(settled, holder, "1.5")
    settled.chain.reorganise_from(made.block, keep=False)
    assert contract.balance("ETH", holder.address) == tokens
    wait_confirmed_again(settled)
    for one in settled.validators:
        assert settled.settlement(one)["state"] == "following"
        assert (settled.credited(one), holder.balance(one, "ETH")) == (credited, before)
    settled.wait_checkpoints(2)
    settled.assert_settled()

    settled.chain.call("eth_sendRawTransaction", holder.raws[made.transaction])
    assert holder.wait_mined(made.transaction)["status"] == "0x1"
    settled.wait_deposits()
    assert settled.credited(node).count == credited.count + 1
    assert holder.balance(node, "ETH") == before + made.amount
    settled.assert_settled()


def test_mined_again_in_another_block_it_is_credited_once(settled: SettledNetwork) -> None:
    node, holder = settled.validators[0], settled.holders[1]
    before, credited = holder.balance(node, "ETH"), settled.credited(node)
    made = deposit_nearly_confirmed(settled, holder, "0.75")
    block = settled.chain.hash_at(made.block)
    settled.chain.reorganise_from(made.block, keep=True)
    assert settled.chain.hash_at(made.block) != block
    wait_confirmed_again(settled)
    settled.wait_deposits()
    for one in settled.validators:
        assert settled.credited(one).count == credited.count + 1
        assert holder.balance(one, "ETH") == before + made.amount
    settled.wait_checkpoints(2)
    settled.assert_settled()


def order_time_s(holder: Holder, node: RealNode) -> float:
    """Return how long orders take until they are final, in the median."""
    times = []
    for _ in range(ORDERS):
        started = time.monotonic()
        result = holder.trader.send(node, limit_order("buy", "0.9", "10", tif="ioc"))
        times.append(time.monotonic() - started)
        assert result["code"] == "ok", result
    return statistics.median(times)


@pytest.mark.parametrize("way", ["refuse", "hang"])
def test_with_the_chain_gone_trading_goes_on_and_all_catches_up(
    settled: SettledNetwork, way: str
) -> None:
    node, holder, contract = settled.validators[0], settled.holders[0], settled.contract
    before = holder.balance(node, "BTC")
    normal_s = order_time_s(holder, node)
    for gate in settled.every_gate():
        getattr(gate, way)()
    settled.wait_state("unreachable")
    credited, newest = settled.credited(node), contract.newest_checkpoint()
    made = [holder.deposit("BTC", "0.125"), holder.deposit("BTC", "0.0625")]
    assert order_time_s(holder, node) < SLOWER_FACTOR * normal_s + SLOWER_S
    settled.wait_for(lambda: settled.settlement(node)["certified"] >= newest + 5)
    if way == "hang":
        stopped = settled.validators[3]
        assert stopped.stop() == 0
        height = settled.height()
        stopped.start()
        settled.wait_voting(stopped, after=height)
    settled.wait_state("unreachable")
    assert settled.credited(node) == credited
    assert contract.newest_checkpoint() == newest

    certified = settled.settlement(node)["certified"]
    for gate in settled.every_gate():
        gate.open()
    settled.wait_state("following")
    settled.wait_checkpoints(2)
    caught_up = next(one for one in contract.checkpoints() if one.number > newest)
    assert caught_up.number >= certified
    settled.wait_deposits()
    for one in settled.validators:
        assert holder.balance(one, "BTC") == before + sum(deposit.amount for deposit in made)
    settled.assert_settled()
