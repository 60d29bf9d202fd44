"""Acknowledged, refused, final: the words for what became of a transaction."""

from __future__ import annotations

import pytest

from omninode.node.devnet.tracker import Sent, Tracker, quantile_ms


def sent(tracker: Tracker, identifier: bytes, *, orders: int = 1, measured: bool = True) -> Sent:
    transaction = Sent(
        raw=b"raw",
        nonce=1,
        orders=orders,
        measured=measured,
        validator=0,
        sent_s=10.0,
        tried_s=10.0,
    )
    tracker.sent(identifier, transaction)
    return transaction


def test_final_at_the_validator_it_was_sent_to_is_measured() -> None:
    tracker = Tracker()
    sent(tracker, b"a")
    tracker.acknowledged(b"a")
    tracker.block(0, 7, [b"other", b"a"], now_s=10.05)
    counts = tracker.counts
    assert (counts.sent, counts.acknowledged, counts.final, counts.refused) == (1, 1, 1, 0)
    assert list(tracker.recent) == [(10.05, pytest.approx(50.0))]
    assert tracker.highest_final == 7
    assert not tracker.pending


def test_another_validators_word_does_not_end_the_measuring() -> None:
    tracker = Tracker()
    transaction = sent(tracker, b"a")
    tracker.block(1, 7, [b"a"], now_s=10.01)
    assert transaction.final_elsewhere
    assert b"a" in tracker.pending
    tracker.block(0, 7, [b"a"], now_s=10.2)
    assert [ms for _, ms in tracker.recent] == [pytest.approx(200.0)]


def test_final_before_its_acknowledgement_counts_as_acknowledged_once() -> None:
    tracker = Tracker()
    sent(tracker, b"a")
    tracker.block(0, 1, [b"a"], now_s=11.0)
    tracker.acknowledged(b"a")
    assert tracker.counts.acknowledged == 1


def test_a_refusal_after_the_acknowledgement_leaves_it_under_way() -> None:
    """It was sent again, and the second validator did not want it: the first has it still."""
    tracker = Tracker()
    sent(tracker, b"a")
    tracker.acknowledged(b"a")
    tracker.refused(b"a", "nonce_out_of_window")
    assert b"a" in tracker.pending
    assert tracker.counts.refused == 0


def test_refusals_are_counted_by_reason() -> None:
    settled: list[int] = []
    tracker = Tracker(on_settled=lambda: settled.append(1))
    sent(tracker, b"a", orders=5)
    sent(tracker, b"b", measured=False)
    tracker.refused(b"a", "mempool_full")
    tracker.refused(b"b", "mempool_full")
    assert tracker.refusals == {"mempool_full": 2}
    assert tracker.counts.refused == 5
    assert len(settled) == 2


def test_what_is_not_measured_is_followed_and_not_counted() -> None:
    tracker = Tracker()
    sent(tracker, b"a", measured=False)
    tracker.acknowledged(b"a")
    tracker.block(0, 3, [b"a"], now_s=12.0)
    assert tracker.counts.sent == tracker.counts.final == 0
    assert not tracker.recent
    assert not tracker.pending


def test_overdue_are_those_tried_long_ago() -> None:
    tracker = Tracker()
    sent(tracker, b"a")
    sent(tracker, b"b").tried_s = 20.0
    assert [identifier for identifier, _ in tracker.overdue(before_s=15.0)] == [b"a"]


def test_quantiles_of_a_few() -> None:
    assert quantile_ms([], 0.5) is None
    assert quantile_ms([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile_ms([3.0, 1.0, 2.0], 0.99) == 3.0


def test_what_has_expired_is_not_under_way() -> None:
    told: list[None] = []
    tracker = Tracker(on_settled=lambda: told.append(None))
    sent(tracker, b"a", orders=3)
    sent(tracker, b"b", measured=False)
    for identifier in (b"a", b"b", b"a"):
        tracker.expired(identifier)
    tracker.block(0, 7, [b"a"], now_s=11.0)
    assert (tracker.counts.expired, tracker.unmeasured_expired, len(told)) == (3, 1, 2)
    assert tracker.counts.final == 0
    assert not tracker.pending
