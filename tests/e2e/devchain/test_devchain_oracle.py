"""The dev chain and anvil, an EVM of other people's, do the same with the same transactions."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from devchain_process import ALICE, BOB, COINS, DevChain

from omninode.contracts.artifacts import load_artifact

SHOWN = ("gasUsed", "cumulativeGasUsed", "status", "contractAddress", "type", "logsBloom")

ANVILS_OWN = {"blobGasPrice", "blockTimestamp"}
"""Members that are not in Ethereum's interface."""


@pytest.fixture
def anvil(tmp_path: Path, npm_program: Callable[[str], str]) -> Iterator[DevChain]:
    """anvil under the same rules, seen through the same client."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    home = tmp_path / "anvil"
    with home.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [
                npm_program("anvil"), "--port", str(port), "--block-time", "1",
                "--hardfork", "prague",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    chain = DevChain(home)
    chain.url = f"http://127.0.0.1:{port}"
    try:
        chain.wait(lambda: answers(chain), "answer of anvil")
        for account in (ALICE, BOB):
            chain.call("anvil_setBalance", account.address, hex(COINS))
        yield chain
    finally:
        chain.close()
        process.send_signal(signal.SIGKILL)
        process.wait()


def answers(chain: DevChain) -> bool:
    try:
        return bool(chain.call("eth_chainId"))
    except httpx.TransportError:
        return False


def history(chain: DevChain) -> list[Any]:
    """Send the same transactions and collect all that does not depend on time."""
    seen: list[Any] = []

    def note(transaction_hash: str) -> dict[str, Any]:
        receipt = chain.receipt(transaction_hash)
        logs = [(log["address"], log["topics"], log["data"]) for log in receipt["logs"]]
        seen.append([{name: receipt.get(name) for name in SHOWN}, logs])
        return receipt

    token = chain.deploy_token(ALICE)
    for name, values in (
        ("mint", (ALICE.address, 10**12)),
        ("transfer", (BOB.address, 5)),
        ("transfer", (BOB.address, 6)),
        ("transfer", (BOB.address, 10**13)),
        ("approve", (BOB.address, 10**9)),
        ("approve", (BOB.address, 0)),
    ):
        note(chain.transact(ALICE, token, name, *values))
    artifact = load_artifact("Settlement")
    factory = chain.web3().eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    arguments = (b"\1" * 32, 1, b"\2" * 32, [token.address], token.address)
    code = factory.constructor(*arguments).data_in_transaction
    receipt = note(chain.send(ALICE, to=None, value=0, data=code, gas=6_000_000))
    seen.append(chain.call("eth_getCode", receipt["contractAddress"], "latest"))
    move = token.encode_abi("transfer", args=[BOB.address, 1])
    seen.extend(
        chain.call("eth_estimateGas", {"from": ALICE.address, **request})
        for request in ({"data": code}, {"to": token.address, "data": move}, {"to": BOB.address})
    )
    block = chain.call("eth_getBlockByNumber", receipt["blockNumber"], True)
    seen.append([sorted(block), sorted(block["transactions"][0]), sorted(receipt)])
    return seen


@pytest.mark.slow
def test_the_same_transactions_do_the_same(chain: DevChain, anvil: DevChain) -> None:
    ours, theirs = history(chain), history(anvil)
    assert len(ours) == len(theirs)
    for number, (mine, other) in enumerate(zip(ours[:-1], theirs[:-1], strict=True)):
        assert mine == other, number
    for kind, mine, other in zip(
        ("block", "transaction", "receipt"), ours[-1], theirs[-1], strict=True
    ):
        missing = set(other) - set(mine) - ANVILS_OWN
        assert not missing, f"{kind} lacks {missing}"
