from __future__ import annotations

import pytest

from omninode.errors import ConfigError
from omninode.node.cli.amounts import percent_to_ppm, positive_decimal, split_subaccount


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1", "1"),
        ("1.50", "1.5"),
        ("01.5", "1.5"),
        ("0.10", "0.1"),
        ("100", "100"),
        ("1.000", "1"),
        ("00.001", "0.001"),
    ],
)
def test_numbers_become_the_form_that_is_signed(text: str, canonical: str) -> None:
    assert positive_decimal(text, flag="--size") == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-1",
        "+1",
        "1e400",
        "NaN",
        "inf",
        "1,5",
        ".5",
        "1.",
        "٣",
        "9" * 10_000,
        "0x1",
    ],
)
def test_what_is_no_positive_number_is_refused_with_its_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--size") as failure:
        positive_decimal(text, flag="--size")
    assert len(str(failure.value)) < 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9" * 300, "too large, with 300 digits"),
        ("1" + "0" * 39, "too large, with 40 digits"),
        ("0." + "1" * 300, "too fine, with 300 digits"),
        ("0." + "0" * 18 + "1", "too fine, with 19 digits"),
    ],
)
def test_too_many_digits_are_told_as_such(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        positive_decimal(text, flag="--size")


def test_as_many_digits_as_may_be() -> None:
    for text in ("9" * 39, "0." + "1" * 18):
        assert positive_decimal("000" + text, flag="--size") == text


@pytest.mark.parametrize(
    ("text", "ppm"), [("5", 50_000), ("0.5", 5_000), ("0.0001", 1), ("100", 1_000_000)]
)
def test_percentages_are_exact(text: str, ppm: int) -> None:
    assert percent_to_ppm(text, flag="--slippage-percent") == ppm


@pytest.mark.parametrize("text", ["0.00001", "100.1", "0", "-5"])
def test_percentages_that_can_not_be(text: str) -> None:
    with pytest.raises(ConfigError):
        percent_to_ppm(text, flag="--slippage-percent")


def test_subaccounts_are_named_after_a_slash() -> None:
    assert split_subaccount("alice") == ("alice", 0)
    assert split_subaccount("0xAb/12") == ("0xAb", 12)
    for text in ("alice/", "alice/x", "alice/-1", "alice/1234567"):
        with pytest.raises(ConfigError):
            split_subaccount(text)
