"""What a fill costs, exactly, and where the fees go.

Rules
    F1. Both sides pay their fee in the quote asset. Rounding is always against the user: a buyer's
        price and every fee round up, a seller's proceeds round down.
    F2. A buy order's rounding is continued over its fills: it has paid `ceil(notional)` and
        `ceil(fee)` of what it filled in all, so that many small fills never cost more than one
        large one, and a hold taken at the limit price and the taker rate always suffices.
    F3. A seller's fill is rounded by itself; its fee is never more than its proceeds.
    F4. Fees are shared 70/20/10 (genesis) between validators, treasury and development; what the
        rounding of the shares and of F1 leaves over goes to the treasury. Nothing is lost or made.

Compiled by mypyc where that is asked for: plain classes, no dynamic attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode.dex.accounts import Accounts, Balance

if TYPE_CHECKING:
    from omninode.dex.markets import MarketSpec

VALIDATOR_POOL: Final = b"omni:validator-fees\x00"
"""The account that collects the validators' share until it is paid out; nobody holds its key."""

_PPM: Final = 1_000_000


class FeePots:
    """Who gets the fees of one quote asset, and in which parts (F4)."""

    __slots__ = ("development", "development_ppm", "treasury", "validators", "validators_ppm")

    def __init__(
        self,
        *,
        validators: Balance,
        treasury: Balance,
        development: Balance,
        validators_ppm: int,
        development_ppm: int,
    ) -> None:
        self.validators = validators
        self.treasury = treasury
        self.development = development
        self.validators_ppm = validators_ppm
        self.development_ppm = development_ppm


def share_fees(accounts: Accounts, pots: FeePots, *, fees: int, dust: int) -> None:
    """Pay fees into the pots; `dust` is what rounding a price against both sides left over."""
    validators = fees * pots.validators_ppm // _PPM
    development = fees * pots.development_ppm // _PPM
    accounts.credit(pots.validators, validators)
    accounts.credit(pots.development, development)
    accounts.credit(pots.treasury, fees - validators - development + dust)


def price_paid(spec: MarketSpec, notional: int) -> int:
    """Return what a buyer pays in base units for fills of this many ticks x lots (F1)."""
    return -(-notional * spec.notional_numerator // spec.notional_denominator)


def proceeds(spec: MarketSpec, notional: int) -> int:
    """Return what a seller gets in base units, before its fee (F1)."""
    return notional * spec.notional_numerator // spec.notional_denominator


def fee_paid(spec: MarketSpec, fee_numerator: int) -> int:
    """Return the fee in base units for a sum of ticks x lots x ppm (F1)."""
    return -(-fee_numerator * spec.notional_numerator // (spec.notional_denominator * _PPM))


def hold_needed(
    spec: MarketSpec, *, price: int, remaining: int, notional: int, fee_numerator: int
) -> int:
    """Return what a buy must hold for its remaining lots, given what it has filled (F2).

    Args:
        spec: The market.
        price: The limit price in ticks.
        remaining: Lots not filled yet.
        notional: Ticks x lots filled so far.
        fee_numerator: Ticks x lots x ppm filled so far.
    """
    rest = price * remaining
    total = price_paid(spec, notional + rest) - price_paid(spec, notional)
    fee = fee_paid(spec, fee_numerator + rest * spec.taker_ppm) - fee_paid(spec, fee_numerator)
    return total + fee
