"""The histogram of latencies against exact quantiles."""

from __future__ import annotations

import random

import pytest

from omninode.node.devnet.latency import Latencies


def test_without_any_there_is_no_quantile() -> None:
    assert Latencies().quantile(0.5) is None


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_quantile_is_right_to_one_percent(rng: random.Random, share: float) -> None:
    values = [rng.lognormvariate(3.5, 0.8) for _ in range(5_000)]
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[int(len(values) * share) - 1]
    assert latencies.quantile(share) == pytest.approx(exact, rel=0.012, abs=0.06)
    assert latencies.count == 5_000


def test_zero_and_hours_fit() -> None:
    latencies = Latencies()
    latencies.add(0.0)
    latencies.add(3_600_000.0)
    assert latencies.quantile(0.5) == 0.0
    assert latencies.quantile(1.0) == pytest.approx(3_600_000.0, rel=0.01)
