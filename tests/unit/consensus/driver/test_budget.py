"""Credits of peers on a virtual clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from omninode.consensus.driver.budget import Budget
from omninode.consensus.driver.limits import BUDGET_PEERS_MAX


async def test_a_burst_is_free_and_what_is_beyond_it_waits(autojump_clock: MockClock) -> None:
    budget = Budget(per_second=100, burst=50)
    assert budget.spend("a", 50) == 0
    assert budget.is_empty("a")
    assert budget.spend("a", 30) == 0.3
    assert budget.spend("b", 1) == 0
    assert not budget.is_empty("b")


async def test_credit_comes_back_with_time_up_to_the_burst(autojump_clock: MockClock) -> None:
    budget = Budget(per_second=100, burst=50)
    assert budget.spend("a", 100) == 0.5
    await trio.sleep(0.6)
    assert not budget.is_empty("a")
    assert budget.spend("a", 20) == 0.1
    await trio.sleep(1_000)
    assert budget.spend("a", 50) == 0
    assert budget.spend("a", 1) > 0


async def test_the_table_is_bounded_and_keeps_who_spends(autojump_clock: MockClock) -> None:
    budget = Budget(per_second=1, burst=10)
    for number in range(3 * BUDGET_PEERS_MAX):
        budget.spend(f"stranger{number}", 1)
        budget.spend("greedy", 1)
    assert len(budget._spent) <= BUDGET_PEERS_MAX
    assert budget.is_empty("greedy")
