"""Reports add up, in the order of their seeds; what is promised is there."""

from __future__ import annotations

from dataclasses import replace

from omninode.node.simulation.report import FAILURES_TOLD_MAX, Counts, Report, total

REPORT = Report(3, "mixed", Counts(commits=2, crashes=1, lost=5), "ab")


def test_counts_add_up() -> None:
    document = total([REPORT, replace(REPORT, seed=4, profile="storm")]).document()
    assert (document["schedules"], document["commits"], document["crashes"]) == (2, 4, 2)
    assert document["covered"]["lost"] == 10
    assert document["covered"]["profiles"] == {"mixed": 1, "storm": 1}
    assert document["violations"] == 0


def test_the_trace_hash_depends_on_each_schedule_and_their_order() -> None:
    other = replace(REPORT, seed=4)
    hashes = {
        total(reports).trace_hash
        for reports in (
            [REPORT],
            [REPORT, other],
            [other, REPORT],
            [REPORT, replace(other, trace_hash="ac")],
        )
    }
    assert len(hashes) == 4


def test_violations_are_counted_all_and_told_in_part() -> None:
    bad = replace(REPORT, violation="no")
    totals = total([bad] * (FAILURES_TOLD_MAX + 5))
    assert totals.violations == FAILURES_TOLD_MAX + 5
    assert len(totals.failures) == FAILURES_TOLD_MAX
