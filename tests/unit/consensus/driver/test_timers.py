"""Timers on a virtual clock."""

from __future__ import annotations

import trio
import trio.testing

from omninode.consensus.driver.timers import Timers
from omninode.consensus.messages import TimerId, TimerKind


def leader(view: int) -> TimerId:
    return TimerId(TimerKind.LEADER, view)


async def test_timers_fire_in_order_of_their_deadlines(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fired: list[tuple[TimerId, float]] = []
    timers = Timers(lambda timer: fired.append((timer, trio.current_time())))
    start = trio.current_time()
    nursery.start_soon(timers.run)
    timers.set(leader(1), 300)
    timers.set(leader(2), 100)
    timers.set(leader(3), 200)
    await trio.sleep(1)
    assert [timer.view for timer, _ in fired] == [2, 3, 1]
    assert [round(at - start, 3) for _, at in fired] == [0.1, 0.2, 0.3]


async def test_setting_a_timer_again_replaces_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fired: list[float] = []
    timers = Timers(lambda _: fired.append(trio.current_time()))
    start = trio.current_time()
    nursery.start_soon(timers.run)
    timers.set(leader(1), 100)
    await trio.sleep(0.05)
    timers.set(leader(1), 100)
    await trio.sleep(1)
    assert [round(at - start, 3) for at in fired] == [0.15]


async def test_a_timer_that_sets_itself_again_keeps_firing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fired: list[float] = []

    def fire(timer: TimerId) -> None:
        fired.append(trio.current_time())
        timers.set(timer, 100)

    timers = Timers(fire)
    nursery.start_soon(timers.run)
    timers.set(leader(1), 100)
    await trio.sleep(1.05)
    assert len(fired) == 10


async def test_timers_of_past_views_are_forgotten(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fired: list[int] = []
    timers = Timers(lambda timer: fired.append(timer.view))
    nursery.start_soon(timers.run)
    timers.set(leader(1), 100)
    timers.set(leader(2), 100)
    timers.forget_before(2)
    await trio.sleep(1)
    assert fired == [2]


async def test_deadlines_centuries_ahead_do_not_pile_up(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A leader chooses its block's time, and with it when we look at the block again."""
    timers = Timers(lambda _: None)
    nursery.start_soon(timers.run)
    for view in range(5_000):
        timers.set(TimerId(TimerKind.CLOCK, view), 2**63)
        timers.set(leader(view), 100)
        timers.forget_before(view)
        await trio.sleep(0.001)
    assert len(timers) < 600


async def test_a_sweep_keeps_what_is_set(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fired: list[int] = []
    timers = Timers(lambda timer: fired.append(timer.view))
    for delay_ms in range(1_000, 2_000):
        timers.set(leader(7), delay_ms)
    timers.set(leader(8), 500)
    timers.forget_before(7)
    assert len(timers) == 2
    nursery.start_soon(timers.run)
    await trio.sleep(3)
    assert fired == [8, 7]
