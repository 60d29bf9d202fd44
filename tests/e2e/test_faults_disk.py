"""What can happen to a validator's files: each is noticed, said, and has a way back."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omninode.crypto import parse_address
from omninode.dex.records import PREFIXES
from omninode.encoding import AMOUNT_BYTES, amount_from_bytes, amount_to_bytes
from omninode.storage import keys
from omninode.storage.database import Database
from real_network import RealNetwork, RealNode, until
from real_trading import Load, Trader, limit_order
from small_disk import fill, small_disk

pytestmark = pytest.mark.slow

RATE = 30


def refusal(node: RealNode) -> str:
    """Start a node that must not start; returns what it says."""
    node.launch()
    code = node.wait_ended(60)
    lines = [line for line in node.log().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, node.log()
    assert "Traceback" not in node.log()
    return f"{code} {lines[0]}"


def assert_rejoins(network: RealNetwork, node: RealNode) -> None:
    """Start a node and see it follow and vote again."""
    height = network.height()
    if not node.is_running:
        node.start()
    network.wait_in_sync([node])
    network.wait_voting(node, after=height)
    network.assert_one_chain()


@pytest.fixture
def last(network: RealNetwork, seed: int) -> Iterator[RealNode]:
    """The last validator, stopped for the test to hurt it; the others trade on."""
    node = network.validators[3]
    with Load(network, network.validators[:3], rate=RATE, seed=seed) as load:
        load.wait_acknowledged(10)
        yield node
        load.wait_acknowledged(10)
    load.assert_all_final(network.validators[:3])


def segments(node: RealNode) -> list[Path]:
    return sorted(node.home.write_ahead_log.glob("*.wal"))


def test_a_second_process_on_the_same_home_is_refused(last: RealNode) -> None:
    done = last.run("start")
    assert done.code == 1
    assert done.document["error"]["reason"] == "home_locked"
    assert f"process {last.process.pid}" in done.stderr
    assert last.home.lock_file.read_text() == f"{last.process.pid}\n"
    assert last.is_running


def test_a_torn_tail_of_the_log_is_cut_off_and_said(network: RealNetwork, last: RealNode) -> None:
    last.kill()
    with segments(last)[-1].open("ab") as file:
        file.write(os.urandom(300))
    last.start()
    (told,) = last.events("write_ahead_log_tail_torn")
    assert told["bytes"] >= 300
    assert_rejoins(network, last)
    last.kill()
    newest = segments(last)[-1]
    os.truncate(newest, newest.stat().st_size - 5)
    last.start()
    assert last.events("write_ahead_log_tail_torn")
    assert_rejoins(network, last)


def test_damage_inside_the_log_is_refused_and_its_advice_works(
    network: RealNetwork, last: RealNode, tmp_path: Path
) -> None:
    last.kill()
    newest = segments(last)[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    said = refusal(last)
    assert said.startswith("1 error: the write-ahead log is damaged: ")
    assert str(newest) in said
    assert f"Move the folder {last.home.write_ahead_log} away" in said
    last.home.write_ahead_log.rename(tmp_path / "wal")
    assert_rejoins(network, last)


def test_a_missing_signer_guard_is_refused_until_it_is_rearmed(
    network: RealNetwork, last: RealNode
) -> None:
    assert last.stop() == 0
    last.home.signer_guard.unlink()
    said = refusal(last)
    assert said.startswith(f"2 error: the signer guard {last.home.signer_guard} is missing")
    assert "omninode keys rearm" in said
    view = network.validators[0].call("omni_getConsensusState")["view"]
    done = last.run("keys", "rearm", "--rpc", network.validators[0].url, "--yes")
    assert done.code == 0, done.stderr
    assert done.document["first_view"] > view
    assert_rejoins(network, last)


def test_a_reset_validator_syncs_from_its_peers_and_votes(
    network: RealNetwork, last: RealNode
) -> None:
    last.kill()
    guard = last.home.signer_guard.read_bytes()
    done = last.run("reset", "--yes")
    assert done.code == 0, done.stderr
    assert not list(last.home.data.iterdir())
    assert last.home.signer_guard.read_bytes() == guard
    assert_rejoins(network, last)
    assert last.block(1)["hash"] == network.validators[0].block(1)["hash"]


def test_the_chain_executes_again_to_the_same_hashes(network: RealNetwork, last: RealNode) -> None:
    assert last.stop() == 0
    done = last.run("replay")
    assert done.code == 0, done.stderr
    assert done.document["mismatch"] is None
    assert done.document["from"] == 1
    assert done.document["blocks"] == done.document["to"] > 10
    assert done.document["transactions"] > 20


def change_balance(node: RealNode, address: str, change: Callable[[int], int]) -> int:
    """Have a stopped node believe in another USDC balance; returns how much more it is."""
    record = keys.STATE + PREFIXES["accounts"] + parse_address(address) + bytes(4)
    with Database.open(node.home.database) as database:
        value = database.get(record) or b""
        free = amount_from_bytes(value[:AMOUNT_BYTES])
        changed = amount_to_bytes(change(free)) + value[AMOUNT_BYTES:]
        database.write_blocking([(record, changed)], sync=True)
    return change(free) - free


def test_a_flipped_bit_of_the_state_is_found_and_located(
    network: RealNetwork, last: RealNode
) -> None:
    trader, other = (Trader(network, key) for key in network.quiet_accounts)
    assert network.genesis.asset_index["USDC"] == 0
    assert last.stop() == 0
    gained = change_balance(last, trader.address, lambda free: free ^ 1)
    said = refusal(last)
    assert said.startswith("1 error: the stored state is damaged: ")
    assert "omninode reset" in said
    # What one account has too much another has too little: no sum tells, but the next trade.
    change_balance(last, other.address, lambda free: free - gained)
    last.start()
    network.wait_in_sync([last])
    height = trader.send(network.validators[0], limit_order("buy", "0.5", "3"))["height"]
    until(lambda: last.status()["halted"], 20, why=network.describe)
    (told,) = until(lambda: last.events("halted"), 20)
    halted = last.status()["halted"]
    assert halted == f"state differs from the network's at height {height} in accounts"
    assert told["why"] == halted
    code, health = last.health()
    assert code == 503
    assert {"reason": "halted", "message": halted} in health["problems"]
    (refused,) = last.call_many("omni_getAccount", [{"address": trader.address}])
    assert refused["error"]["data"]["reason"] == "halted"
    network.wait_blocks(10, network.validators[:3])
    assert last.stop() == 0
    assert last.run("reset", "--yes").code == 0
    assert_rejoins(network, last)
    assert last.status()["halted"] is None


def assert_stops_with_the_reason(node: RealNode, reason: str) -> None:
    assert node.wait_ended(30) == 1, node.log_tail()
    (said,) = [line for line in node.log().splitlines() if line.startswith("error: ")]
    assert reason in said
    assert "start again" in said
    assert "Traceback" not in node.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_stops_the_node_and_room_lets_it_go_on(
    network: RealNetwork, last: RealNode
) -> None:
    assert last.stop() == 0
    with small_disk(last.home.data):
        last.start()
        network.wait_in_sync([last])
        filler = fill(last.home.data)
        assert_stops_with_the_reason(last, "No space left on device")
        said = refusal(last)
        assert "No space left on device" in said
        filler.unlink()
        assert_rejoins(network, last)
        assert last.stop() == 0
    assert_rejoins(network, last)


def test_a_write_that_fails_stops_the_node_and_it_starts_again(
    network: RealNetwork, last: RealNode
) -> None:
    limit = (segments(last)[-1].stat().st_size + 8_192, resource.RLIM_INFINITY)
    resource.prlimit(last.process.pid, resource.RLIMIT_FSIZE, limit)
    assert_stops_with_the_reason(last, "File too large")
    assert_rejoins(network, last)
