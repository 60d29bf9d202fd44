"""The drawn flows: reproducible, of the shape they claim, and nothing in them is impossible."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from omninode.dex.book import check_book
from omninode.node.bench.flows import (
    ADD,
    CANCEL,
    SHAPES,
    TAKE,
    Matcher,
    draw_flow,
    load_flow,
    save_flow,
)
from omninode.node.bench.path import path
from omninode.node.bench.worker import matching


@pytest.mark.parametrize("name", SHAPES)
def test_a_flow_is_drawn_from_its_seed_alone(name: str) -> None:
    assert draw_flow(name, 2_000, 7) == draw_flow(name, 2_000, 7)
    assert draw_flow(name, 2_000, 7).steps != draw_flow(name, 2_000, 8).steps


def test_the_mix_is_as_promised() -> None:
    kinds = Counter(step[0] for step in draw_flow("1", 20_000, 1).steps)
    assert kinds[ADD] == pytest.approx(12_000, rel=0.05)
    assert kinds[CANCEL] == pytest.approx(7_000, rel=0.05)
    assert kinds[TAKE] == pytest.approx(1_000, rel=0.15)


def test_s1_stays_near_6000_resting_orders() -> None:
    assert draw_flow("s1", 30_000, 1).resting == pytest.approx(6_000, rel=0.1)


def test_20_has_20_markets_and_the_first_is_busiest() -> None:
    markets = Counter(step[1] for step in draw_flow("20", 20_000, 1).steps)
    assert set(markets) == set(range(20))
    assert max(markets, key=markets.__getitem__) == 0


def test_replaying_a_flow_in_blocks_finds_the_same_fills_and_sound_books() -> None:
    drawn = draw_flow("20", 20_000, 3)
    engine = Matcher(20)
    for start in range(0, 20_000, 1_000):
        engine.run(drawn.steps[start : start + 1_000])
    assert engine.fills == drawn.fills > 1_000
    sequence = 0
    for book in engine.books:
        for level in (*book.bids.values(), *book.asks.values()):
            order = level.head
            while order is not None:
                sequence += 1
                order.sequence = sequence
                order = order.next
    assert sum(check_book(book) for book in engine.books) == drawn.resting


def test_a_flow_survives_its_file(tmp_path: Path) -> None:
    drawn = draw_flow("20", 1_000, 1)
    save_flow(drawn, tmp_path / "flow")
    assert load_flow(tmp_path / "flow") == drawn
    assert matching(str(tmp_path / "flow"))["fills"] == drawn.fills


@pytest.mark.parametrize("per_transaction", [1, 10])
def test_the_full_path_trades(per_transaction: int) -> None:
    document = path(3_000, per_transaction, 1)
    assert document["trades"] > 200
    assert path(3_000, per_transaction, 1)["app_hash"] == document["app_hash"]
