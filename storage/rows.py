"""What all reads of stored rows share: pages are bounded, and damage is told as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from omninode.encoding import decode
from omninode.errors import BrokenInvariant, Malformed, StorageFault
from omninode.storage.limits import PAGE_ROWS_MAX, PAGE_SCANNED_MAX, RECORD_BYTES_MAX

T = TypeVar("T")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Page(Generic[T, C]):
    """Rows of a history, newest first.

    Attributes:
        rows: What was asked for; fewer than asked for, even none, where many others lay between.
        next: What the next page goes `before`; `None` at the end.
    """

    rows: list[T]
    next: C | None


def bounded_page(limit: int) -> int:
    """Return how many rows a page may have, as it was asked for.

    Raises:
        BrokenInvariant: None, or more than `PAGE_ROWS_MAX`; whoever asks has to bound it.
    """
    if not 1 <= limit <= PAGE_ROWS_MAX:
        raise BrokenInvariant(f"a page of {limit} rows; whoever asks bounds it by {PAGE_ROWS_MAX}")
    return limit


def read_page(
    rows: Iterable[tuple[C, T]], *, limit: int, wanted: Callable[[T], bool]
) -> Page[T, C]:
    """Read rows until a page is full, or `PAGE_SCANNED_MAX` of them were looked at.

    Args:
        rows: Each with its place, newest first.
        limit: At most so many, up to `PAGE_ROWS_MAX`.
        wanted: Which of them belong on the page.
    """
    bounded_page(limit)
    found: list[T] = []
    for scanned, (place, row) in enumerate(rows, start=1):
        if wanted(row):
            found.append(row)
        if len(found) == limit or scanned == PAGE_SCANNED_MAX:
            return Page(found, place)
    return Page(found, None)


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
