"""Numbers and places as people type them, in the one form that is signed."""

from __future__ import annotations

import re
from typing import Final

from omninode.dex.decimals import AMOUNT_LIMIT, DECIMALS_MAX
from omninode.errors import ConfigError

PPM_PER_PERCENT_DIGITS: Final = 4
"""One percent is 10**4 parts in a million."""

WHOLE_DIGITS_MAX: Final = len(str(AMOUNT_LIMIT - 1))
"""The largest amount, in base units, has so many digits."""

SHOWN_MAX: Final = 64
"""Characters of a wrong number that are repeated."""

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")


def positive_decimal(text: str, *, flag: str) -> str:
    """Return a positive number as canonical decimal text: `1.50` is signed as `1.5`.

    Raises:
        ConfigError: Not a plain decimal number, not above zero, or with too many digits.
    """
    shown = text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
    if _DECIMAL.fullmatch(text) is None:
        raise ConfigError(f"{flag} {shown}: expected a number such as 1.25, without exponent")
    whole, _, fraction = text.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    if whole == "0" and not fraction:
        raise ConfigError(f"{flag} {shown}: expected a number above zero")
    if len(whole) > WHOLE_DIGITS_MAX:
        raise ConfigError(
            f"{flag} {shown}: too large, with {len(whole)} digits before the point",
            hint=f"at most {WHOLE_DIGITS_MAX}",
        )
    if len(fraction) > DECIMALS_MAX:
        raise ConfigError(
            f"{flag} {shown}: too fine, with {len(fraction)} digits after the point",
            hint=f"at most {DECIMALS_MAX}",
        )
    return f"{whole}.{fraction}" if fraction else whole


def percent_to_ppm(text: str, *, flag: str) -> int:
    """Return a percentage as parts in a million, exactly.

    Raises:
        ConfigError: Not a number, finer than 0.0001 %, or not above 0 and up to 100.
    """
    whole, _, fraction = positive_decimal(text, flag=flag).partition(".")
    if len(fraction) > PPM_PER_PERCENT_DIGITS:
        raise ConfigError(f"{flag} {text}: expected at most 4 digits after the point")
    ppm = int(whole + fraction.ljust(PPM_PER_PERCENT_DIGITS, "0"))
    if ppm > 1_000_000:
        raise ConfigError(f"{flag} {text}: expected at most 100")
    return ppm


def split_subaccount(who: str) -> tuple[str, int]:
    """Split `ACCOUNT/N` into the account and the subaccount's number; without `/N` it is 0.

    Raises:
        ConfigError: What follows the slash is not a number.
    """
    account, slash, number = who.partition("/")
    if slash and not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise ConfigError(f"{who}: expected ACCOUNT/N with N a subaccount's number")
    return account, int(number) if slash else 0
