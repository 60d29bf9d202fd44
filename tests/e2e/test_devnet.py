"""A devnet as a user runs it: real processes, real sockets, killed, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from real_devnet import BASE_PORT, Devnet, processes_of, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("long") / "devnet", base_port=BASE_PORT)
    yield running.ready()
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_urls_and_accounts_are_shown_and_written(devnet: Devnet) -> None:
    document = json.loads((devnet.home / "devnet.json").read_text())
    shown = devnet.shown()
    for node in document["nodes"]:
        assert node["rpc"] in shown
    assert document["accounts"]["alice"] in shown
    assert document["chain"]["url"] in shown
    assert document["chain"]["settlement"] in shown
    assert len(devnet.rpc(0, "omni_getValidators")["validators"]) == 4


def test_an_order_through_one_validator_fills_against_one_through_another(devnet: Devnet) -> None:
    ports = [devnet.base_port + 10 * node + 1 for node in (1, 3)]
    place = ("order", "place", "--market", "XOM-USDC", "--size", "10", "--price", "1")
    sell = devnet.omninode(
        *place, "--side", "sell", "--from", "alice", "--rpc", f"http://127.0.0.1:{ports[0]}"
    )
    assert sell["state"] == "open"
    buy = devnet.omninode(
        *place, "--side", "buy", "--from", "bob", "--rpc", f"http://127.0.0.1:{ports[1]}"
    )
    assert buy["state"] == "filled"
    order = wait_for(
        lambda: (
            found
            if (found := devnet.rpc(2, "omni_getOrder", order_id=sell["order_id"]))["state"]
            == "filled"
            else None
        ),
        seconds=10,
        why="a third validator shows the fill",
    )
    assert order["filled"] == "10"


def test_the_house_quotes_and_leaves_the_middle_free(devnet: Devnet) -> None:
    book = devnet.rpc(1, "omni_getOrderBook", market="XOM-USDC", depth=1)
    assert book["bids"][0][0] == "0.99"
    assert book["asks"][0][0] == "1.01"
    eth = devnet.rpc(2, "omni_getOrderBook", market="ETH-USDC", depth=1)
    assert float(eth["bids"][0][0]) < 3000 < float(eth["asks"][0][0])


def test_books_are_the_same_at_the_same_height(devnet: Devnet) -> None:
    """Asked from outside while blocks go on: compared where two answers are of one height."""
    books: dict[int, dict[int, Any]] = {}

    def some_height_of_all() -> bool:
        for node in range(4):
            book = devnet.rpc(node, "omni_getOrderBook", market="BTC-USDC", depth=1_000)
            books.setdefault(book["height"], {})[node] = (book["bids"], book["asks"])
        return any(len(answers) == 4 for answers in books.values())

    wait_for(some_height_of_all, seconds=60, why="all four answer for one height")
    for height, answers in books.items():
        first = next(iter(answers.values()))
        assert all(answer == first for answer in answers.values()), height


def test_a_second_devnet_on_the_same_folder_is_refused(devnet: Devnet) -> None:
    second = Devnet(devnet.home, "--json", base_port=devnet.base_port)
    assert second.process.wait(timeout=30) == 1
    assert json.loads(second.out.read_text())["error"]["reason"] == "home_locked"


def test_a_killed_validator_stops_nothing_and_comes_back(devnet: Devnet) -> None:
    victim = devnet.process_of(2)
    assert victim is not None
    before = devnet.height(0)
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: min(devnet.height(node) for node in (0, 1, 3)) > before + 20,
        seconds=20,
        why="the others make blocks",
    )
    wait_for(
        lambda: devnet.process_of(2) not in (None, victim), seconds=20, why="it is started again"
    )
    wait_for(lambda: devnet.height(2) > 0, seconds=60, why="it answers")
    # The ten seconds begin when it runs: loading the program measures who else uses the machine.
    restarted = time.monotonic()

    def is_in_sync_and_voting() -> bool:
        in_sync = devnet.height(2) >= devnet.height(0) - 5
        votes = devnet.rpc(0, "omni_getConsensusState")["votes"]
        return in_sync and any(row["moniker"] == "node2" and row["votes"] for row in votes)

    wait_for(is_in_sync_and_voting, seconds=40, why="it is in sync and votes")
    took = time.monotonic() - restarted
    assert took < 10, f"in sync and voting after {took:.1f} s"


@pytest.mark.parametrize("seconds", [4])
def test_a_frozen_validator_stops_nothing_and_recovers(devnet: Devnet, seconds: float) -> None:
    victim = devnet.process_of(1)
    assert victim is not None
    before = devnet.height(0)
    os.kill(victim, signal.SIGSTOP)
    try:
        thawed = time.monotonic() + seconds
        wait_for(
            lambda: time.monotonic() > thawed and devnet.height(0) > before + 10,
            seconds=seconds + 20,
            why="the others make blocks",
        )
    finally:
        os.kill(victim, signal.SIGCONT)
    wait_for(lambda: devnet.height(1) >= devnet.height(0) - 5, seconds=20, why="it has caught up")
    assert devnet.process_of(1) == victim


def test_ctrl_c_leaves_no_process_behind(devnet: Devnet) -> None:
    assert len(processes_of(devnet.home)) == 6  # itself, the chain, four validators
    assert devnet.stop() == 0, devnet.shown()
    assert processes_of(devnet.home) == {}
    assert "Traceback" not in devnet.shown()


def test_started_again_it_goes_on_and_ends_with_one_document(devnet: Devnet) -> None:
    """For the time of `--for`, with SIGINT and SIGTERM inherited as ignored."""
    blocks = int(json.loads((devnet.home / "devnet.json").read_text())["base_port"])
    assert blocks == devnet.base_port
    again = Devnet(devnet.home, "--for", "5", "--json", base_port=devnet.base_port, ignore=True)
    assert again.process.wait(timeout=100) == 0, again.shown()
    assert "going on with what is in" in again.err.read_text()
    document = json.loads(again.out.read_text())
    assert set(document) == {
        "ok",
        "seconds",
        "height",
        "validators",
        "compared_height",
        "orders",
        "trades",
        "finality_ms",
        "orders_per_second",
        "deposits",
        "withdrawals",
        "checkpoints",
        "supply_equal",
    }
    assert document["ok"] is True
    assert document["height"] > 100
    orders = document["orders"]
    assert orders["lost"] == orders["refused"] == 0
    assert orders["sent"] == orders["acknowledged"] == orders["final"] > 100
    assert document["trades"] > 0
    assert document["deposits"] > 0
    assert document["withdrawals"] > 0
    assert document["checkpoints"] > 0
    assert document["supply_equal"] is True
    assert 0 < document["finality_ms"]["p50"] <= document["finality_ms"]["p99"]
    hashes = {validator["app_hash"] for validator in document["validators"]}
    assert len(hashes) == 1
    assert all(validator["rss_mb"] > 10 for validator in document["validators"])
    assert processes_of(devnet.home) == {}


def test_a_stop_signal_counts_also_when_it_was_inherited_as_ignored(devnet: Devnet) -> None:
    again = Devnet(devnet.home, base_port=devnet.base_port, ignore=True).ready()
    assert again.stop(signal.SIGTERM) == 0, again.shown()
    assert processes_of(devnet.home) == {}


def test_a_second_stop_signal_ends_the_wait_for_what_can_not_become_final(devnet: Devnet) -> None:
    """Two of four validators are frozen: nothing is final any more, and half do not answer."""
    again = Devnet(devnet.home, base_port=devnet.base_port).ready()
    victims = [again.process_of(node) for node in (1, 2)]
    for victim in victims:
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
    before = len(again.shown())
    wait_for(
        lambda: again.shown()[before:].count(", 0 orders/s, ") >= 2,
        seconds=60,
        why="there are orders that can not become final",
    )
    again.process.send_signal(signal.SIGINT)
    wait_for(lambda: "Ctrl-C again stops now" in again.shown(), seconds=30, why="it says so")
    assert again.stop() == 0, again.shown()
    # It went from waiting for orders to the end, past what comes between.
    assert "comparing the validators" not in again.shown()
    assert "stopping the validators" in again.shown()
    assert "was killed" not in again.shown()
    assert processes_of(devnet.home) == {}


def test_a_killed_devnet_takes_its_validators_with_it(devnet: Devnet) -> None:
    again = Devnet(devnet.home, base_port=devnet.base_port)
    wait_for(
        lambda: len(processes_of(devnet.home)) == 6, seconds=30, why="all processes are started"
    )
    again.process.kill()
    again.process.wait()
    wait_for(lambda: not processes_of(devnet.home), seconds=10, why="all are gone")


def test_a_validator_that_can_not_start_fails_the_devnet_with_its_words(devnet: Devnet) -> None:
    (devnet.home / "node3" / "signer_guard").unlink()
    again = Devnet(devnet.home, "--json", base_port=devnet.base_port)
    assert again.process.wait(timeout=60) == 1
    assert json.loads(again.out.read_text())["error"]["reason"] == "node_failed"
    assert "signer_guard" in again.err.read_text()
    assert processes_of(devnet.home) == {}
