"""Rounding, and where fees go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange_world import make_genesis
from omninode.dex.accounts import Accounts, Balance
from omninode.dex.fees import FeePots, fee_paid, hold_needed, price_paid, proceeds, share_fees

SPEC = make_genesis().market_specs["BTC-USDC"]
"""One base unit of the quote asset is 10,000 ticks x lots."""

AMOUNTS = st.integers(0, 2**104 - 1)


@pytest.mark.parametrize(
    ("notional", "paid", "gained"),
    [(0, 0, 0), (1, 1, 0), (9_999, 1, 0), (10_000, 1, 1), (10_001, 2, 1), (20_000, 2, 2)],
)
def test_a_buyer_rounds_up_and_a_seller_down(notional: int, paid: int, gained: int) -> None:
    assert (price_paid(SPEC, notional), proceeds(SPEC, notional)) == (paid, gained)


@pytest.mark.parametrize(
    ("numerator", "fee"), [(0, 0), (1, 1), (10**10, 1), (10**10 + 1, 2), (2 * 10**10, 2)]
)
def test_a_fee_rounds_up(numerator: int, fee: int) -> None:
    assert fee_paid(SPEC, numerator) == fee


@given(fees=AMOUNTS, dust=st.integers(0, 1))
def test_shares_of_fees_add_up(fees: int, dust: int) -> None:
    accounts = Accounts()
    validators, treasury, development = (Balance(bytes([n]), 0) for n in range(3))
    pots = FeePots(
        validators=validators,
        treasury=treasury,
        development=development,
        validators_ppm=700_000,
        development_ppm=100_000,
    )
    share_fees(accounts, pots, fees=fees, dust=dust)
    assert validators.free + treasury.free + development.free == fees + dust
    assert validators.free == fees * 70 // 100
    assert development.free == fees // 10


@given(
    price=st.integers(1, 2**40),
    improvements=st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 2**41)), max_size=20),
    rest=st.integers(0, 1000),
)
def test_a_hold_suffices_for_any_fills_at_the_limit_or_better(
    price: int, improvements: list[tuple[int, int]], rest: int
) -> None:
    """Whatever a buy fills, at whatever better price and either rate: the hold never runs dry."""
    remaining = sum(lots for lots, _ in improvements) + rest
    notional = numerator = 0
    hold = hold_needed(SPEC, price=price, remaining=remaining, notional=0, fee_numerator=0)
    for place, (lots, better) in enumerate(improvements):
        exact = max(1, price - better) * lots
        rate = SPEC.taker_ppm if place % 2 else SPEC.maker_ppm
        paid = price_paid(SPEC, notional + exact) - price_paid(SPEC, notional)
        paid += fee_paid(SPEC, numerator + exact * rate) - fee_paid(SPEC, numerator)
        notional += exact
        numerator += exact * rate
        remaining -= lots
        hold -= paid
        needed = hold_needed(
            SPEC, price=price, remaining=remaining, notional=notional, fee_numerator=numerator
        )
        assert 0 <= needed <= hold
        hold = needed
    if not remaining:
        assert hold == 0
