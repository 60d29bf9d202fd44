"""ethers and cast use the dev chain unchanged; `./dev contracts` installs both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from devchain_process import ALICE, BOB, DevChain

ROOT = Path(__file__).resolve().parents[3]
MODULES = ROOT / "contracts" / "node_modules"


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not here")
    return found


@pytest.mark.slow
def test_ethers(chain: DevChain, node: str) -> None:
    if not (MODULES / "ethers").exists():
        pytest.skip("no ethers: ./dev contracts installs it")
    script = Path(__file__).with_name("ethers_session.cjs")
    artifact = ROOT / "contracts" / "artifacts" / "TestToken.json"
    outcome = subprocess.run(
        [node, str(script), chain.url, ALICE.key.to_0x_hex(), str(artifact)],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        check=False, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    seen = json.loads(outcome.stdout)
    nonces = seen.pop("nonces")
    assert nonces[0] == nonces[1] >= 3
    assert seen == {
        "chainId": 31337,
        "heard": 250,
        "status": 1,
        "confirmations": True,
        "balance": 750,
        "events": [250],
        "callError": "CALL_EXCEPTION",
        "callErrorName": "ERC20InsufficientBalance",
        "sendError": "CALL_EXCEPTION",
        "sendErrorName": "ERC20InsufficientBalance",
        "fees": True,
        "prefetched": True,
        "pending": True,
        "code": True,
    }


@pytest.mark.slow
def test_cast(chain: DevChain, npm_program: Callable[[str], str]) -> None:
    program = npm_program("cast")

    def cast(*arguments: str, fails: bool = False) -> str:
        outcome = subprocess.run(
            [program, *arguments, "--rpc-url", chain.url],
            check=False, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert (outcome.returncode != 0) == fails, outcome
        return (outcome.stderr if fails else outcome.stdout).strip()

    token = chain.deploy_token(BOB)
    key = ("--private-key", BOB.key.to_0x_hex())
    minted = json.loads(
        cast("send", token.address, "mint(address,uint256)", BOB.address, "500", *key, "--json")
    )
    assert minted["status"] == "0x1"
    sent = json.loads(cast("send", ALICE.address, "--value", "7", *key, "--json", "--legacy"))
    assert (sent["status"], sent["type"]) == ("0x1", "0x0")
    assert cast("call", token.address, "balanceOf(address)(uint256)", BOB.address) == "500"
    assert cast("chain-id") == "31337"
    assert int(cast("block-number")) >= int(sent["blockNumber"], 16)
    assert cast("nonce", BOB.address) == str(chain.nonce(BOB))
    assert int(cast("gas-price")) > 0
    assert int(cast("base-fee")) > 0
    estimate = int(cast("estimate", ALICE.address, "--value", "1", "--from", BOB.address))
    assert estimate == 21_000
    receipt = json.loads(cast("receipt", minted["transactionHash"], "--json"))
    assert receipt["blockHash"] == minted["blockHash"]
    assert json.loads(cast("tx", minted["transactionHash"], "--json"))["nonce"]
    block = json.loads(cast("block", minted["blockNumber"], "--json", "--full"))
    assert block["hash"] == minted["blockHash"]
    logs = json.loads(
        cast(
            "logs", "--json", "--from-block", "0", "--address", token.address,
            "Transfer(address,address,uint256)",
        )
    )  # fmt: skip
    assert [log["transactionHash"] for log in logs] == [minted["transactionHash"]]
    lack = cast(
        "call", token.address, "transfer(address,uint256)", ALICE.address, "501", "--from",
        BOB.address, fails=True,
    )  # fmt: skip
    assert "execution reverted" in lack
