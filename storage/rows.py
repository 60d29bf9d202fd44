"""What all reads of stored rows share: pages are bounded, and damage is told as such."""

from __future__ import annotations

from typing import TypeVar

from omninode.encoding import decode
from omninode.errors import BrokenInvariant, Malformed, StorageFault
from omninode.storage.limits import PAGE_ROWS_MAX, RECORD_BYTES_MAX

T = TypeVar("T")


def bounded_page(limit: int) -> int:
    """Return how many rows a page may have, as it was asked for.

    Raises:
        BrokenInvariant: More than `PAGE_ROWS_MAX`; whoever asks has to bound it.
    """
    if not 0 <= limit <= PAGE_ROWS_MAX:
        raise BrokenInvariant(f"a page of {limit} rows; whoever asks bounds it by {PAGE_ROWS_MAX}")
    return limit


def decode_row(value: bytes, kind: type[T]) -> T:
    """Decode a stored record.

    Raises:
        StorageFault: It can not be read, so the database is damaged.
    """
    try:
        return decode(value, kind, size_max=RECORD_BYTES_MAX)
    except Malformed as error:
        raise StorageFault(
            f"a record of the database is damaged ({error}); `omninode reset` and let the node "
            "sync again"
        ) from error
