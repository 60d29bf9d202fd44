"""Waits for a rising mark: which mark ends which wait, and what is told of them."""

from __future__ import annotations

from omninode.node.bench.waits import Waits

EMPTY = {"count": 0, "open": 0, "p50": None, "p99": None}


def test_nothing_has_waited() -> None:
    assert Waits().document() == EMPTY


def test_a_mark_ends_the_waits_for_it_and_below_and_no_others() -> None:
    fills = Waits()
    for height, seen_s in ((10, 1.0), (11, 1.25), (12, 1.5)):
        fills.begin(height, now_s=seen_s)
    fills.reach(9, now_s=2.0)
    assert fills.document() == {**EMPTY, "open": 3}
    fills.reach(11, now_s=3.0)
    assert fills.document() == {"count": 2, "open": 1, "p50": 2_000.0, "p99": 2_000.0}
    fills.reach(40, now_s=5.5)
    assert fills.document() == {"count": 3, "open": 0, "p50": 2_000.0, "p99": 4_000.0}


def test_each_wait_counts_once_and_those_of_one_mark_apart() -> None:
    fills = Waits()
    fills.begin(5, now_s=0.0)
    fills.begin(5, now_s=0.5)
    fills.reach(5, now_s=1.0)
    fills.reach(5, now_s=9.0)
    fills.reach(4, now_s=9.0)
    assert fills.document() == {"count": 2, "open": 0, "p50": 1_000.0, "p99": 1_000.0}


def test_what_is_reached_already_has_not_waited() -> None:
    fills = Waits()
    fills.reach(7, now_s=1.0)
    fills.begin(7, now_s=2.0)
    fills.begin(8, now_s=2.0)
    assert fills.document() == {"count": 1, "open": 1, "p50": 0.0, "p99": 0.0}


def test_the_first_mark_of_all_is_waited_for() -> None:
    deposits = Waits()
    deposits.reach(-1, now_s=0.0)  # none is credited
    deposits.begin(0, now_s=1.0)
    assert deposits.document()["open"] == 1
    deposits.reach(0, now_s=3.0)
    assert deposits.document()["p50"] == 2_000.0


def test_the_lowest_mark_is_next_whatever_came_first() -> None:
    withdrawals = Waits()
    assert withdrawals.next_mark is None
    for index in (4, 2, 3):
        withdrawals.begin(index, now_s=0.0)
    assert withdrawals.next_mark == 2
    withdrawals.reach(3, now_s=1.0)
    assert withdrawals.next_mark == 4
    withdrawals.reach(4, now_s=1.0)
    assert withdrawals.next_mark is None
