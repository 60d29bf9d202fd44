"""The bytes of the write-ahead log's records: framing, checksums and sync points; pure.

    record = length(4) | crc32(4) | type(1) | payload        checksum over length, type and payload

A *sync point* is a record that says that every byte before it is durable. Its payload is its own
offset in the file and the file's random salt, so that nobody can smuggle one in as content.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import Final

from omninode.consensus.limits import WAL_RECORD_BYTES_MAX

_HEAD: Final = struct.Struct(">IIB")
SALT_BYTES: Final = 8
"""Random bytes in the header of each segment file."""


class RecordKind(enum.IntEnum):
    """The type byte of a record."""

    VOTE = 1
    BLOCK = 2
    CERTIFICATE = 3
    SYNC_POINT = 4


def frame(kind: RecordKind, payload: bytes) -> bytes:
    """Return one record."""
    length = len(payload).to_bytes(4, "big")
    tail = bytes((kind,)) + payload
    return length + zlib.crc32(tail, zlib.crc32(length)).to_bytes(4, "big") + tail


def record_at(data: bytes, offset: int) -> tuple[int, bytes, int] | None:
    """Return type, payload and end of the record at an offset; `None` unless it is whole."""
    if offset + _HEAD.size > len(data):
        return None
    length, checksum, kind = _HEAD.unpack_from(data, offset)
    end = offset + _HEAD.size + length
    if length > WAL_RECORD_BYTES_MAX or end > len(data):
        return None
    tail = data[offset + 8 : end]
    if zlib.crc32(tail, zlib.crc32(data[offset : offset + 4])) != checksum:
        return None
    return kind, tail[1:], end


def sync_point(offset: int, salt: bytes) -> bytes:
    """Return the sync point that belongs at an offset of the file with this salt."""
    return frame(RecordKind.SYNC_POINT, offset.to_bytes(8, "big") + salt)


def has_sync_point(data: bytes, start: int, salt: bytes) -> bool:
    """Whether a whole sync point lies behind `start`."""
    at = data.find(salt, start)
    while at >= 0:
        place = at - 8 - _HEAD.size
        if place > start and data.startswith(sync_point(place, salt), place):
            return True
        at = data.find(salt, at + 1)
    return False
