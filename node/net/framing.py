"""Frames on a stream: a length, then that many bytes. No input or output.

Rules
    F1. A frame is 4 bytes of big-endian length and that many bytes of payload.
    F2. The length is checked before any payload is kept, so a length of 2 GB costs 4 bytes.
    F3. GossipSub frames its RPCs with an unsigned LEB128 length instead; F2 holds for them too.

A decoder holds at most one unfinished frame besides what the last `feed` brought.
"""

from __future__ import annotations

from typing import Final

from typing_extensions import override

from omninode.errors import PeerFault
from omninode.node.net.limits import PENALTY_MALFORMED, PENALTY_OVERSIZED

LENGTH_BYTES: Final = 4
_VARINT_BYTES_MAX: Final = 5


def encode_frame(payload: bytes) -> bytes:
    """Put the length in front of a payload (F1)."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class FrameDecoder:
    """Cut a byte stream into frames (F1).

    Args:
        size_max: Longest payload allowed, in bytes.
        frames_max: Stop after so many frames; `take_rest` then gives what follows them.
    """

    def __init__(self, size_max: int, *, frames_max: int | None = None) -> None:
        self._size_max = size_max
        self._frames_left = frames_max
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of an unfinished frame; 0 means that the stream may end here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came and return the frames they complete, in order.

        Raises:
            PeerFault: A length beyond the bound (F2); the stream can not be read any further.
        """
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        start = 0
        while self._frames_left != 0 and (header := self._length(start)) is not None:
            length, body = header
            if length > self._size_max:
                message = f"frame of {length} bytes, at most {self._size_max} allowed"
                raise PeerFault("oversized_frame", message, penalty=PENALTY_OVERSIZED)
            if len(buffer) - body < length:
                break
            frames.append(bytes(memoryview(buffer)[body : body + length]))
            start = body + length
            if self._frames_left is not None:
                self._frames_left -= 1
        if start:
            del buffer[:start]
        return frames

    def take_rest(self) -> bytes:
        """Return and forget the bytes that belong to no frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _length(self, start: int) -> tuple[int, int] | None:
        """Return the length announced at `start` and where its payload begins, once complete."""
        body = start + LENGTH_BYTES
        if len(self._buffer) < body:
            return None
        return int.from_bytes(self._buffer[start:body], "big"), body


class VarintFrameDecoder(FrameDecoder):
    """The same for the lengths that GossipSub uses (F3)."""

    @override
    def _length(self, start: int) -> tuple[int, int] | None:
        length = 0
        for index, byte in enumerate(self._buffer[start : start + _VARINT_BYTES_MAX]):
            length |= (byte & 0x7F) << (7 * index)
            if not byte & 0x80:
                return length, start + index + 1
            if index + 1 == _VARINT_BYTES_MAX:
                raise PeerFault("bad_length", "length never ends", penalty=PENALTY_MALFORMED)
        return None
