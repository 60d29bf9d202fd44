"""Endpoints of the settlement chain that lie. Every validator asks two of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from omninode.crypto import checksum_address
from omninode.encoding import amount_from_bytes
from real_chain import Answering, Forward, other_hashes, with_log, without_log
from real_settlement import (
    CONFIRMATIONS,
    DEPOSITED,
    SettledNetwork,
    calldata,
    settled_network,
    topic,
)
from real_trading import limit_order

pytestmark = pytest.mark.slow

HONEST, LYING = 0, 1
FORTUNE = "1000000"
RUBBISH_CALLS = 300


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SettledNetwork]:
    with settled_network(tmp_path_factory.mktemp("settled"), endpoints=2) as made:
        yield made


@pytest.fixture
def network(shared: SettledNetwork) -> SettledNetwork:
    shared.heal()
    return shared


def word(number: int) -> str:
    return f"0x{number:064x}"


def invents(network: SettledNetwork) -> Answering:
    """Tell of a deposit that never was, as the contract would have logged it next."""
    thief, after = network.holders[1], network.contract.cursor()
    deposit, cursor = network.invent(thief, FORTUNE, after=after)
    topics = [
        topic(DEPOSITED),
        word(after.count),
        word(int.from_bytes(deposit.token, "big")),
        word(int.from_bytes(deposit.account, "big")),
    ]
    # The arguments of a call are encoded as the data of an event.
    amount = amount_from_bytes(deposit.amount)
    data = bytes.fromhex(calldata("_(uint16,uint256,bytes32)", 0, amount, cursor.hash)[10:])
    return with_log(network.chain.height() + 2, network.contract.address, topics, data)


def hides(network: SettledNetwork) -> Answering:
    """Leave out the next deposit."""
    return without_log([topic(DEPOSITED), word(network.contract.cursor().count)])


def shows_another_chain(network: SettledNetwork) -> Answering:
    """Give all blocks from now on other hashes."""
    return other_hashes(network.chain.height())


def rubbish(rng: random.Random) -> Answering:
    """Replace a part of some answers by what it can not be."""
    values = (None, True, -1, 2**70, "", "0x", "0xzz", "0x" + "f" * 65, "é", [], {}, [[]], [None])

    def spoil(value: Any) -> Any:
        if isinstance(value, dict) and value and rng.random() < 0.9:
            key = rng.choice(sorted(value))
            return value | {key: spoil(value[key])}
        if isinstance(value, list) and value and rng.random() < 0.9:
            place = rng.randrange(len(value))
            return [*value[:place], spoil(value[place]), *value[place + 1 :]]
        return rng.choice(values)

    def answer(method: str, params: list[Any], forward: Forward) -> Any:
        result = forward(method, params)
        return spoil(result) if rng.random() < 0.1 else result

    return answer


LIES = (invents, hides, shows_another_chain)


@pytest.mark.parametrize("lie", LIES)
def test_one_of_two_endpoints_lies_nothing_false_is_credited(
    network: SettledNetwork, lie: Callable[[SettledNetwork], Answering]
) -> None:
    node, (holder, thief) = network.validators[0], network.holders
    credited = network.credited(node)
    before = [one.balance(node, "USDC") for one in (holder, thief)]
    answering = lie(network)
    for gates in network.gates.values():
        gates[LYING].answering = answering
    # Every lie is of a block before the deposit's: what both tell alike is rightly credited.
    network.chain.wait_height(network.chain.height() + 2)
    made = holder.deposit("USDC", "11.000001")
    network.wait_state("disagreement")
    for one in network.validators:
        detail = network.settlement(one)["detail"]
        for gate in network.gates[one.name]:
            assert f"127.0.0.1:{gate.port}" in detail
        assert one.events("endpoints_disagree")
    network.chain.wait_height(network.chain.height() + 2 * CONFIRMATIONS)
    order = limit_order("buy", "0.9", "10", tif="ioc")
    assert holder.trader.send(node, order)["code"] == "ok"
    for one in network.validators:
        assert network.settlement(one)["state"] == "disagreement"
        assert network.credited(one) == credited

    for gates in network.gates.values():
        gates[LYING].answering = None
    network.wait_state("following")
    network.wait_deposits()
    for one in network.validators:
        assert network.credited(one).count == credited.count + 1
        balances = [who.balance(one, "USDC") for who in (holder, thief)]
        assert balances == [before[0] + made.amount, before[1]]
        assert network.settlement(one)["detail"] == ""
    network.wait_checkpoints(2)
    network.assert_settled()


def test_rubbish_stops_nobody(network: SettledNetwork, seed: int) -> None:
    node, holder = network.validators[0], network.holders[0]
    for place, gate in enumerate(network.every_gate()):
        gate.answering = rubbish(random.Random(f"{seed} {place}"))
    sums = [sum(gate.calls.values()) for gate in network.every_gate()]
    order = limit_order("buy", "0.9", "10", tif="ioc")

    def is_enough() -> bool:
        assert holder.trader.send(node, order)["code"] == "ok"
        counts = [sum(gate.calls.values()) for gate in network.every_gate()]
        return sum(counts) - sum(sums) > RUBBISH_CALLS

    network.wait_for(is_enough)
    for one in network.validators:
        assert one.health()[0] == 200
    for gate in network.every_gate():
        gate.answering = None
    network.wait_state("following")
    before, made = holder.balance(node, "USDC"), holder.deposit("USDC", "2")
    network.wait_deposits()
    assert holder.balance(node, "USDC") == before + made.amount
    network.wait_checkpoints(2)
    network.assert_settled()


def test_on_another_chain_for_a_while_a_validator_is_halted_and_goes_on(
    network: SettledNetwork,
) -> None:
    astray, holder = network.validators[2], network.holders[0]
    fork = network.settlement(astray)["confirmed_height"] - 2
    answering = other_hashes(fork)
    for gate in network.gates[astray.name]:
        gate.answering = answering
    network.wait_state("halted", [astray])
    vanished = f"confirmed blocks {fork + 1} to "
    network.wait_for(lambda: vanished in network.settlement(astray)["detail"])
    holder.deposit("USDC", "6")
    network.wait_deposits()
    astray.kill()
    astray.start()
    network.wait_in_sync([astray])
    assert network.settlement(astray)["state"] == "halted"

    for gate in network.gates[astray.name]:
        gate.answering = None
    network.wait_state("following")
    holder.deposit("USDC", "8")
    network.wait_deposits()
    network.assert_relays(astray)
    network.assert_settled()


def test_a_validator_deceived_by_all_its_endpoints_is_outvoted_and_told(
    network: SettledNetwork,
) -> None:
    deceived, others = network.validators[3], network.validators[:3]
    node, (holder, thief) = network.validators[0], network.holders
    before = [one.balance(node, "USDC") for one in (holder, thief)]
    answering = invents(network)
    for gate in network.gates[deceived.name]:
        gate.answering = answering
    index = network.contract.cursor().count
    network.wait_for(lambda: network.settlement(deceived)["deposits"] > index)
    made = holder.deposit("USDC", "3")
    network.wait_deposits()
    address = checksum_address(deceived.identity.address)
    for one in others:
        sides = network.wait_for(lambda one=one: network.named(one))
        assert [address] in sides.values()
        assert network.settlement(one)["state"] == "following"
    network.wait_state("halted", [deceived])
    assert deceived.events("settlement_halted")
    network.wait_checkpoints(2)
    for one in network.validators:
        balances = [who.balance(one, "USDC") for who in (holder, thief)]
        assert balances == [before[0] + made.amount, before[1]]

    # What it stored is wrong. With the truth at hand the operator has it read the chain anew.
    for gate in network.gates[deceived.name]:
        gate.answering = None
    assert deceived.stop() == 0
    assert deceived.run("reset", "--yes").code == 0
    deceived.start()
    network.heal()
    made = holder.deposit("USDC", "4")
    network.wait_deposits()
    network.wait_for(lambda: not any(network.named(one) for one in network.validators))
    network.assert_settled()
