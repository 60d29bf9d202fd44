"""The bounded queue of one WebSocket: order, numbers, merging, slowness."""

from __future__ import annotations

import json
from typing import Any

import trio
import trio.testing

from omninode.node.rpc.limits import (
    OUTBOX_BYTES_MAX,
    OUTBOX_FAIR_BYTES,
    OUTBOX_MESSAGES_MAX,
    OUTBOXES_BYTES_MAX,
)
from omninode.node.rpc.outbox import BookUpdate, Budget, Outbox, Stream


async def taken(outbox: Outbox) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await outbox.take())
    return message


async def test_responses_and_events_leave_in_order_and_events_are_numbered() -> None:
    outbox, stream = Outbox(Budget()), Stream("0x1")
    outbox.put(b'"first"')
    assert outbox.put_event(stream, b'"channel":"blocks","height":1')
    outbox.put(b'"second"')
    assert outbox.put_event(stream, b'"channel":"blocks","height":2')
    assert await outbox.take() == b'"first"'
    assert (await taken(outbox))["params"] == {
        "subscription": "0x1",
        "sequence": 1,
        "channel": "blocks",
        "height": 1,
    }
    assert await outbox.take() == b'"second"'
    assert (await taken(outbox))["params"]["sequence"] == 2


async def test_waiting_book_updates_merge_to_the_newest_size_of_each_level() -> None:
    outbox, stream, other = Outbox(Budget()), Stream("0x1"), Stream("0x2")
    assert outbox.put_book(stream, BookUpdate("A-B", 5, {"10": "1", "9": "2"}, {}))
    outbox.put(b'"between"')
    assert outbox.put_book(other, BookUpdate("A-B", 5, {"10": "1"}, {}))
    assert outbox.put_book(stream, BookUpdate("A-B", 7, {"10": "0"}, {"11": "3"}))
    merged = (await taken(outbox))["params"]
    assert merged["height"] == 7
    assert dict(merged["bids"]) == {"10": "0", "9": "2"}
    assert dict(merged["asks"]) == {"11": "3"}
    assert merged["sequence"] == 1
    assert await outbox.take() == b'"between"'
    assert (await taken(outbox))["params"]["height"] == 5
    assert outbox.put_book(stream, BookUpdate("A-B", 8, {}, {"11": "0"}))
    assert (await taken(outbox))["params"]["sequence"] == 2


async def test_a_merge_leaves_the_publisher_s_update_alone() -> None:
    outbox, one, two = Outbox(Budget()), Stream("0x1"), Stream("0x2")
    update = BookUpdate("A-B", 5, {"10": "1"}, {})
    outbox.put_book(one, update)
    outbox.put_book(two, update)
    outbox.put_book(one, BookUpdate("A-B", 6, {"10": "9"}, {}))
    await outbox.take()
    assert dict((await taken(outbox))["params"]["bids"]) == {"10": "1"}


async def test_too_many_messages_make_a_client_slow() -> None:
    outbox, stream = Outbox(Budget()), Stream("0x1")
    for _ in range(OUTBOX_MESSAGES_MAX):
        assert outbox.put_event(stream, b'"a":1')
    assert not outbox.put_event(stream, b'"a":1')
    await outbox.take()
    assert outbox.put_event(stream, b'"a":1')


async def test_a_full_outbox_still_merges_a_book() -> None:
    outbox, stream, book = Outbox(Budget()), Stream("0x1"), Stream("0x2")
    assert outbox.put_book(book, BookUpdate("A-B", 1, {"1": "1"}, {}))
    while outbox.put_event(stream, b'"a":1'):
        pass
    assert outbox.put_book(book, BookUpdate("A-B", 2, {"1": "2"}, {}))


async def test_too_many_bytes_make_a_client_slow() -> None:
    outbox, stream = Outbox(Budget()), Stream("0x1")
    assert outbox.put_event(stream, b"x" * OUTBOX_BYTES_MAX)
    assert not outbox.put_event(stream, b'"a":1')


async def test_when_all_together_have_too_much_only_the_modest_may_put() -> None:
    budget = Budget()
    budget.used = OUTBOXES_BYTES_MAX
    outbox, stream = Outbox(budget), Stream("0x1")
    assert outbox.put_event(stream, b"x" * OUTBOX_FAIR_BYTES)
    assert not outbox.put_event(stream, b"x")
    outbox.close()
    assert budget.used == OUTBOXES_BYTES_MAX


async def test_the_shared_budget_is_given_back() -> None:
    budget = Budget()
    outbox, stream = Outbox(budget), Stream("0x1")
    outbox.put(b"12345")
    outbox.put_book(stream, BookUpdate("A-B", 1, {"1": "1"}, {}))
    outbox.put_book(stream, BookUpdate("A-B", 2, {"2": "1"}, {}))
    assert budget.used > 0
    await outbox.take()
    await outbox.take()
    assert budget.used == 0


async def test_a_taker_waits_for_a_message_and_a_reader_for_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    outbox = Outbox(Budget())
    got: list[bytes] = []

    async def take_one() -> None:
        got.append(await outbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_one)
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        outbox.put(b"1")
    assert got == [b"1"]
    for _ in range(OUTBOX_MESSAGES_MAX):
        outbox.put(b"1")
    with trio.move_on_after(1) as scope:
        await outbox.has_room()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.has_room)
        await trio.testing.wait_all_tasks_blocked()
        await outbox.take()


async def test_nothing_more_of_an_ended_subscription_is_sent() -> None:
    outbox, stream = Outbox(Budget()), Stream("0x1")
    outbox.put_event(stream, b'"a":1')
    stream.ended = True
    outbox.put(b'"next"')
    assert await outbox.take() == b'"next"'
