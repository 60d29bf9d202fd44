from __future__ import annotations

import trio
from trio.testing import MockClock

from omninode.node.net.allowance import Allowance


async def test_a_burst_is_free_and_then_the_rate_holds(autojump_clock: MockClock) -> None:
    allowance = Allowance(100, burst=50)
    started = trio.current_time()
    for _ in range(50):
        await allowance.spend()
    assert trio.current_time() == started
    for _ in range(200):
        await allowance.spend()
    assert 1.9 < trio.current_time() - started < 2.1


async def test_what_was_not_used_is_there_later_up_to_the_burst(autojump_clock: MockClock) -> None:
    allowance = Allowance(10, burst=20)
    await allowance.spend(20)
    await trio.sleep(1_000)
    started = trio.current_time()
    await allowance.spend(20)
    assert trio.current_time() == started
    await allowance.spend(5)
    assert 0.4 < trio.current_time() - started < 0.6
