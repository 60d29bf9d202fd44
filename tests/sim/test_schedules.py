"""2,000 seeded schedules: no fork, nothing acknowledged or final lost, nobody honest framed.

Most are of the core alone; every tenth runs the real exchange.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from omninode.node.simulation.campaign import run_seeds
from omninode.node.simulation.options import STORIES, Fault, Options, Tier
from omninode.node.simulation.report import Totals, total
from omninode.node.simulation.schedule import ROTATION, Profile, about
from omninode.node.simulation.simulator import simulate

BATCH = 60
BATCHES = {Tier.CORE: 30, Tier.WHOLE: 4}
"""A batch goes round `ROTATION` and so holds every story."""
RUNS = [
    pytest.param(tier, number * BATCH, id=f"{tier}-{number * BATCH}")
    for tier, count in BATCHES.items()
    for number in range(count)
]


@cache
def run(tier: Tier, first: int) -> Totals:
    options = Options(tier=tier)
    return total(simulate(seed, options) for seed in range(first, first + BATCH))


def test_there_are_2000_schedules() -> None:
    assert len(RUNS) * BATCH >= 2_000
    assert len(ROTATION) <= BATCH
    assert set(ROTATION) == set(Profile)


@pytest.mark.parametrize(("tier", "first"), RUNS)
def test_schedules(tier: Tier, first: int) -> None:
    totals = run(tier, first)
    options = Options(tier=tier)
    told = [f"{f.violation}\nagain: {options.command(f.seed)}" for f in totals.failures]
    assert told == []


@pytest.mark.parametrize("tier", Tier)
def test_the_faults_really_happen(tier: Tier) -> None:
    """A simulator that injects nothing proves nothing."""
    counts = run(tier, 0).counts
    assert counts.crashes > 60
    assert counts.crashes_in_mid_step > 20
    assert counts.torn_logs > 3
    assert counts.lost > 5_000
    assert counts.duplicates > 500
    assert counts.partitions > 50
    assert counts.byzantine > 30
    assert counts.evidence > 100
    assert counts.transactions > 1_000
    assert counts.acknowledged > 500
    assert counts.nullified_views > 200
    assert counts.full_disks > 2
    assert counts.lost_disks > 3
    assert counts.old_disks > 1
    assert counts.flipped_bits > 1
    assert counts.halts >= counts.flipped_bits
    assert counts.outages > 1
    assert counts.forks_attempted > 1
    assert (counts.epochs > 20) == (tier is Tier.CORE)


def test_a_crash_at_every_append_is_a_crash() -> None:
    options = Options(faults=about(Profile.APPENDS), tier=Tier.CORE)
    reports = [simulate(seed, options) for seed in range(75)]
    assert [r.violation for r in reports] == [None] * 75
    assert [r.counts.crashes_in_mid_step for r in reports] == [1] * 75


def test_overload_forks_and_convicts() -> None:
    options = Options(faults=about(Profile.OVERLOAD), tier=Tier.CORE)
    reports = [simulate(seed, options) for seed in range(40)]
    assert [r.violation for r in reports] == [None] * 40
    assert sum(r.counts.forks for r in reports) >= 5
    assert all(r.counts.convicted for r in reports if r.counts.forks)


@pytest.mark.parametrize("fault", Fault)
def test_one_fault_alone(fault: Fault) -> None:
    options = Options(faults=frozenset({fault}), tier=Tier.CORE)
    reports = [simulate(seed, options) for seed in range(4)]
    assert [r.violation for r in reports] == [None] * 4
    profile = fault.value if fault in STORIES else Profile.MIXED.value
    assert {r.profile for r in reports} == {profile}
    counts = total(reports).counts
    losing = {Fault.LOSS, Fault.PARTITIONS, Fault.OVERLOAD, Fault.LOST_DISK}
    assert counts.lost == 0 or fault in losing
    assert counts.duplicates == 0 or fault is Fault.DUPLICATES
    byzantine = {Fault.TWINS, Fault.LIARS, Fault.SILENT, Fault.OVERLOAD}
    assert (counts.byzantine > 0) == (fault in byzantine)


def test_without_faults_nothing_goes_wrong() -> None:
    counts = simulate(0, Options(faults=frozenset(), tier=Tier.CORE)).counts
    assert (counts.lost, counts.crashes, counts.evidence, counts.byzantine) == (0, 0, 0, 0)
    assert counts.commits > 10


def test_steps_end_a_schedule() -> None:
    report = simulate(3, Options(steps=100, tier=Tier.CORE))
    assert report.violation is None
    assert report.counts.events < 400


def test_any_number_of_validators() -> None:
    for count in (4, 10, 31):
        report = simulate(0, Options(validators=count, steps=3_000, tier=Tier.CORE))
        assert report.violation is None


def test_the_result_is_the_same_for_any_number_of_processes() -> None:
    options = Options(tier=Tier.CORE)
    seeds = range(100, 112)
    alone = total(run_seeds(seeds, options, processes=1)).document()
    assert total(run_seeds(seeds, options, processes=2)).document() == alone


@pytest.mark.parametrize("tier", Tier)
def test_the_same_seed_gives_the_same_run_in_another_process(tier: Tier) -> None:
    """Nothing hangs on the order of a set or on the address of an object."""
    command = [sys.executable, "-m", "omninode", "simulate", "--seeds", "20..29", "--json"]
    results = {
        subprocess.run(
            [*command, "--tier", tier],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(results) == 1
    trace_hash = total(run_seeds(range(20, 30), Options(tier=tier), processes=1)).trace_hash
    assert trace_hash in results.pop()
