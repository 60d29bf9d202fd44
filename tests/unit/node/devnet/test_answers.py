"""What has not the form of a chain's answer goes no further."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from omninode.errors import ChainError
from omninode.node.devnet.answers import check_answer, checked

HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "cd" * 20
BLOCK = {"number": "0x1", "hash": HASH, "parentHash": HASH, "timestamp": "0x2"}
LOG = {"address": ADDRESS, "topics": [HASH], "data": "0x"}
RECEIPT = {"status": "0x1", "blockNumber": "0x1", "transactionHash": HASH, "logs": [LOG]}

GOOD: dict[str, tuple[Any, ...]] = {
    "eth_chainId": ("0x7a69",),
    "eth_getBalance": ("0x0", "0x" + "f" * 64),
    "eth_call": ("0x", HASH),
    "eth_getBlockByNumber": (None, BLOCK, {**BLOCK, "baseFeePerGas": "0x7"}),
    "eth_getTransactionByHash": (None, {}),
    "eth_getTransactionReceipt": (None, RECEIPT),
    "eth_getLogs": ([], [LOG]),
    "eth_sendRawTransaction": (HASH,),
    "web3_clientVersion": (7,),
}
BAD: dict[str, tuple[Any, ...]] = {
    "eth_chainId": (None, 31_337, "31337", "0x", "0x" + "f" * 65, [], True),
    "eth_call": (None, "0x1", "0xzz", 5),
    "eth_getBlockByNumber": ("0x10", {}, {**BLOCK, "number": 1}, {**BLOCK, "baseFeePerGas": []}),
    "eth_getTransactionByHash": ("0x10", []),
    "eth_getTransactionReceipt": ("0x10", {}, {**RECEIPT, "status": None}, {**RECEIPT, "logs": 1}),
    "eth_getLogs": (None, "0x10", ["0x10"], [{**LOG, "topics": "0x"}], [{**LOG, "topics": [1]}]),
    "eth_sendRawTransaction": ("0x10", None),
    "eth_getTransactionCount": ([], {}),
}


@pytest.mark.parametrize(("method", "answers"), GOOD.items())
def test_answers_pass(method: str, answers: tuple[Any, ...]) -> None:
    for answer in answers:
        check_answer(method, answer)


@pytest.mark.parametrize(("method", "answers"), BAD.items())
def test_what_is_none_is_refused_in_a_few_words(method: str, answers: tuple[Any, ...]) -> None:
    for answer in answers:
        with pytest.raises(ChainError, match=method) as caught:
            check_answer(method, answer)
        assert len(str(caught.value)) <= 300


async def test_an_ask_is_checked() -> None:
    async def ask(method: str, params: list[Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return params[0]

    assert await checked(ask)("eth_chainId", ["0x1"]) == "0x1"
    with pytest.raises(ChainError):
        await checked(ask)("eth_chainId", [{}])
