"""Reading parameters that are more than a type: addresses, hashes, cursors, lengths of lists."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from omninode.crypto import HASH_BYTES, parse_address
from omninode.dex.actions import SUBACCOUNT_MAX
from omninode.dex.transaction import TRANSACTION_BYTES_MAX
from omninode.errors import Malformed
from omninode.node.rpc.errors import InvalidParams

Height = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1, description="A block's height.")]
HashText = Annotated[
    str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{64}$", max_length=66, description="32 bytes.")
]
MarketName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=32, description="Such as BTC-USDC.")
]
AddressText = Annotated[
    str,
    msgspec.Meta(
        min_length=42,
        max_length=46,
        description="An address; `/N` behind it names a subaccount, which is `/0` without.",
    ),
]
AccountText = Annotated[
    str,
    msgspec.Meta(
        min_length=42,
        max_length=46,
        description="An address. It is about the whole account: `/N` is refused.",
    ),
]
ListedText = Annotated[
    str,
    msgspec.Meta(
        min_length=42,
        max_length=46,
        description="An address: all its subaccounts. With `/N` behind it: only that one.",
    ),
]
ClientIdText = Annotated[str, msgspec.Meta(min_length=1, max_length=36)]
CursorText = Annotated[
    str, msgspec.Meta(max_length=64, description="`next` of the page before this one.")
]
Limit = Annotated[
    int,
    msgspec.Meta(ge=1, le=100_000, description="Most rows; the node's `rpc.list_max` bounds it."),
]
TransactionHex = Annotated[
    str,
    msgspec.Meta(
        pattern="^0x([0-9a-fA-F]{2})+$",
        max_length=2 + 2 * TRANSACTION_BYTES_MAX,
        description="The signed bytes.",
    ),
]
LIMIT_DEFAULT: Final = 100

_CURSOR = re.compile(r"[0-9]{1,16}(:[0-9]{1,9}){1,2}")


def read_address(text: str) -> tuple[bytes, int | None]:
    """Read `0xADDRESS` or `0xADDRESS/N`.

    Returns:
        The address and the subaccount, if one was named.

    Raises:
        InvalidParams: It is neither.
    """
    address, slash, number = text.partition("/")
    try:
        parsed = parse_address(address)
    except Malformed as error:
        raise InvalidParams(f"address: {error}") from None
    if not slash:
        return parsed, None
    if not (number.isascii() and number.isdigit()) or str(int(number)) != number:
        raise InvalidParams(f"address: no subaccount {number!r}")
    if int(number) > SUBACCOUNT_MAX:
        raise InvalidParams(f"address: subaccounts go to {SUBACCOUNT_MAX}, not {number}")
    return parsed, int(number)


def read_account(text: str) -> bytes:
    """Read the address of a whole account.

    Raises:
        InvalidParams: It is none, or it names a subaccount.
    """
    address, subaccount = read_address(text)
    if subaccount is not None:
        raise InvalidParams(
            f"address: this is about the whole account, not about subaccount {subaccount}",
            hint=f"leave out /{subaccount}",
        )
    return address


def read_hash(text: str) -> bytes:
    """Read 32 bytes of hex; the parameter's pattern was checked."""
    value = bytes.fromhex(text[2:])
    assert len(value) == HASH_BYTES
    return value


def read_limit(limit: int, list_max: int) -> int:
    """Return the limit.

    Raises:
        InvalidParams: It is above what this node returns at once; it is not clamped.
    """
    if limit > list_max:
        raise InvalidParams(f"limit: {limit}, at most {list_max}", hint="page with `before`")
    return limit


def read_cursor(text: str | None, length: int) -> tuple[int, ...] | None:
    """Read a cursor of `length` numbers.

    Raises:
        InvalidParams: It is none of ours.
    """
    if text is None:
        return None
    parts = text.split(":")
    if _CURSOR.fullmatch(text) is None or len(parts) != length:
        raise InvalidParams(f"before: {text!r} is no cursor", hint="take `next` of the last page")
    return tuple(int(part) for part in parts)


def write_cursor(position: tuple[int, ...]) -> str:
    """Write a cursor."""
    return ":".join(str(number) for number in position)
