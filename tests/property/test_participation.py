"""What must hold of scores, caps, ramps and rewards for all inputs."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from omninode.consensus.participation.power import (
    PPM,
    cap_ppm,
    ramp,
    room_below_cap,
    to_jail,
)
from omninode.consensus.participation.rewards import divide, divide_inflation, slash_ppm
from omninode.consensus.participation.score import (
    blocks_share,
    stake_share,
    tenure_share,
    uptime_share,
    vote_credit,
    votes_share,
)

ADDRESSES = st.integers(0, 15).map(lambda number: bytes([number]) * 20)
"""Few, so that two sets have some in common."""

POWERS = st.dictionaries(ADDRESSES, st.integers(1, 10**12), min_size=1, max_size=12)
WANTED = st.dictionaries(ADDRESSES, st.integers(0, 10**12), max_size=12)
WEIGHTS = st.dictionaries(ADDRESSES, st.integers(0, 10**16), max_size=12)
AMOUNTS = st.integers(0, 2**128 - 1)


@given(AMOUNTS, WEIGHTS)
def test_a_division_makes_and_loses_nothing(amount: int, weights: dict[bytes, int]) -> None:
    division = divide(amount, weights)
    assert sum(division.shares.values()) + division.rest == amount
    assert division.rest < max(1, len(weights)) or not any(weights.values())


@given(AMOUNTS, WEIGHTS, WEIGHTS)
def test_inflation_is_divided_whole(
    amount: int, blocks: dict[bytes, int], weights: dict[bytes, int]
) -> None:
    division = divide_inflation(amount, blocks=blocks, weights=weights)
    assert sum(division.shares.values()) + division.rest == amount
    assert all(share >= 0 for share in division.shares.values())


@given(AMOUNTS, WEIGHTS, st.randoms())
def test_the_order_of_the_set_does_not_matter(
    amount: int,
    weights: dict[bytes, int],
    random: object,
) -> None:
    turned = list(weights.items())
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert divide(amount, dict(turned)) == divide(amount, weights)


@given(AMOUNTS, WEIGHTS, st.integers(1, 10**16), st.integers(1, 10**16))
def test_a_stake_in_two_parts_earns_no_more(
    amount: int, others: dict[bytes, int], one: int, two: int
) -> None:
    whole = divide(amount, {**others, b"whole": one + two}).shares[b"whole"]
    parts = divide(amount, {**others, b"a": one, b"b": two}).shares
    assert parts[b"a"] + parts[b"b"] <= whole


@given(st.integers(0, 10**12), st.integers(0, 10**13), st.integers(1, 200))
def test_what_is_admitted_never_passes_the_cap(stake: int, others: int, count: int) -> None:
    room = room_below_cap(stake, others, count)
    if room is None:
        assert count < 4
        return
    if room:
        grown = stake + room
        assert grown * PPM <= cap_ppm(count) * (grown + others)
        more = grown + 1
        assert more * PPM > cap_ppm(count) * (more + others)


@given(POWERS, WANTED, st.integers(0, PPM))
def test_a_ramp_stays_in_its_budget(
    current: dict[bytes, int], wanted: dict[bytes, int], ppm: int
) -> None:
    powers = ramp(current, wanted, ppm)
    assert powers
    assert all(power > 0 for power in powers.values())
    stays = {who for who in current if wanted.get(who)}
    assume(stays)
    come = sum(max(0, power - current.get(who, 0)) for who, power in powers.items())
    assert come <= max(1, sum(current.values()) * ppm // PPM)
    for who, power in powers.items():
        assert power <= wanted[who]
        assert power >= min(current.get(who, 0), wanted[who])
    assert {who for who in powers if who in current} == stays


@given(POWERS, WANTED, st.integers(0, PPM), st.randoms())
def test_a_ramp_does_not_depend_on_an_order(
    current: dict[bytes, int], wanted: dict[bytes, int], ppm: int, random: object
) -> None:
    turned = []
    for powers in (current, wanted):
        items = list(powers.items())
        random.shuffle(items)  # type: ignore[attr-defined]
        turned.append(dict(items))
    assert ramp(turned[0], turned[1], ppm) == ramp(current, wanted, ppm)


@given(POWERS, st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, PPM))
def test_a_ramp_gives_two_parts_what_it_gives_the_whole(
    current: dict[bytes, int], one: int, two: int, ppm: int
) -> None:
    whole = ramp(current, {**current, b"whole": one + two}, ppm)
    parts = ramp(current, {**current, b"a": one, b"b": two}, ppm)
    of_parts = parts.get(b"a", 0) + parts.get(b"b", 0)
    assert abs(of_parts - whole.get(b"whole", 0)) <= 1


@given(POWERS, st.data())
def test_jail_leaves_two_thirds(powers: dict[bytes, int], data: st.DataObject) -> None:
    bad = data.draw(st.lists(st.sampled_from(sorted(powers)), unique=True))
    candidates = {who: data.draw(st.integers(0, 2_000)) for who in bad}
    jailed = to_jail(candidates, powers)
    left = sum(powers.values()) - sum(powers[who] for who in jailed)
    assert 3 * left >= 2 * sum(powers.values())
    assert [candidates[who] for who in jailed] == sorted(candidates.values())[: len(jailed)]


@given(st.integers(0, 6_000), st.integers(0, 6_000), st.integers(1, 1_000))
def test_more_votes_never_score_less(one: int, two: int, blocks: int) -> None:
    low, high = sorted((one, two))
    assert 0 <= votes_share(low, blocks) <= votes_share(high, blocks) <= 10_000


@given(st.integers(1, 20), st.integers(1, 20))
def test_an_earlier_vote_never_counts_less(one: int, two: int) -> None:
    assert vote_credit(min(one, two)) >= vote_credit(max(one, two)) >= 0


@given(st.integers(0, 1_000), st.integers(0, 1_000))
def test_a_block_more_never_scores_less(done: int, missed: int) -> None:
    assigned = done + missed
    assert blocks_share(done, assigned + 1) < blocks_share(done + 1, assigned + 1) <= 10_000
    assert blocks_share(done, assigned) >= blocks_share(done, assigned + 1)


@given(st.integers(0, 2**60 - 1), st.integers(0, 2**60 - 1), st.integers(0, 59))
def test_a_window_more_never_scores_less(mine: int, anybodys: int, window: int) -> None:
    mine &= anybodys
    low = uptime_share(mine, anybodys)
    assert 0 <= low <= 10_000
    if anybodys >> window & 1:
        assert uptime_share(mine | 1 << window, anybodys) >= low


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 10**9))
def test_more_stake_never_scores_less(stake: int, more: int, minimum: int, cap: int) -> None:
    low = stake_share(stake, minimum, cap)
    assert 0 <= low <= stake_share(stake + more, minimum, cap) <= 10_000


@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_longer_tenure_never_scores_less(one: int, two: int) -> None:
    low, high = sorted((one, two))
    assert 0 <= tenure_share(low) <= tenure_share(high) <= 10_000


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_more_convicted_never_lose_less(convicted: int, more: int, rest: int) -> None:
    total = convicted + more + rest
    part = slash_ppm(convicted, total)
    assert PPM // 20 <= part <= slash_ppm(convicted + more, total) <= PPM
    if 3 * convicted >= total:
        assert part >= PPM - 3
