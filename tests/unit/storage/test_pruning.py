"""Pruning removes old blocks with all that was derived from them, and never what is needed."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from omninode.storage import keys
from omninode.storage import pruning as pruning_module

ALWAYS = 10**15


@pytest.fixture
async def store(
    open_store: Callable,
    maker: SimpleNamespace,
    world: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> SimpleNamespace:
    monkeypatch.setattr(pruning_module, "BLOCKS_KEPT_MIN", 5)
    opened = open_store()
    await opened.chain.begin(world.genesis, world.genesis.app_hash, [(b"x", b"state")])
    for height in range(1, 21):
        raw = world.transaction(world.alice, height)
        events = (world.trade(height), world.filled(height))
        await opened.chain.commit(maker.block(raw, events=events))
    return opened


def columns(store: SimpleNamespace) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for key, _ in store.database.iterate(b""):
        counts[key[:1]] = counts.get(key[:1], 0) + 1
    return counts


async def test_old_blocks_go_with_all_their_entries(
    store: SimpleNamespace, open_store: Callable, world: SimpleNamespace
) -> None:
    assert await store.pruner.step(before_ms=ALWAYS) == 15
    assert await store.pruner.step(before_ms=ALWAYS) == 0
    again = open_store()
    assert again.chain.first_height == 16
    assert again.chain.block(15) is None
    assert again.chain.stored_block(16) is not None
    assert again.chain.blocks_for_sync(15, count_max=9, bytes_max=10**6) is None
    assert list(again.chain.state_records()) == [(b"x", b"state")]
    assert len(again.history.trades(world.market, limit=100)) == 5
    assert len(again.history.fills(world.alice, limit=100).rows) == 5
    assert len(again.history.transactions(world.alice, limit=100)) == 5
    counts = columns(again)
    assert counts.pop(keys.META) == 3
    assert counts.pop(keys.HEAD) == counts.pop(keys.STATE) == 1
    assert counts.pop(keys.ACCOUNT_FILL) == 10
    assert set(counts.values()) == {5}


async def test_young_blocks_stay(store: SimpleNamespace) -> None:
    # Block h has the time (h + 1) s.
    assert await store.pruner.step(before_ms=4_001) == 3
    assert store.chain.first_height == 4
    assert await store.pruner.step(before_ms=4_001) == 0


async def test_what_somebody_needs_stays(store: SimpleNamespace) -> None:
    assert await store.pruner.step(before_ms=ALWAYS, keep_from_height=8) == 7
    assert store.chain.first_height == 8


async def test_a_step_is_bounded(
    store: SimpleNamespace, open_store: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning_module, "PRUNE_BLOCKS_PER_STEP", 4)
    assert [await store.pruner.step(before_ms=ALWAYS) for _ in range(5)] == [4, 4, 4, 3, 0]
    assert open_store().chain.first_height == 16


async def test_a_step_is_bounded_by_keys(
    store: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning_module, "PRUNE_KEYS_PER_STEP", 1)
    assert await store.pruner.step(before_ms=ALWAYS) == 1


async def test_nothing_to_prune_before_the_chain_begins(open_store: Callable) -> None:
    assert await open_store().pruner.step(before_ms=ALWAYS) == 0
