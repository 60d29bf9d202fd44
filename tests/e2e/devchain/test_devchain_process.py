"""The program: one process for a folder, a clean end, and the first block for good."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from devchain_process import ALICE, COINS, START_TIMEOUT_S, DevChain

MEMORY_MAX_KB = 120 * 1024


def refused(chain: DevChain) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        chain.command(), check=False, capture_output=True, text=True, timeout=START_TIMEOUT_S
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    with DevChain(tmp_path / "home") as chain:
        sent = chain.send(ALICE)
        assert chain.end(how) == 0
        chain.start()
        assert chain.receipt(sent)["status"] == "0x1"


@pytest.mark.slow
def test_one_process_for_a_folder_and_a_port(tmp_path: Path) -> None:
    with DevChain(tmp_path / "home") as chain:
        second = refused(chain)
        assert second.returncode == 1
        assert "is another process using it" in second.stderr.lower()
        other = DevChain(tmp_path / "other")
        command = other.command()
        command[command.index("--port") + 1] = chain.url.rsplit(":", 1)[1]
        taken = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=START_TIMEOUT_S
        )
        assert taken.returncode == 2
        assert "can not listen" in taken.stderr
        for outcome in (second, taken):
            assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_the_first_block_is_for_good(tmp_path: Path) -> None:
    with DevChain(tmp_path / "home") as chain:
        genesis = chain.call("eth_getBlockByNumber", "0x0", False)
        assert int(chain.call("eth_getBalance", ALICE.address, "0x0"), 16) == COINS
        chain.end(signal.SIGTERM)
        chain.alloc = {ALICE.address: "1"}
        assert "began with another alloc" in refused(chain).stderr
        chain.alloc = None
        command = [*chain.command(), "--chain-id", "1337"]
        outcome = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=START_TIMEOUT_S
        )
        assert (outcome.returncode, outcome.stdout) == (2, "")
        assert "began with another chain_id" in outcome.stderr
        chain.start()
        assert chain.call("eth_getBlockByNumber", "0x0", False) == genesis


@pytest.mark.slow
def test_two_chains_from_the_same_balances_have_the_same_first_block(tmp_path: Path) -> None:
    with DevChain(tmp_path / "a") as one, DevChain(tmp_path / "b") as other:
        first = one.call("eth_getBlockByNumber", "0x0", False)
        assert first == other.call("eth_getBlockByNumber", "0x0", False)


@pytest.mark.slow
def test_wrong_balances_are_refused(tmp_path: Path) -> None:
    chain = DevChain(tmp_path / "home")
    for alloc in ({"0x12": "1"}, {ALICE.address: "-1"}, {ALICE.address: "many"}):
        chain.alloc = alloc
        outcome = refused(chain)
        assert outcome.returncode == 2, outcome
        assert outcome.stderr.startswith("error: ")


@pytest.mark.slow
def test_it_stays_small(tmp_path: Path) -> None:
    with DevChain(tmp_path / "home", interval_ms=20) as chain:
        token = chain.deploy_token(ALICE)
        for amount in range(1, 60):
            chain.transact(ALICE, token, "mint", ALICE.address, amount)
        chain.call("dev_mine", 256)
        assert token.functions.totalSupply().call() == sum(range(1, 60))
        status = Path(f"/proc/{chain.pid}/status").read_text()
        resident_kb = int(status.split("VmRSS:")[1].split()[0])
        assert resident_kb < MEMORY_MAX_KB
