"""What a seed decides: the same always, everything in turn, and no more faults than were asked."""

from __future__ import annotations

from collections import Counter

import pytest

from omninode.node.simulation.disk import Crash
from omninode.node.simulation.options import (
    EVERYTHING,
    MIXTURE,
    STORIES,
    Fault,
    Options,
    Tier,
)
from omninode.node.simulation.schedule import APPENDS_MAX, ROTATION, Profile, about, draw


def test_a_round_of_seeds_holds_every_profile() -> None:
    drawn = Counter(draw(seed).profile for seed in range(100, 100 + len(ROTATION)))
    assert drawn == Counter(ROTATION)
    assert set(drawn) == set(Profile)


def test_the_schedules_of_a_profile_are_counted() -> None:
    numbers: dict[Profile, list[int]] = {}
    for seed in range(3 * len(ROTATION)):
        schedule = draw(seed)
        numbers.setdefault(schedule.profile, []).append(schedule.number)
    assert all(found == list(range(len(found))) for found in numbers.values())


def test_every_append_and_kind_of_crash_is_enumerated() -> None:
    faults = about(Profile.APPENDS)
    drawn = [draw(seed, faults=faults).crash_at_append for seed in range(APPENDS_MAX * len(Crash))]
    pairs = {(crash[1], crash[2]) for crash in drawn if crash is not None}
    assert pairs == {(append, kind) for append in range(1, APPENDS_MAX + 1) for kind in Crash}


@pytest.mark.parametrize("profile", Profile)
def test_less_than_a_third_is_faulty_but_where_it_is_the_point(profile: Profile) -> None:
    for seed in range(60):
        schedule = draw(seed, faults=about(profile))
        assert schedule.profile is profile
        bad = sum(schedule.powers[i] for i in schedule.faults)
        total = sum(schedule.powers)
        if profile is Profile.OVERLOAD:
            assert 3 * bad < 2 * total
        else:
            assert 3 * bad < total
        if profile in {Profile.LOST_DISK, Profile.OLD_DISK, Profile.BIT_FLIP}:
            assert schedule.victim in schedule.spare


def test_only_what_was_asked_for_goes_wrong() -> None:
    for seed in range(30):
        schedule = draw(seed, faults=frozenset())
        assert not schedule.faults
        assert not schedule.partitions
        assert (schedule.loss, schedule.duplicates, schedule.crash_chance) == (0, 0, 0)
        assert schedule.crash_times == []
        assert schedule.is_in_order
        assert set(schedule.skew_ms.values()) == {0}


def test_the_number_of_validators_can_be_asked_for() -> None:
    assert {len(draw(seed, validators=13).powers) for seed in range(20)} == {13}


def test_a_command_says_what_differs_from_the_default() -> None:
    assert Options().command(5) == "omninode simulate --seed 5 --trace"
    options = Options(7, 900, frozenset({Fault.LOSS, Fault.OUTAGE}), Tier.CORE)
    assert options.command(8) == (
        "omninode simulate --seed 8 --validators 7 --steps 900 --faults loss,outage --tier core "
        "--trace"
    )
    assert "--faults none" in Options(faults=frozenset()).command(0)


def test_faults_are_the_mixture_and_the_stories() -> None:
    assert frozenset(STORIES) | MIXTURE == EVERYTHING
    assert {fault.value for fault in STORIES} | {"mixed"} == {p.value for p in Profile}
