"""Transactions on their way between peers: several in one frame.

Rules
    B1. A frame is a canonical record of one array of byte strings, each the signed bytes of a
        transaction, bounded in number and bytes.
    B2. What is inside the byte strings is admission's affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.limits import (
    FRAME_TRANSACTION_BYTES_MAX,
    FRAME_TRANSACTIONS_MAX,
    PENALTY_BAD_TRANSACTION,
)

_HEADER_BYTES_MAX: Final = 8
_ITEM_HEADER_BYTES_MAX: Final = 5


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """What travels (B1)."""

    transactions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=FRAME_TRANSACTIONS_MAX)]


def encode_frames(raws: Iterable[bytes]) -> list[bytes]:
    """Pack signed bytes, in order, into frames within the bounds (B1)."""
    frames: list[bytes] = []
    batch: list[bytes] = []
    size = _HEADER_BYTES_MAX
    for raw in raws:
        grown = size + _ITEM_HEADER_BYTES_MAX + len(raw)
        if batch and (grown > FRAME_TRANSACTION_BYTES_MAX or len(batch) == FRAME_TRANSACTIONS_MAX):
            frames.append(encode(_Frame(tuple(batch))))
            batch = []
            grown = _HEADER_BYTES_MAX + _ITEM_HEADER_BYTES_MAX + len(raw)
        batch.append(raw)
        size = grown
    if batch:
        frames.append(encode(_Frame(tuple(batch))))
    return frames


def decode_frame(frame: bytes) -> tuple[bytes, ...]:
    """Unpack a peer's frame.

    Raises:
        PeerFault: It is not one (B1).
    """
    try:
        return decode(frame, _Frame, size_max=FRAME_TRANSACTION_BYTES_MAX).transactions
    except Malformed as error:
        raise PeerFault("bad_frame", str(error), penalty=PENALTY_BAD_TRANSACTION) from None
