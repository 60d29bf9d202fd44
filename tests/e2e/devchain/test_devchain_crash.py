"""kill -9 in the middle of a stream of transactions loses nothing that was acknowledged."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from devchain_process import ALICE, BOB, DevChain, RpcError

ROUNDS = 6


class Stream:
    """Sends transactions of one account as fast as they are acknowledged, until the chain dies."""

    def __init__(self, chain: DevChain, account: Any) -> None:
        self.acknowledged: list[str] = []
        self._chain = chain
        self._account = account
        self._next = chain.nonce(account, "pending")
        self._http = httpx.Client(timeout=30)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._http:
            try:
                while True:
                    raw, expected = self._chain.sign(self._account, nonce=self._next)
                    body = {
                        "jsonrpc": "2.0", "id": 1,
                        "method": "eth_sendRawTransaction", "params": [raw],
                    }  # fmt: skip
                    answer = self._http.post(self._chain.url, json=body).json()
                    if "error" in answer:
                        assert "account limit" in answer["error"]["message"], answer
                        time.sleep(0.01)
                        continue
                    assert answer["result"] == expected
                    self.acknowledged.append(expected)
                    self._next += 1
            except httpx.TransportError:
                pass


@pytest.mark.slow
def test_nothing_acknowledged_is_lost(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: list[str] = []
    with DevChain(tmp_path / "home", interval_ms=50) as chain:
        for _ in range(ROUNDS):
            streams = [Stream(chain, account) for account in (ALICE, BOB)]
            for stream in streams:
                stream.thread.start()
            time.sleep(0.2 + chance.random())
            assert chain.end(signal.SIGKILL) == -signal.SIGKILL
            for stream in streams:
                stream.thread.join()
                acknowledged += stream.acknowledged
            chain.start()
            check_links(chain)
        check_counts(chain)
        assert len(acknowledged) > 10 * ROUNDS
        for transaction_hash in acknowledged:
            assert chain.receipt(transaction_hash)["status"] == "0x1"
        paid = sum(chain.nonce(account) for account in (ALICE, BOB))
        recipient = "0x" + "77" * 20
        assert int(chain.call("eth_getBalance", recipient, "latest"), 16) == paid


def check_links(chain: DevChain) -> None:
    """Every block leads to the one before it, and every transaction to its block."""
    block = chain.call("eth_getBlockByNumber", "latest", False)
    number = int(block["number"], 16)
    for _ in range(min(number, 40)):
        before = chain.call("eth_getBlockByHash", block["parentHash"], False)
        assert int(before["number"], 16) == int(block["number"], 16) - 1
        assert chain.call("eth_getBlockByNumber", before["number"], False) == before
        for transaction_hash in block["transactions"]:
            receipt = chain.call("eth_getTransactionReceipt", transaction_hash)
            assert receipt["blockHash"] == block["hash"]
        block = before


def check_counts(chain: DevChain) -> None:
    """The newest state counts every transaction."""
    number = chain.head()
    total = sum(
        len(chain.call("eth_getBlockByNumber", hex(height), False)["transactions"])
        for height in range(number + 1)
    )
    nonces = [
        int(chain.call("eth_getTransactionCount", account.address, hex(number)), 16)
        for account in (ALICE, BOB)
    ]
    assert sum(nonces) == total


@pytest.mark.slow
def test_what_waits_is_there_after_a_kill(tmp_path: Path) -> None:
    with DevChain(tmp_path / "home", interval_ms=3_600_000) as chain:
        hashes = [chain.send(ALICE, nonce=nonce) for nonce in (0, 2, 5)]
        replaced = chain.send(BOB, nonce=0)
        kept = chain.send(BOB, nonce=0, maxFeePerGas=20 * 10**9, maxPriorityFeePerGas=2 * 10**9)
        chain.end(signal.SIGKILL)
        chain.start()
        assert chain.nonce(ALICE, "pending") == 1
        for transaction_hash in (*hashes, kept):
            assert chain.call("eth_getTransactionByHash", transaction_hash)["blockHash"] is None
        assert chain.call("eth_getTransactionByHash", replaced) is None
        chain.send(ALICE, nonce=1)
        chain.call("dev_mine")
        assert (chain.nonce(ALICE), chain.nonce(BOB)) == (3, 1)
        with pytest.raises(RpcError, match="already known"):
            chain.send(ALICE, nonce=5)
