"""The ordered output queue: durable first, then out (PROTOCOL.md P3)."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from omninode.consensus.driver.output import (
    QUICK_SYNC_S,
    SLOW_SYNCS_MAX,
    THREAD_SYNCS,
    Outgoing,
    Output,
    OutputQueue,
)
from omninode.consensus.messages import NeedMessage
from omninode.consensus.records import WalRecord
from omninode.consensus.types import Vote
from omninode.errors import StorageFault


class SlowLog:
    """A vote log whose sync blocks its thread until the test lets it go."""

    def __init__(self) -> None:
        self.syncs_begun = 0
        self.may_finish = threading.Semaphore(0)

    def append(self, record: WalRecord) -> None:
        raise AssertionError

    def guard(self, vote: Vote) -> None:
        raise AssertionError

    def floor_view(self, epoch: int) -> int:
        raise AssertionError

    def sync(self) -> None:
        self.syncs_begun += 1
        assert self.may_finish.acquire(timeout=10)


def message(number: int) -> Outgoing:
    return Outgoing(None, NeedMessage(number, number))


async def begun(log: SlowLog, count: int) -> None:
    with trio.fail_after(10):
        while log.syncs_begun < count:
            await trio.testing.wait_all_tasks_blocked(0.001)


async def emitted_all(emitted: list[Output], count: int) -> None:
    with trio.fail_after(10):
        while len(emitted) < count:
            await trio.testing.wait_all_tasks_blocked(0.001)


async def test_without_records_outputs_leave_at_once_in_order(nursery: trio.Nursery) -> None:
    emitted: list[Output] = []
    queue = OutputQueue(SlowLog(), emitted.append)
    nursery.start_soon(queue.run)
    for number in range(3):
        queue.push(message(number))
    queue.flush()
    assert emitted == [message(0), message(1), message(2)]


async def test_outputs_wait_for_the_sync_of_earlier_records(nursery: trio.Nursery) -> None:
    emitted: list[Output] = []
    log = SlowLog()
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    queue.written()
    queue.push(message(1))
    queue.flush()
    await begun(log, 1)
    assert emitted == []
    log.may_finish.release()
    await emitted_all(emitted, 1)


async def test_what_comes_during_a_sync_waits_for_the_next_one(nursery: trio.Nursery) -> None:
    emitted: list[Output] = []
    log = SlowLog()
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    queue.written()
    queue.push(message(1))
    queue.flush()
    await begun(log, 1)
    queue.written()
    queue.push(message(2))
    queue.flush()
    queue.written()
    queue.push(message(3))
    queue.flush()
    log.may_finish.release()
    await begun(log, 2)
    assert emitted == [message(1)]
    log.may_finish.release()
    await emitted_all(emitted, 3)
    assert emitted == [message(1), message(2), message(3)]
    assert log.syncs_begun == 2  # group commit: two records, one sync


async def test_an_output_without_a_record_never_overtakes(nursery: trio.Nursery) -> None:
    emitted: list[Output] = []
    log = SlowLog()
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    queue.written()
    queue.push(message(1))
    queue.flush()
    queue.push(message(2))
    queue.flush()
    await begun(log, 1)
    assert emitted == []
    log.may_finish.release()
    await emitted_all(emitted, 2)
    assert emitted == [message(1), message(2)]


class TimedLog:
    """A vote log that notes where it is synced, as slowly as the test wants, on its own clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.takes_s = 0.0
        self.now_s = 0.0
        clock = SimpleNamespace(perf_counter=lambda: self.now_s)
        monkeypatch.setattr("omninode.consensus.driver.output.time", clock)
        self.in_loop: list[bool] = []
        self.fault: StorageFault | None = None

    def append(self, record: WalRecord) -> None:
        raise AssertionError

    def guard(self, vote: Vote) -> None:
        raise AssertionError

    def sync(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.in_loop.append(threading.current_thread() is threading.main_thread())
        self.now_s += self.takes_s


async def synced(
    queue: OutputQueue, log: TimedLog, emitted: list[Output], count: int
) -> list[bool]:
    """Sync so many times one after the other; returns which of them ran in the event loop."""
    log.in_loop.clear()
    for _ in range(count):
        before = len(emitted)
        queue.written()
        queue.push(message(1))
        queue.flush()
        await emitted_all(emitted, before + 1)
        await trio.testing.wait_all_tasks_blocked()
    return list(log.in_loop)


async def test_a_quick_disk_is_synced_without_a_thread_after_a_while(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[Output] = []
    log = TimedLog(monkeypatch)
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    assert await synced(queue, log, emitted, THREAD_SYNCS) == [False] * THREAD_SYNCS
    assert await synced(queue, log, emitted, 20) == [True] * 20


async def test_a_slow_disk_is_tried_once_in_a_while_only(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[Output] = []
    log = TimedLog(monkeypatch)
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    await synced(queue, log, emitted, THREAD_SYNCS)
    log.takes_s = 2 * QUICK_SYNC_S
    where = await synced(queue, log, emitted, 2 * THREAD_SYNCS + 2)
    assert where == [True, *[False] * THREAD_SYNCS] * 2


async def test_a_disk_that_becomes_slow_is_left_to_the_thread(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[Output] = []
    log = TimedLog(monkeypatch)
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    await synced(queue, log, emitted, THREAD_SYNCS + 20)
    log.takes_s = 2 * QUICK_SYNC_S
    where = await synced(queue, log, emitted, SLOW_SYNCS_MAX + 5)
    assert where == [True] * SLOW_SYNCS_MAX + [False] * 5


async def test_outputs_leave_in_order_and_after_the_sync_without_a_thread(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[Output] = []
    log = TimedLog(monkeypatch)
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    await synced(queue, log, emitted, THREAD_SYNCS)
    emitted.clear()
    log.in_loop.clear()
    queue.push(message(1))
    queue.written()
    queue.push(message(2))
    queue.flush()
    queue.push(message(3))
    queue.flush()
    assert emitted == [message(1), message(2), message(3)]
    assert log.in_loop == [True]


async def test_a_fault_without_a_thread_lets_nothing_out(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[Output] = []
    log = TimedLog(monkeypatch)
    queue = OutputQueue(log, emitted.append)
    nursery.start_soon(queue.run)
    await synced(queue, log, emitted, THREAD_SYNCS)
    emitted.clear()
    log.fault = StorageFault("the disk is full")
    queue.written()
    queue.push(message(1))
    for _ in range(3):
        with pytest.raises(StorageFault):
            queue.flush()
        queue.push(message(2))
    assert emitted == []
