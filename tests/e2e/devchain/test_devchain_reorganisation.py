"""A reorganisation on demand: other blocks, the same or forgotten transactions, durable."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from devchain_process import ALICE, BOB, DevChain, RpcError


def block(chain: DevChain, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = chain.call("eth_getBlockByNumber", tag, False)
    return found


def test_transactions_go_into_the_new_blocks(slow_chain: DevChain) -> None:
    sent = slow_chain.send(ALICE)
    slow_chain.call("dev_mine", 3)
    before = [block(slow_chain, hex(number)) for number in range(4)]
    receipt = slow_chain.call("eth_getTransactionReceipt", sent)
    head = slow_chain.call("dev_reorganise", "0x3", True)
    after = [block(slow_chain, hex(number)) for number in range(4)]
    assert after[0] == before[0]
    assert after[3]["hash"] == head
    for number in (1, 2, 3):
        assert after[number]["hash"] != before[number]["hash"]
        assert after[number]["parentHash"] == after[number - 1]["hash"]
        by_hash = slow_chain.call("eth_getBlockByHash", before[number]["hash"], False)
        assert by_hash == before[number]
    again = slow_chain.call("eth_getTransactionReceipt", sent)
    assert again["blockHash"] == after[1]["hash"] != receipt["blockHash"]
    assert slow_chain.nonce(ALICE) == 1


def test_transactions_may_be_forgotten(slow_chain: DevChain) -> None:
    slow_chain.call("dev_mine")
    token_of = slow_chain.send(ALICE, nonce=0)
    slow_chain.call("dev_mine", 2)
    assert slow_chain.call("eth_getTransactionReceipt", token_of)
    slow_chain.call("dev_reorganise", "0x2", False)
    assert slow_chain.head() == 3
    assert slow_chain.call("eth_getTransactionReceipt", token_of) is None
    assert slow_chain.call("eth_getTransactionByHash", token_of) is None
    assert slow_chain.nonce(ALICE) == 0
    assert slow_chain.call("eth_getBalance", "0x" + "77" * 20, "latest") == "0x0"
    slow_chain.end(signal.SIGKILL)
    slow_chain.start()
    assert slow_chain.head() == 3
    assert slow_chain.nonce(ALICE, "pending") == 0
    slow_chain.send(ALICE, nonce=0, value=2)
    slow_chain.call("dev_mine")
    assert slow_chain.call("eth_getBalance", "0x" + "77" * 20, "latest") == "0x2"


def test_logs_move_with_their_blocks(slow_chain: DevChain) -> None:
    # LOG0 in the constructor.
    for nonce in (0, 1):
        slow_chain.send(ALICE, nonce=nonce, to=None, value=0, data="0x60006000a000", gas=100_000)
        slow_chain.call("dev_mine")
    everything = {"fromBlock": "0x0", "toBlock": "latest"}
    old = slow_chain.call("eth_getLogs", everything)
    assert [log["blockNumber"] for log in old] == ["0x1", "0x2"]
    slow_chain.call("dev_reorganise", "0x2", True)
    moved = slow_chain.call("eth_getLogs", everything)
    assert [log["blockNumber"] for log in moved] == ["0x1", "0x1"]
    assert {log["transactionHash"] for log in moved} == {log["transactionHash"] for log in old}
    assert slow_chain.call("eth_getLogs", {"blockHash": old[1]["blockHash"]}) == [old[1]]
    slow_chain.call("dev_reorganise", "0x2", False)
    assert slow_chain.call("eth_getLogs", everything) == []


def test_what_waits_survives_beside_what_comes_back(slow_chain: DevChain) -> None:
    first = slow_chain.send(ALICE, nonce=0)
    slow_chain.call("dev_mine")
    waiting = slow_chain.send(ALICE, nonce=1)
    other = slow_chain.send(BOB, nonce=0)
    slow_chain.call("dev_reorganise", "0x1", False)
    assert slow_chain.nonce(ALICE, "pending") == 0
    slow_chain.call("dev_mine")
    assert slow_chain.call("eth_getTransactionReceipt", other)["status"] == "0x1"
    assert slow_chain.call("eth_getTransactionReceipt", waiting) is None
    raw, again = slow_chain.sign(ALICE, nonce=0)
    assert again == first
    slow_chain.call("eth_sendRawTransaction", raw)
    slow_chain.call("dev_mine")
    assert slow_chain.call("eth_getTransactionReceipt", waiting)["status"] == "0x1"


def test_depth_is_bounded(slow_chain: DevChain) -> None:
    for depth in ("0x0", "0x40"):
        with pytest.raises(RpcError, match="a depth from 1 to 63"):
            slow_chain.call("dev_reorganise", depth)
    with pytest.raises(RpcError, match="true or false"):
        slow_chain.call("dev_reorganise", "0x1", "yes")
    genesis = block(slow_chain, "0x0")
    slow_chain.call("dev_reorganise", "0x5")
    slow_chain.call("dev_mine", 2)
    slow_chain.call("dev_reorganise", "0x5")
    assert slow_chain.head() == 2
    assert block(slow_chain, "0x0") == genesis
