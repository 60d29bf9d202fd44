"""Canonical msgpack: the one encoding of all that is hashed, signed, sent to peers or stored.

Rules
    E1. A record is a `msgspec.Struct` with `array_like=True`: a msgpack array of its fields in
        order.
    E2. `decode(encode(x)) == x`, and bytes that do not re-encode to themselves are refused, so one
        value has one encoding and a hash over bytes is a hash over the value.
    E3. Integers beyond 64 bits (amounts) are `bytes`: see `amount_to_bytes`. There are no floats.

It does not choose who is to blame for bad bytes: it raises `Malformed`, the boundary that read them
decides.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import msgspec

from omninode.errors import Malformed

T = TypeVar("T")

AMOUNT_BYTES = 16
"""Amounts are unsigned and below 2**128, so that others may use fixed-width integers."""

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Encode a record canonically (E1)."""


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:  # noqa: ANN401 - a type or a union
    return msgspec.msgpack.Decoder(kind)


def decode(data: bytes, kind: type[T], *, size_max: int) -> T:
    """Decode one canonical record.

    Args:
        data: The bytes.
        kind: The expected struct type (or a union of tagged structs).
        size_max: Refuse longer input before looking at it.

    Raises:
        Malformed: Too long, not msgpack, not of that type, or not canonical (E2).
    """
    if len(data) > size_max:
        raise Malformed(f"{len(data)} bytes, at most {size_max} allowed")
    try:
        # mypy looks for __hash__ on the class itself and not on its metaclass.
        value: T = _decoder(kind).decode(data)  # type: ignore[arg-type]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None
    if _encoder.encode(value) != data:
        raise Malformed("not the canonical encoding")
    return value


def amount_to_bytes(amount: int) -> bytes:
    """Encode a non-negative amount below 2**128 as 16 big-endian bytes (E3)."""
    return amount.to_bytes(AMOUNT_BYTES, "big")


def amount_from_bytes(data: bytes) -> int:
    """Decode what `amount_to_bytes` made."""
    return int.from_bytes(data, "big")
