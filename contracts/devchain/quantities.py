"""Hex as JSON-RPC of Ethereum wants it: quantities without leading zeros, data with all of them."""

from __future__ import annotations

import re
from typing import Final

from omninode.contracts.devchain.refusals import invalid

_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


def data(value: bytes) -> str:
    """Return bytes as hex."""
    return "0x" + value.hex()


def quantity(value: int) -> str:
    """Return a number as hex."""
    return hex(value)


def read_quantity(value: object, index: int, *, below: int = 2**256) -> int:
    """Read a number.

    Args:
        value: From JSON; a plain number is taken too.
        index: Which argument it is part of, for the refusal.
        below: What it must be less than.

    Raises:
        CallRefused: It is none, or too large.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        number = value
    elif isinstance(value, str) and _QUANTITY.fullmatch(value):
        number = int(value, 16)
    else:
        raise invalid(index, "a number as hex with 0x is wanted")
    if number >= below:
        raise invalid(index, "the number is too large")
    return number


def read_data(value: object, index: int, *, size: int | None = None) -> bytes:
    """Read bytes.

    Args:
        value: From JSON.
        index: Which argument it is part of, for the refusal.
        size: How many bytes it must have.

    Raises:
        CallRefused: It is none, or of another size.
    """
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise invalid(index, "bytes as hex with 0x are wanted")
    if size is not None and len(value) != 2 + 2 * size:
        raise invalid(index, f"{size} bytes as hex with 0x are wanted")
    return bytes.fromhex(value[2:])
