"""What is offered for gas, and what refusals mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.contracts.fees import (
    ACCEPTED,
    FEE_MAX_WEI,
    GWEI,
    NO_FUNDS,
    NONCE_USED,
    REFUSED,
    TIP_MAX_WEI,
    UNDERPRICED,
    Fee,
    first_fee,
    meaning,
    raised_fee,
)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("already known", ACCEPTED),
        ("known transaction: 1f2e", ACCEPTED),
        ("AlreadyKnown", ACCEPTED),
        ("nonce too low: next nonce 5, tx nonce 4", NONCE_USED),
        ("replacement transaction underpriced", UNDERPRICED),
        ("transaction underpriced: tip needed 1, tip permitted 0", UNDERPRICED),
        ("max fee per gas less than block base fee: address 0x…", UNDERPRICED),
        ("insufficient funds for gas * price + value", NO_FUNDS),
        ("the moon is in the wrong place", REFUSED),
    ],
)
def test_words_of_clients(words: str, what: str) -> None:
    assert meaning(words) == what


def test_an_endpoint_can_not_make_us_pay_what_it_likes() -> None:
    fee = first_fee(20 * GWEI, 10**30)
    assert fee.tip == TIP_MAX_WEI
    assert first_fee(10**40, None).max_fee == FEE_MAX_WEI


@given(
    st.integers(0, 2 * FEE_MAX_WEI), st.integers(0, 2 * TIP_MAX_WEI), st.integers(0, FEE_MAX_WEI)
)
def test_a_replacement_offers_enough_more_or_is_none(base: int, tip: int, later: int) -> None:
    old = first_fee(base, tip)
    assert old.tip <= old.max_fee
    new = raised_fee(old, first_fee(later, None))
    if new is not None:
        assert new.max_fee * 8 >= old.max_fee * 9
        assert new.tip * 8 >= old.tip * 9
        assert new.tip <= new.max_fee <= FEE_MAX_WEI


def test_raising_ends_somewhere() -> None:
    fee: Fee | None = first_fee(GWEI, None)
    raises = 0
    while fee is not None:
        fee = raised_fee(fee, first_fee(GWEI, None))
        raises += 1
    assert 10 < raises < 100
