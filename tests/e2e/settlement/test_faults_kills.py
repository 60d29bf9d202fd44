"""Processes that are killed while money and checkpoints are between the chain and the exchange."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from real_network import RealNode
from real_settlement import SettledNetwork

pytestmark = pytest.mark.slow


BURST = 40
"""Deposits of each of two accounts; one attestation takes 64."""
DUST = "0.000000000000000001"


def relayer_held_back(network: SettledNetwork) -> tuple[RealNode, str]:
    """Hold all transactions back; return who has signed a checkpoint that would count, and which.

    Nobody else's reaches the chain until the gates are opened again.
    """
    for gate in network.every_gate():
        gate.hold_sends()
    network.chain.wait_height(network.chain.height() + 2)  # what was on its way is there
    newest = network.contract.newest_checkpoint()

    def found() -> tuple[RealNode, str] | None:
        for node in network.validators:
            for transaction in list(network.gate(node).held):
                if network.number_of(node, transaction) > newest:
                    return node, transaction
        return None

    relayer: tuple[RealNode, str] = network.wait_for(found)
    return relayer


def kill_and_forget(network: SettledNetwork, node: RealNode) -> None:
    """Kill a node with everything that it has not handed to the chain."""
    node.kill()
    network.gate(node).open()
    network.gate(node).forget()


def test_killed_between_signing_and_sending_it_sends_the_same_bytes(
    settled: SettledNetwork,
) -> None:
    victim, transaction = relayer_held_back(settled)
    kill_and_forget(settled, victim)
    assert settled.chain.call("eth_getTransactionByHash", transaction) is None
    victim.start()
    settled.wait_for(lambda: transaction in settled.gate(victim).passed)
    settled.wait_for(lambda: settled.contract.effects(transaction))
    for gate in settled.every_gate():
        gate.let_pass()
    settled.wait_checkpoints(2)
    assert len(settled.contract.effects(transaction)) == 1
    settled.assert_settled()


def test_killed_before_sending_it_goes_on_when_others_were_quicker(
    settled: SettledNetwork,
) -> None:
    victim, transaction = relayer_held_back(settled)
    kill_and_forget(settled, victim)
    for gate in settled.every_gate():
        gate.let_pass()
    settled.wait_checkpoints(2)
    assert settled.chain.call("eth_getTransactionByHash", transaction) is None
    victim.start()
    settled.assert_relays(victim)
    assert not settled.contract.effects(transaction)
    settled.assert_settled()


def test_killed_between_sending_and_receipt_there_is_one_effect(settled: SettledNetwork) -> None:
    for gate in settled.every_gate():
        gate.hold_receipts()
        gate.forget()

    def found() -> tuple[RealNode, str] | None:
        for node in settled.validators:
            for transaction in settled.gate(node).passed:
                if settled.contract.effects(transaction):
                    return node, transaction
        return None

    victim, transaction = settled.wait_for(found)
    kill_and_forget(settled, victim)
    for gate in settled.every_gate():
        gate.let_pass()
    victim.start()
    settled.wait_checkpoints(2)
    settled.assert_relays(victim)
    assert len(settled.contract.effects(transaction)) == 1
    settled.assert_settled()


def test_killed_while_deposits_are_attested_each_is_credited_once(
    settled: SettledNetwork,
) -> None:
    holder, witness = settled.holders[0], settled.validators[0]
    before = holder.balance(witness, "USDC")
    amounts = ("1.000001", "20.25", "300.5")

    def is_seen(victim: RealNode, count: int) -> bool:
        return bool(settled.settlement(victim)["deposits"] >= count)

    moments: tuple[Callable[[RealNode, int], bool], ...] = (
        lambda _, __: True,
        is_seen,
        lambda _, count: settled.credited(witness).count >= count,
    )
    for victim, amount, moment in zip(settled.validators[1:], amounts, moments, strict=True):
        made = holder.deposit("USDC", amount)
        settled.wait_for(lambda m=moment, v=victim, c=made.index + 1: m(v, c))
        victim.kill()
        settled.wait_deposits()
        victim.start()
    settled.wait_deposits()
    credited = before + sum(settled.units("USDC", amount) for amount in amounts)
    for node in settled.validators:
        assert holder.balance(node, "USDC") == credited
        assert [row["amount"] for row in holder.credited(node)[-3:]] == list(amounts)
    settled.assert_settled()


def test_a_burst_of_deposits_while_one_after_the_other_is_killed(settled: SettledNetwork) -> None:
    holders, witness = settled.holders, settled.validators[0]
    before = [(holder.balance(witness, "XOM"), len(holder.credited(witness))) for holder in holders]
    first = settled.contract.cursor().count
    sent = [holder.send_deposit("XOM", DUST, 999) for holder in holders for _ in range(BURST)]
    for victim in settled.validators[1:]:
        victim.kill()
        settled.wait_blocks(2)
        victim.start()
    for holder, transaction in zip(holders, (sent[BURST - 1], sent[-1]), strict=True):
        holder.wait_mined(transaction)
    settled.wait_deposits()
    assert settled.contract.cursor().count == first + len(sent)
    for node in settled.validators:
        for holder, (balance, rows) in zip(holders, before, strict=True):
            new = holder.credited(node)[rows:]
            assert [(row["amount"], row["state"]) for row in new] == [(DUST, "credited")] * BURST
            assert holder.balance(node, "XOM") == balance  # that is of subaccount 0
    settled.assert_settled()


def test_all_and_the_chain_killed_at_once_nothing_is_lost(settled: SettledNetwork) -> None:
    first, second = settled.holders
    node, network = settled.validators[0], settled.contract
    balances = [
        (h, h.balance(node, "BTC"), network.balance("BTC", h.address)) for h in (first, second)
    ]
    index = first.withdraw(node, "BTC", "0.25")
    sent = [first.send_deposit("BTC", "0.5"), second.send_deposit("BTC", "0.125")]
    processes = [settled.chain.process, *(one.process for one in settled.validators)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()
    settled.chain.start()
    settled.start()
    for holder, transaction in zip((first, second), sent, strict=True):
        assert holder.wait_mined(transaction)["status"] == "0x1"
    settled.wait_state("following")
    settled.wait_deposits()
    assert first.claim(node, index)["status"] == "0x1"
    assert first.claim(node, index)["status"] == "0x0"
    assert list(settled.contract.withdrawals()) == [index]
    changes = ((0.5 - 0.25, 0.25 - 0.5), (0.125, -0.125))
    for (holder, exchange, tokens), (more, on_chain) in zip(balances, changes, strict=True):
        for one in settled.validators:
            assert holder.balance(one, "BTC") == exchange + round(more * 10**8)
        assert network.balance("BTC", holder.address) == tokens + round(on_chain * 10**8)
    settled.wait_checkpoints(2)
    settled.assert_settled()
