"""Canonical decimal text: one text per number, nothing rounded, nothing expensive."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.dex.decimals import (
    AMOUNT_LIMIT,
    OffGrid,
    format_units,
    parse_steps,
    parse_units,
)
from omninode.errors import Malformed

units = st.integers(min_value=0, max_value=AMOUNT_LIMIT - 1)
decimals = st.integers(min_value=0, max_value=18)


@given(value=units, places=decimals)
def test_text_and_units_are_one_to_one(value: int, places: int) -> None:
    text = format_units(value, places)
    assert Fraction(text) == Fraction(value, 10**places)
    assert parse_units(text, places) == value


@given(text=st.text(alphabet="0123456789.", max_size=12), places=decimals)
def test_what_parses_is_the_only_text_of_its_value(text: str, places: int) -> None:
    try:
        value = parse_units(text, places)
    except (Malformed, OffGrid):
        return
    assert format_units(value, places) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "1.", ".5", "01", "00", "0.0", "1.0", "1.50", "+1", "-1", "-0", " 1", "1 "),
        *("1\n", "1\x00", "NaN", "nan", "inf", "1e400", "1E2", "0x10", "1_000", "1,5", "1..2"),
        *("１", "٣", "1.٣", "²", "Ⅷ", "1" * 41, "9" * 10_000, "0." + "1" * 10_000),  # noqa: RUF001
        str(2**128),
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_units(text, 18)


def test_the_limit_is_exact() -> None:
    assert parse_units(str(2**128 - 1), 0) == 2**128 - 1
    with pytest.raises(Malformed, match="too large"):
        parse_units(str(2**128 // 10), 2)


@pytest.mark.parametrize(("text", "places"), [("0.1", 0), ("1.001", 2), ("0.000000001", 8)])
def test_more_digits_than_the_unit_has_are_off_the_grid(text: str, places: int) -> None:
    with pytest.raises(OffGrid, match="digits after the point"):
        parse_units(text, places)


def test_steps() -> None:
    assert parse_steps("1.25", 2, 25) == 125
    with pytest.raises(OffGrid, match=r"not a multiple of 0\.25"):
        parse_steps("1.26", 2, 25)


@pytest.mark.parametrize("text", ["9" * 1_000_000, "1" * 39 + "." * 1_000_000])
def test_long_input_is_refused_without_looking_at_it(text: str) -> None:
    started = time.perf_counter()
    for _ in range(1_000):
        with pytest.raises(Malformed):
            parse_units(text, 8)
    assert time.perf_counter() - started < 1


def test_differences_have_a_sign_and_do_not_parse() -> None:
    assert format_units(-150, 2) == "-1.5"
    with pytest.raises(Malformed):
        parse_units("-1.5", 2)
