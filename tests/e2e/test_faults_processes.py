"""Validators that are killed, stopped and suspended while the network trades."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

from real_network import RealNetwork
from real_trading import Load

pytestmark = pytest.mark.slow

RATE = 60
REJOIN_S = 10
"""Killed, started again, in sync and voting."""

SUSPENDED_S = 30


def test_sigterm_under_load_is_a_clean_stop(network: RealNetwork, seed: int) -> None:
    one = network.validators[0]
    with Load(network, network.validators, rate=RATE, seed=seed) as load:
        load.wait_acknowledged(100)
        assert one.stop() == 0
        assert one.events("node_stopped")
        load.wait_acknowledged(100)
        stopped_at = network.height()
        one.start()
        assert not one.events("write_ahead_log_tail_torn")
        network.wait_in_sync([one])
        network.wait_voting(one, after=stopped_at)
    load.assert_all_final(network.validators)
    network.assert_one_chain()


def test_kill_9_of_one_stops_nothing_and_it_comes_back(network: RealNetwork, seed: int) -> None:
    last, others = network.validators[3], network.validators[:3]
    with Load(network, network.validators, rate=RATE, seed=seed) as load:
        load.wait_acknowledged(100)
        last.kill()
        network.wait_blocks(20, others)
        load.wait_acknowledged(100)
        height, started = network.height(), time.monotonic()
        last.start()
        network.wait_in_sync([last])
        network.wait_voting(last, after=height)
        needed_s = time.monotonic() - started - last.waited_for_processor_s()
    assert needed_s < REJOIN_S
    load.assert_all_final(network.validators)
    network.assert_one_chain()


def test_kill_9_of_all_at_once_loses_nothing(network: RealNetwork, seed: int) -> None:
    with Load(network, network.validators, rate=RATE, seed=seed) as load:
        load.wait_acknowledged(100)
        seen = [(node.status(), node) for node in network.validators]
        for node in network.validators:
            node.signal(signal.SIGKILL)
        for node in network.validators:
            node.process.wait()
        before = len(load.acknowledged)
        network.start()
        load.wait_acknowledged(100)
    assert before >= 100
    network.wait_in_sync(network.validators)
    load.assert_all_final(network.validators)
    network.assert_one_chain()
    for status, node in seen:
        block = node.block(status["height"])
        assert (block["hash"], block["app_hash"]) == (status["block_hash"], status["app_hash"])


def test_a_suspended_validator_stops_nobody_and_recovers(network: RealNetwork, seed: int) -> None:
    second = network.validators[1]
    others = [node for node in network.validators if node is not second]
    with Load(network, others, rate=RATE // 2, seed=seed) as load:
        load.wait_acknowledged(50)
        second.suspend()
        ending = time.monotonic() + SUSPENDED_S
        rounds = 0
        while time.monotonic() < ending:
            load.wait_acknowledged(RATE // 2, within_s=10)
            network.wait_blocks(5, others, within_s=10)
            rounds += 1
        height = network.height()
        second.resume()
        network.wait_in_sync([second])
        network.wait_voting(second, after=height)
    assert rounds > SUSPENDED_S // 6
    load.assert_all_final(network.validators)
    network.assert_one_chain()
    assert second.health()[0] == 200


def test_without_a_quorum_nothing_is_final_and_with_one_all_is(
    network: RealNetwork, seed: int
) -> None:
    alive, dead = network.validators[:2], network.validators[2:]
    with Load(network, network.validators, rate=RATE, seed=seed) as load:
        load.wait_acknowledged(50)
        for node in dead:
            node.kill()
        load.wait_acknowledged(20)  # by now nothing of the dead is on its way any more
        height = network.height()
        load.wait_acknowledged(50)
        assert network.height() == height
        assert {node.call("omni_getConsensusState")["armed"] for node in alive} == {True}
        network.start(dead[:1])
        network.wait_blocks(10, [*alive, dead[0]])
        network.start(dead)
        network.wait_in_sync(dead)
    load.assert_all_final(network.validators)
    network.assert_one_chain()


def test_all_crash_and_one_loses_its_disk(network: RealNetwork, seed: int) -> None:
    lost, others = network.validators[2], network.validators[:2] + network.validators[3:]
    with Load(network, others, rate=RATE, seed=seed) as load:
        load.wait_acknowledged(50)
        for node in network.validators:
            node.signal(signal.SIGKILL)
        for node in network.validators:
            node.process.wait()
        shutil.rmtree(lost.home.data)
        network.start()
        height = network.height()
        load.wait_acknowledged(50)
        network.wait_in_sync(network.validators)
        network.wait_voting(lost, after=height)
    load.assert_all_final(network.validators)
    network.assert_one_chain()
