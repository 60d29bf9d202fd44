"""A market: its rules in integers, its book and its counters.

Rules
    M1. A price is a number of ticks, a size a number of lots. `price x size` in ticks x lots, times
        `notional_numerator / notional_denominator`, is exact quote asset in base units.
    M2. One lot is a whole number of base units of the base asset, so sizes never round.
    M3. `sequence` numbers the orders that come to rest, `trades` the fills, both from 1; they are
        state.

Compiled by mypyc where that is asked for: plain classes, no dynamic attributes.
"""

from __future__ import annotations

from math import gcd

from omninode.dex.book import Book
from omninode.dex.decimals import DECIMALS_MAX, parse_units
from omninode.dex.fees import FeePots
from omninode.dex.limits import NOTIONAL_MAX, PRICE_TICKS_MAX
from omninode.errors import Malformed


class MarketSpec:
    """The rules of one market, from the texts of genesis. Satisfies `dex.transaction.MarketRules`.

    Raises:
        Malformed: A text that is no number, a tick or lot finer than can be counted.
        Rejected: An amount finer than its asset's base unit.
    """

    def __init__(
        self,
        index: int,
        *,
        name: str,
        base: str,
        quote: str,
        base_asset: int,
        quote_asset: int,
        base_decimals: int,
        quote_decimals: int,
        tick_text: str,
        lot_text: str,
        min_notional_text: str,
        max_notional_text: str,
        reference_price_text: str,
        maker_ppm: int,
        taker_ppm: int,
        band_ppm: int,
    ) -> None:
        self.index = index
        self.name = name
        self.base = base
        self.quote = quote
        self.base_asset = base_asset
        self.quote_asset = quote_asset
        self.base_decimals = base_decimals
        self.quote_decimals = quote_decimals
        self.maker_ppm = maker_ppm
        self.taker_ppm = taker_ppm
        self.band_ppm = band_ppm
        self.price_decimals: int = _digits_after_point(tick_text)
        self.tick: int = parse_units(tick_text, self.price_decimals)
        self.size_decimals: int = _digits_after_point(lot_text)
        self.lot: int = parse_units(lot_text, self.size_decimals)
        if self.size_decimals > base_decimals:  # M2
            raise Malformed(f"a lot of {lot_text} is finer than the base unit of {base}")
        if self.price_decimals > DECIMALS_MAX:
            raise Malformed(f"a tick has at most {DECIMALS_MAX} digits after the point")
        self.base_per_lot: int = self.lot * _power_of_ten(base_decimals - self.size_decimals)
        numerator = self.tick * self.lot * _power_of_ten(quote_decimals)
        denominator = _power_of_ten(self.price_decimals + self.size_decimals)
        common = gcd(numerator, denominator)
        self.notional_numerator: int = numerator // common
        self.notional_denominator: int = denominator // common
        self.notional_min: int = self._ticks_by_lots(min_notional_text, round_up=True)
        self.notional_max: int = NOTIONAL_MAX
        if max_notional_text:
            limit = self._ticks_by_lots(max_notional_text, round_up=False)
            self.notional_max = min(NOTIONAL_MAX, limit)
        self.reference_price: int = 0
        if reference_price_text:
            self.reference_price = parse_units(reference_price_text, self.price_decimals)
            self.reference_price //= self.tick

    def _ticks_by_lots(self, text: str, *, round_up: bool) -> int:
        """Turn quote asset in human units into ticks x lots."""
        scaled = parse_units(text, self.quote_decimals) * self.notional_denominator
        if round_up:
            return -(-scaled // self.notional_numerator)
        return scaled // self.notional_numerator

    def is_in_band(self, price: int, last_price: int) -> bool:
        """Whether a price is countable and lies within the price band."""
        if not 0 < price <= PRICE_TICKS_MAX:
            return False
        reference = last_price or self.reference_price
        if not self.band_ppm or not reference:
            return True
        return abs(price - reference) * 1_000_000 <= reference * self.band_ppm


class Market:
    """One market's state: book, counters, the price of its last trade (0: none yet)."""

    __slots__ = ("book", "dirty", "last_price", "pots", "sequence", "spec", "trades")

    def __init__(self, spec: MarketSpec, pots: FeePots) -> None:
        self.spec = spec
        self.pots = pots
        self.book = Book()
        self.sequence = 0
        self.trades = 0
        self.last_price = 0
        self.dirty = False


def _digits_after_point(text: str) -> int:
    return len(text.partition(".")[2])


def _power_of_ten(exponent: int) -> int:
    power: int = 10**exponent
    return power
