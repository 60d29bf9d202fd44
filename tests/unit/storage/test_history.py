"""Histories come in pages, newest first, and hold what was final."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from omninode.dex.events import OrderRejected
from omninode.errors import BrokenInvariant
from omninode.storage import rows as rows_module
from omninode.storage.limits import PAGE_SCANNED_MAX
from omninode.storage.rows import Page


def pages(read: Callable[..., Page], limit: int) -> list[Any]:
    """Read all pages, none of them longer than the limit."""
    found: list[Any] = []
    before = None
    while True:
        page = read(limit=limit, before=before)
        assert len(page.rows) <= limit
        found += page.rows
        before = page.next
        if before is None:
            return found


@pytest.fixture
async def store(
    open_store: Callable, maker: SimpleNamespace, world: SimpleNamespace
) -> SimpleNamespace:
    """Twenty blocks; block h has trades 2h-1 and 2h between alice and bob, and one order closed."""
    opened = open_store()
    await opened.chain.begin(world.genesis, world.genesis.app_hash, [])
    for height in range(1, 21):
        events = (
            world.trade(2 * height - 1),
            world.filled(height, state="partially_filled"),
            world.trade(2 * height, maker=world.bob, taker=world.alice),
            world.filled(height),
        )
        raws = world.transaction(world.alice, height), world.transaction(world.bob, height)
        await opened.chain.commit(maker.block(*raws, events=events))
    return open_store()


async def test_trades_page_backwards(store: SimpleNamespace, world: SimpleNamespace) -> None:
    first = store.history.trades(world.market, limit=15)
    assert [each.trade.sequence for each in first] == [*range(40, 25, -1)]
    assert (first[0].height, first[0].time_ms) == (20, 21_000)
    second = store.history.trades(world.market, limit=100, before=26)
    assert [each.trade.sequence for each in second] == [*range(25, 0, -1)]
    assert store.history.trades("BTC", limit=5) == []
    assert store.history.trades("BTC-USDC-PERP", limit=5) == []


async def test_fills_show_both_sides(store: SimpleNamespace, world: SimpleNamespace) -> None:
    every = store.history.fills(world.alice, limit=1_000).rows
    assert [row.stored.trade.sequence for row in every] == [*range(40, 0, -1)]
    assert [row.is_taker for row in every] == [True, False] * 20
    for size in (1, 7):
        assert pages(lambda **page: store.history.fills(world.alice, **page), size) == every
    assert store.history.fills(b"\0" * 20, limit=10) == Page([], None)


async def test_fills_of_one_subaccount(
    store: SimpleNamespace,
    maker: SimpleNamespace,
    world: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each side of a trade counts for its own subaccount, whatever else lies between."""
    for sequence in range(41, 53):
        mixed = msgspec.structs.replace(
            world.trade(sequence, maker=world.alice, taker=world.alice),
            maker_subaccount=5 if sequence % 3 == 0 else 1,
            taker_subaccount=0 if sequence % 4 == 0 else 5,
        )
        await store.chain.commit(maker.block(events=(mixed,)))
    every = store.history.fills(world.alice, limit=1_000).rows
    for scanned_max in (1, 3, PAGE_SCANNED_MAX):
        monkeypatch.setattr(rows_module, "PAGE_SCANNED_MAX", scanned_max)
        for subaccount in (0, 1, 5, 6):

            def read(number: int = subaccount, **page: Any) -> Page:
                return store.history.fills(world.alice, subaccount=number, **page)

            wanted = [row for row in every if row.subaccount == subaccount]
            assert bool(wanted) == (subaccount != 6)
            for size in (1, 4, 1_000):
                assert pages(read, size) == wanted


async def test_what_one_page_looks_through_is_bounded(
    store: SimpleNamespace, world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "PAGE_SCANNED_MAX", 7)
    page = store.history.fills(world.alice, limit=1, subaccount=9)
    assert page == Page([], store.history.fills(world.alice, limit=7).rows[-1].position)


async def test_a_trade_with_oneself_is_two_fills(
    store: SimpleNamespace, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    own = world.trade(41, maker=world.alice, taker=world.alice)
    await store.chain.commit(maker.block(events=(own,)))
    taken, made = store.history.fills(world.alice, limit=2).rows
    assert taken.stored == made.stored
    assert (taken.is_taker, made.is_taker) == (True, False)
    assert store.history.fills(world.alice, limit=1, before=taken.position).rows == [made]


async def test_transactions_page_backwards(store: SimpleNamespace, world: SimpleNamespace) -> None:
    every = store.history.transactions(world.bob, limit=1_000)
    assert [row.height for row in every] == [*range(20, 0, -1)]
    assert all(row.raw == world.transaction(world.bob, row.height) for row in every)
    assert all(row.index == 1 for row in every)
    later = store.history.transactions(world.bob, limit=3, before=(every[4].height, every[4].index))
    assert later == every[5:8]


async def test_closed_orders_by_id(store: SimpleNamespace, world: SimpleNamespace) -> None:
    closed = store.history.closed_order(world.order_id(7))
    assert (closed.height, closed.outcome) == (7, world.filled(7))
    assert store.history.closed_order(world.order_id(99)) is None


async def test_rejected_orders_by_id(
    store: SimpleNamespace, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    refused = OrderRejected(
        world.order_id(500), world.alice, 0, world.market, "buy", "limit", "gtc", False,
        "mine", "1", "2", "insufficient_balance",
    )  # fmt: skip
    await store.chain.commit(maker.block(events=(refused,)))
    assert store.history.closed_order(world.order_id(500)).outcome == refused


async def test_a_page_is_bounded(store: SimpleNamespace, world: SimpleNamespace) -> None:
    with pytest.raises(BrokenInvariant):
        store.history.trades(world.market, limit=1_001)


async def test_levels_are_not_stored(store: SimpleNamespace) -> None:
    kinds = [type(event).__name__ for event in store.chain.events(1)]
    assert kinds == ["Trade", "OrderUpdated", "Trade", "OrderUpdated"]
