"""500 seeded schedules of core, log and real execution: no fork, nothing final lost, nobody honest
framed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omninode.node.simulation.schedule import Profile
from omninode.node.simulation.simulator import Report, simulate

BATCH = 20
COUNTS = {
    Profile.MIXED: 160,
    Profile.CRASHES: 100,
    Profile.DISK_LOSS: 60,
    Profile.EVERY_APPEND: 120,
    Profile.OVERLOAD: 60,
}
BATCHES = [(p, first) for p, count in COUNTS.items() for first in range(0, count, BATCH)]


def run(profile: Profile, first: int, count: int = BATCH) -> list[Report]:
    return [simulate(seed, profile) for seed in range(first, first + count)]


def test_there_are_500_schedules() -> None:
    assert len(BATCHES) * BATCH == 500


@pytest.mark.parametrize(("profile", "first"), BATCHES, ids=lambda x: getattr(x, "value", x))
def test_schedules(profile: Profile, first: int) -> None:
    reports = run(profile, first)
    assert all(r.height >= 3 for r in reports if profile is not Profile.OVERLOAD)
    assert not any(r.fork for r in reports if profile is not Profile.OVERLOAD)


def test_the_faults_really_happen() -> None:
    """A simulator that injects nothing proves nothing."""
    mixed = run(Profile.MIXED, 0, 30)
    assert sum(r.convicted for r in mixed) > 10
    assert sum(r.executed for r in mixed) > 300
    assert sum(r.crashes for r in mixed + run(Profile.CRASHES, 0, 30)) > 60
    every = run(Profile.EVERY_APPEND, 0, 75)
    assert [r.crashes for r in every] == [1] * 75
    overload = run(Profile.OVERLOAD, 0, 30)
    assert sum(r.fork for r in overload) >= 5
    assert all(r.convicted for r in overload if r.fork)


def test_the_same_seed_gives_the_same_run() -> None:
    for profile in Profile:
        assert simulate(7, profile) == simulate(7, profile)


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    """Nothing hangs on the order of a set or on the address of an object."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.sim", "--profile", "crashes", "--seed", "11"]
    reports = {
        subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()[-1]
        for hash_seed in ("1", "2")
    }
    assert reports == {str(simulate(11, Profile.CRASHES))}
