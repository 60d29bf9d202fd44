"""How large a bond a sealed order needs, from what the node tells of its market."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from omninode.dex.actions import PlaceOrder

PPM: Final = 1_000_000
ROOM: Final = Decimal("1.05")
"""The last price may rise by so much before the commitment is executed."""

_EXACT: Final = Context(prec=200)


def bond_for(order: PlaceOrder, *, market: dict[str, Any], genesis: dict[str, Any]) -> str:
    """Return the bond as canonical decimal text.

    Args:
        order: The order.
        market: Its entry in `omni_getMarkets`.
        genesis: The document of `omni_getGenesis`.
    """
    terms = genesis["sealed"]
    last = Decimal(market["last_price"] or _reference(order.market, genesis) or 0)
    prices = [_EXACT.multiply(last, ROOM)]
    if order.price:
        prices.append(Decimal(order.price))
    else:
        slippage = Decimal(PPM + order.slippage_ppm) / PPM
        prices.append(_EXACT.multiply(prices[0], slippage))
    notional = _EXACT.multiply(max(prices), Decimal(order.size))
    share = _EXACT.multiply(notional, Decimal(int(terms["bond_ppm"]))) / PPM
    decimals = next(
        int(asset["decimals"]) for asset in genesis["assets"] if asset["name"] == market["quote"]
    )
    bond = max(share, Decimal(terms["bond_minimum"])).quantize(
        Decimal(1).scaleb(-decimals), rounding=ROUND_CEILING, context=_EXACT
    )
    text = f"{bond:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _reference(name: str, genesis: dict[str, Any]) -> str:
    found = (m["reference_price"] for m in genesis["markets"] if m["name"] == name)
    return next(found, "") or ""
