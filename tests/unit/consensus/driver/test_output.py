"""The ordered output queue: durable first, then out (PROTOCOL.md P3)."""

from __future__ import annotations

import threading

import trio
import trio.testing

from omninode.consensus.driver.output import Output, OutputQueue
from omninode.consensus.effects import Send
from omninode.consensus.messages import NeedMessage
from omninode.consensus.records import WalRecord
from omninode.consensus.types import Vote


class SlowLog:
    """A vote log whose sync blocks its thread until the test lets it go."""

    def __init__(self) -> None:
        self.syncs_begun = 0
        self.may_finish = threading.Semaphore(0)

    def append(self, record: WalRecord) -> None:
        raise AssertionError

    def guard(self, vote: Vote) -> None:
        raise AssertionError

    def sync(self) -> None:
        self.syncs_begun += 1
        assert self.may_finish.acquire(timeout=10)


def message(number: int) -> Send:
    return Send(None, NeedMessage(number, number))


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
