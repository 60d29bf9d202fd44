"""Scores, caps, ramps and shares: the numbers of consensus.md §3, and their edges."""

from __future__ import annotations

import pytest

from omninode.consensus.participation.audits import AUDITORS_MAX, auditors, duties, median
from omninode.consensus.participation.power import cap_ppm, ramp, room_below_cap, to_jail
from omninode.consensus.participation.rewards import (
    PPM,
    YEAR_MS,
    divide,
    divide_inflation,
    inflation,
    slash_ppm,
)
from omninode.consensus.participation.score import (
    NEUTRAL,
    POINTS,
    Components,
    blocks_share,
    leader_weight,
    smooth,
    stake_share,
    tenure_share,
    uptime_share,
    vote_credit,
    votes_share,
)
from omninode.crypto import keccak256

DAY_MS = 86_400_000
A, B, C, D = (bytes([n]) * 20 for n in range(4))


def test_the_points_make_a_hundred() -> None:
    assert sum(POINTS.values()) == 100
    assert Components(*[10_000] * 8).raw == 10_000
    assert Components(*[0] * 8).raw == 0
    assert Components(10_000, *[0] * 7).raw == 3_500


def test_a_vote_counts_fully_for_two_heights_and_nothing_after_eight() -> None:
    assert [vote_credit(d) for d in range(1, 11)] == [6, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert votes_share(60, 10) == 10_000
    assert votes_share(30, 10) == 5_000
    assert votes_share(0, 10) == 0
    assert votes_share(0, 0) == NEUTRAL


def test_one_lost_turn_does_not_sink_and_one_lucky_one_does_not_lift() -> None:
    assert blocks_share(0, 0) == 9_000
    assert blocks_share(0, 1) == 7_200
    assert blocks_share(1, 1) == 9_200
    assert blocks_share(0, 100) == 346
    assert blocks_share(100, 100) == 9_961


def test_uptime_is_among_windows_in_which_anybody_voted() -> None:
    assert uptime_share(0b0101, 0b1111) == 5_000
    assert uptime_share(0b0101, 0b0101) == 10_000
    assert uptime_share(0, 0) == NEUTRAL


def test_stake_counts_by_its_logarithm() -> None:
    assert stake_share(1_000, 1_000, 16_000) == 0
    assert stake_share(16_000, 1_000, 16_000) == 10_000
    assert stake_share(90_000, 1_000, 16_000) == 10_000
    assert stake_share(4_000, 1_000, 16_000) == 5_000
    assert 4_999 <= stake_share(2_000, 1_000, 4_000) <= 5_001
    assert stake_share(10_000, 1_000, 12_500) == 9_116  # log 10 / log 12.5
    assert stake_share(5, 10, 10) == 10_000, "no room between minimum and cap"


def test_tenure_is_half_of_the_rest_every_thirty_days() -> None:
    assert [tenure_share(days * DAY_MS) for days in (0, 15, 30, 60, 90)] == [
        0, 2_500, 5_000, 7_500, 8_750,
    ]  # fmt: skip
    assert tenure_share(-5) == 0
    assert tenure_share(100_000 * DAY_MS) == 10_000


def test_a_score_follows_by_a_quarter_and_weighs_by_two_at_most() -> None:
    assert smooth(5_000, 9_000) == 6_000
    assert leader_weight(10, 0) == 100_000
    assert leader_weight(10, 10_000) == 200_000
    assert leader_weight(10, 10_000, jailed=True) == 0


@pytest.mark.parametrize(
    ("count", "ppm"),
    [(1, PPM), (3, PPM), (4, 312_500), (5, 250_000), (10, 125_000), (50, 25_000), (63, 20_000)],
)
def test_the_cap_by_the_number_of_validators(count: int, ppm: int) -> None:
    assert cap_ppm(count) == ppm


def test_room_below_the_cap_counts_what_is_added() -> None:
    room = room_below_cap(10_000, 30_000, 4)
    assert room == 3_636
    assert room_below_cap(20_000, 30_000, 4) == 0
    assert room_below_cap(20_000, 3, 3) is None


def test_removals_come_first_and_outside_of_the_budget() -> None:
    powers = ramp({A: 100, B: 100, C: 100}, {A: 40, C: 100, D: 100}, 100_000)
    assert powers == {A: 40, C: 100, D: 30}


def test_what_comes_shares_the_budget_by_what_it_lacks() -> None:
    assert ramp({A: 100}, {A: 130, B: 60}, 300_000) == {A: 110, B: 20}
    assert ramp({A: 4}, {A: 4, B: 10}, 0) == {A: 4, B: 1}, "at least one unit comes in"
    assert ramp({A: 4}, {A: 4, B: 10, C: 10}, 0) == {A: 4, B: 1}


def test_a_set_never_ends_by_itself() -> None:
    assert ramp({A: 5, B: 7}, {}, PPM) == {B: 7}
    assert ramp({A: 5}, {B: 9}, 100_000) == {B: 9}


def test_jail_takes_the_worst_and_leaves_two_thirds() -> None:
    powers = {A: 10, B: 10, C: 10, D: 10}
    assert to_jail({A: 5, B: 3, C: 4}, powers) == (B,)
    assert to_jail({C: 1, B: 1}, powers) == (B,), "equal ones by address"
    assert to_jail({A: 0}, {A: 20, B: 10}) == ()


def test_shares_add_up() -> None:
    division = divide(100, {A: 1, B: 1, C: 1})
    assert division.shares == {A: 33, B: 33, C: 33}
    assert division.rest == 1
    assert divide(7, {A: 0}).rest == 7
    whole = divide_inflation(800, blocks={A: 3, B: 1}, weights={A: 1, B: 1})
    assert whole.shares == {A: 75 + 350, B: 25 + 350}
    assert whole.rest == 0


def test_inflation_is_two_percent_of_a_year() -> None:
    assert inflation(1_000, elapsed_ms=YEAR_MS, yearly_ppm=20_000) == 20
    assert inflation(1_000, elapsed_ms=-5, yearly_ppm=20_000) == 0


def test_a_slash_is_by_how_many_were_convicted() -> None:
    assert slash_ppm(1, 100) == 50_000
    assert slash_ppm(10, 100) == 300_000
    assert slash_ppm(34, 100) == PPM
    assert slash_ppm(5, 5) == PPM


def test_auditors_are_others_and_each_once() -> None:
    seed = keccak256(b"seed")
    for count in (1, 2, 4, 9, 40):
        powers = [1] * (count - 1) + [1_000_000]
        for audited in range(count):
            chosen = auditors(seed, powers, audited)
            assert len(set(chosen)) == len(chosen) == min(AUDITORS_MAX, count - 1)
            assert audited not in chosen
        assert sum(map(len, duties(seed, powers))) == count * min(AUDITORS_MAX, count - 1)


def test_a_median_needs_more_than_half() -> None:
    assert median([], 3) is None
    assert median([9], 3) is None
    assert median([9, 1], 3) == 1
    assert median([100, 0, 90, 80], 7) == 80
