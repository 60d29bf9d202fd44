"""When a node is fit to serve."""

from __future__ import annotations

from typing import Any

import pytest

from omninode.node.health import STALL_MS_MIN, judge_health

FIT: dict[str, Any] = {
    "height": 7,
    "halted": None,
    "catching_up": False,
    "since_commit_ms": 100,
    "idle_block_interval_ms": 2_000,
}


def test_a_node_in_sync_that_commits_is_healthy() -> None:
    health = judge_health(**FIT)
    assert health.healthy
    assert health.height == 7
    assert health.problems == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"halted": "app hash differs at height 6"}, "halted"),
        ({"catching_up": True}, "catching_up"),
        ({"since_commit_ms": STALL_MS_MIN + 1}, "not_committing"),
    ],
)
def test_each_problem_makes_it_unhealthy_and_has_a_reason(
    change: dict[str, Any], reason: str
) -> None:
    health = judge_health(**{**FIT, **change})
    assert not health.healthy
    assert [problem.reason for problem in health.problems] == [reason]
    assert health.problems[0].message


def test_a_network_that_rests_long_between_blocks_is_not_stalled() -> None:
    resting = {**FIT, "idle_block_interval_ms": 60_000, "since_commit_ms": 120_000}
    assert judge_health(**resting).healthy
