"""What a node counts and measures."""

from __future__ import annotations

import re

from prometheus_client import generate_latest

from omninode.node.metrics import Metrics


def test_names_say_subsystem_and_unit() -> None:
    metrics = Metrics()
    names = {family.name for family in metrics.registry.collect()}
    ours = {name for name in names if not name.startswith("process_")}
    assert ours
    for name in ours:
        assert re.fullmatch(r"omninode_(build|consensus|dex|rpc|settlement)(_[a-z]+)*", name), name


def test_calls_are_counted_by_outcome_and_timed() -> None:
    metrics = Metrics()
    metrics.called("omni_status", reason="ok", seconds=0.002)
    metrics.called("omni_status", reason="busy", seconds=0.002)
    text = generate_latest(metrics.registry).decode()
    assert 'omninode_rpc_requests_total{method="omni_status",reason="busy"} 1.0' in text
    assert 'omninode_rpc_request_duration_seconds_count{method="omni_status"} 2.0' in text


def test_two_nodes_of_a_process_do_not_share() -> None:
    one, other = Metrics(), Metrics()
    one.slow_client_closed()
    assert one.registry.get_sample_value("omninode_rpc_slow_clients_closed_total") == 1
    assert other.registry.get_sample_value("omninode_rpc_slow_clients_closed_total") == 0


def test_a_watched_value_is_read_when_asked_for() -> None:
    metrics = Metrics()
    values = iter((1.0, 2.0))
    metrics.watch("omninode_p2p_peers", "Connected peers", lambda: next(values))
    assert metrics.registry.get_sample_value("omninode_p2p_peers") == 1
    assert metrics.registry.get_sample_value("omninode_p2p_peers") == 2
