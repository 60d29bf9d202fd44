"""What a validator asks the chain for itself, told from what it passes on, of real metrics."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from omninode.contracts.ports import Call
from omninode.node.bench.endpoint_calls import own_calls
from omninode.node.bench.settlement import per_block
from omninode.node.metrics import Metrics


def shown(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def ask(metrics: Metrics, method: str, outcome: str = "ok", *, endpoint: str = "http://a") -> None:
    metrics.endpoint_called(Call(endpoint, method, outcome))


def test_calls_of_all_endpoints_and_outcomes_count() -> None:
    metrics = Metrics()
    for endpoint in ("http://a", "http://b"):
        for outcome in ("ok", "error", "failed"):
            ask(metrics, "eth_getLogs", outcome, endpoint=endpoint)
    ask(metrics, "eth_chainId")
    assert own_calls(shown(metrics)) == {"eth_getLogs": 6, "eth_chainId": 1}


def test_what_is_passed_on_does_not_count() -> None:
    metrics = Metrics()
    for _ in range(5):
        ask(metrics, "eth_call")
    metrics.called("eth_call", reason="ok", seconds=0.1)
    metrics.called("eth_call", reason="execution_reverted", seconds=0.1)
    assert own_calls(shown(metrics)) == {"eth_call": 3}


@pytest.mark.parametrize("reason", ["settlement_off", "busy"])
def test_what_was_refused_here_was_not_passed_on(reason: str) -> None:
    metrics = Metrics()
    ask(metrics, "eth_call")
    metrics.called("eth_call", reason=reason, seconds=0.1)
    assert own_calls(shown(metrics)) == {"eth_call": 1}


def test_calls_of_the_node_itself_are_no_calls_of_the_chain() -> None:
    metrics = Metrics()
    metrics.called("omni_status", reason="ok", seconds=0.1)
    metrics.called("eth_accounts", reason="ok", seconds=0.1)
    ask(metrics, "eth_getLogs")
    assert own_calls(shown(metrics)) == {"eth_getLogs": 1}


def test_shares_of_blocks_are_ordered_by_frequency() -> None:
    found = per_block({"eth_chainId": 2, "eth_getLogs": 8, "eth_call": 8}, 8)
    assert found["all"] == 2.25
    assert list(found["methods"].items()) == [
        ("eth_call", 1.0),
        ("eth_getLogs", 1.0),
        ("eth_chainId", 0.25),
    ]


def test_without_a_block_there_are_no_shares() -> None:
    assert per_block({"eth_chainId": 2}, 0) == {"all": None, "methods": {}}
