"""Canonical decimal text and the integer units behind it.

Rules
    D1. An amount is ASCII digits with at most one point: no sign, exponent, space, leading zero,
        trailing zero or trailing point. So each number has one text, and a signature over the
        text fixes the number.
    D2. Text is at most `DECIMAL_CHARS_MAX` long and a value is below 2**128, so no input costs
        more than a few hundred nanoseconds to refuse.
    D3. A value that is not a whole number of units is refused, never rounded.

Everything behind this module counts in integer units of 10**-decimals.
"""

from __future__ import annotations

import re
from typing import Final

from omninode.errors import Malformed, Rejected

DECIMALS_MAX: Final = 18
"""The finest unit any asset may have, as the EVM's usual tokens."""

DECIMAL_CHARS_MAX: Final = 40
"""39 digits of 2**128 and a point."""

AMOUNT_LIMIT: Final = 2**128

DECIMAL_PATTERN: Final = r"\A(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?\Z"
POSITIVE_PATTERN: Final = r"\A(?:[1-9][0-9]*(?:\.[0-9]*[1-9])?|0\.[0-9]*[1-9])\Z"

_decimal_match = re.compile(DECIMAL_PATTERN).match
_SCALES: Final[tuple[int, ...]] = tuple(int(10**exponent) for exponent in range(DECIMALS_MAX + 1))


class OffGrid(Rejected):
    """A number that is not a whole number of units (D3)."""

    def __init__(self, message: str) -> None:
        super().__init__("off_grid", message)


def parse_units(text: str, decimals: int) -> int:
    """Read canonical decimal text as integer units of 10**-decimals.

    Args:
        text: A number as D1 has it; zero is allowed.
        decimals: Digits after the point that one unit stands for, 0 to `DECIMALS_MAX`.

    Raises:
        Malformed: Not canonical (D1), or too large (D2).
        OffGrid: More digits after the point than `decimals` (D3).
    """
    if len(text) > DECIMAL_CHARS_MAX:
        raise Malformed(f"a number of {len(text)} characters, at most {DECIMAL_CHARS_MAX} allowed")
    if _decimal_match(text) is None:
        raise Malformed(f"not a canonical decimal number: {text!r}")
    whole, _, fraction = text.partition(".")
    missing = decimals - len(fraction)
    if missing < 0:
        raise OffGrid(f"{text} has more than {decimals} digits after the point")
    units: int = int(whole + fraction) * _SCALES[missing]
    if units >= AMOUNT_LIMIT:
        raise Malformed(f"{text} is too large")
    return units


def parse_steps(text: str, decimals: int, step: int) -> int:
    """Read canonical decimal text as integer units on a grid.

    Args:
        text: A number as D1 has it.
        decimals: As in `parse_units`.
        step: The grid's step (a tick or a lot), in units.

    Returns:
        The value in units, not in steps.

    Raises:
        Malformed: As `parse_units`.
        OffGrid: Not a whole number of units, or not a multiple of `step`.
    """
    units = parse_units(text, decimals)
    if units % step:
        raise OffGrid(f"{text} is not a multiple of {format_units(step, decimals)}")
    return units


def format_units(units: int, decimals: int) -> str:
    """Write integer units of 10**-decimals as canonical decimal text.

    Negative units (a difference, a loss) get a minus sign; `parse_units` refuses such text.
    """
    if units < 0:
        return "-" + format_units(-units, decimals)
    whole, fraction = divmod(units, _SCALES[decimals])
    if not fraction:
        return str(whole)
    return f"{whole}.{fraction:0{decimals}d}".rstrip("0")
