from __future__ import annotations

from omninode.node.bench.fairness import bench_fairness


def test_a_leader_gains_in_the_open_lane_and_nothing_in_the_sealed_one() -> None:
    found = bench_fairness(2, seed=1)
    assert found["open_leader_usdc_per_block"] > 0
    assert found["open_leader_usdc_per_block"] >= found["open_trader_usdc_per_block"]
    assert found["sealed_leader_usdc_per_block"] == 0
    assert found["sealed_traded_xom_per_block"] > 0
    assert bench_fairness(2, seed=1) == found
