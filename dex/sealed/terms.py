"""What genesis fixes for the sealed lane."""

from __future__ import annotations

from typing import Annotated

import msgspec

from omninode.dex.actions import PPM, Positive
from omninode.dex.decimals import parse_units
from omninode.dex.fees import price_paid
from omninode.dex.markets import MarketSpec
from omninode.dex.sealed.limits import LEADERS_MAX

_Duration = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]


class GenesisSealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sealed lane's bond and times; times are block times.

    A bond is at least `bond_ppm` of the order's notional and at least `bond_minimum`, in the
    market's quote asset. A batch collects commitments for `collect_ms`; its reveal window lasts at
    least `window_ms` and until `leaders` different validators led a block of it, but not above
    `window_max_ms` once it had that many blocks.
    """

    bond_ppm: Annotated[int, msgspec.Meta(ge=1, le=PPM)] = 2_000
    bond_minimum: Positive = "1"
    collect_ms: _Duration = 1_000
    window_ms: _Duration = 2_000
    window_max_ms: _Duration = 30_000
    leaders: Annotated[int, msgspec.Meta(ge=1, le=LEADERS_MAX)] = 8

    def leaders_needed(self, validators: int) -> int:
        """Return how many different leaders a window waits for.

        A set that is smaller than `leaders` need not all lead: a third of it may be silent.
        """
        if validators >= self.leaders:
            return self.leaders
        return validators - (validators - 1) // 3

    def least_bond(self, spec: MarketSpec) -> int:
        """Return the smallest bond of a market, in base units of its quote asset."""
        return parse_units(self.bond_minimum, spec.quote_decimals)

    def bond_needed(self, spec: MarketSpec, notional: int) -> int:
        """Return the bond for so many ticks x lots, in base units of the quote asset."""
        share = -(-price_paid(spec, notional) * self.bond_ppm // PPM)
        return max(self.least_bond(spec), share)
