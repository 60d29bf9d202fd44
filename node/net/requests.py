"""Questions and answers: one stream each, one frame each way.

Rules
    Q1. The asker opens a stream for the protocol, writes one frame and closes its side.
    Q2. The answer is one frame: a status byte, then the answer or the text of a refusal.
    Q3. Both frames are bounded by what the protocol was registered with; so are the times.
    Q4. A node that has too much to do answers `busy` at once.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from omninode.errors import OmniNodeError, PeerFault
from omninode.node.net.framing import FrameDecoder, encode_frame
from omninode.node.net.hardening import GuardedYamux, GuardedYamuxStream, reset_quietly
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    PENALTY_MALFORMED,
    PENALTY_STALLED,
    REFUSAL_CHARACTERS_MAX,
    REQUEST_READ_TIMEOUT_MS,
    REQUESTS_SERVED_MAX,
    REQUESTS_SERVED_PER_PEER_MAX,
    RESPONSE_WINDOW_BYTES,
    STREAM_READ_BYTES,
)
from omninode.node.net.negotiation import OpeningAnswer, ProtocolRefused, opening
from omninode.node.net.settings import RequestHandler

_STATUS_BYTES: Final = 1


class Status(enum.IntEnum):
    """First byte of an answer (Q2)."""

    OK = 0
    BUSY = 1
    REFUSED = 2


class RequestFailed(OmniNodeError):
    """No answer; nobody is to blame, ask another peer or later.

    Args:
        reason: `not_connected`, `disconnected`, `timeout`, `busy`, `refused` or `unsupported`.
        message: More about it, for people.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason.replace("_", " "))
        self.reason = reason


class RequestRefused(OmniNodeError):
    """Raised by a handler that can not answer a well-formed request; its text goes to the asker."""


@dataclass(frozen=True)
class RequestProtocol:
    """A registered protocol (Q3).

    Attributes:
        name: `/omninode/<name>/1`.
        handler: Makes the answers.
        request_bytes_max: Bound of a question.
        response_bytes_max: Bound of an answer.
    """

    name: str
    handler: RequestHandler
    request_bytes_max: int
    response_bytes_max: int


class ServedRequests:
    """How many requests are in work, in all and per peer (Q4)."""

    def __init__(self) -> None:
        self._by_peer: Counter[PeerId] = Counter()
        self._total = 0

    @contextmanager
    def enter(self, peer: PeerId) -> Iterator[bool]:
        """Take a place for one request; False means that there is none."""
        full = (
            self._total >= REQUESTS_SERVED_MAX
            or self._by_peer[peer] >= REQUESTS_SERVED_PER_PEER_MAX
        )
        if full:
            yield False
            return
        self._total += 1
        self._by_peer[peer] += 1
        try:
            yield True
        finally:
            self._total -= 1
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]


async def ask(connection: GuardedYamux, protocol: RequestProtocol, payload: bytes) -> bytes:
    """Send one request and return its answer; the caller bounds the time.

    Raises:
        RequestFailed: The peer can not or will not answer.
        PeerFault: What came is no answer.
    """
    try:
        stream = await connection.open_stream()
    except BaseLibp2pError:
        raise RequestFailed("disconnected") from None
    try:
        if isinstance(stream, GuardedYamuxStream):
            await stream.widen(min(protocol.response_bytes_max, RESPONSE_WINDOW_BYTES))
        await stream.write(opening(protocol.name) + encode_frame(payload))
        answer = await _read_answer(stream, protocol)
    except ProtocolRefused:
        raise RequestFailed("unsupported", f"peer does not know {protocol.name}") from None
    except BaseLibp2pError:
        raise RequestFailed("disconnected", "stream ended before the answer") from None
    finally:
        # The answer is here or will not be used: nothing more is expected on this stream.
        with trio.CancelScope(shield=True):
            await reset_quietly(stream)
    return _open_answer(answer)


async def read_request(stream: YamuxStream, protocol: RequestProtocol) -> bytes:
    """Read the one frame of a request within its time (Q1, Q3).

    Raises:
        PeerFault: Too long, too slow, or more than one frame.
    """
    decoder = FrameDecoder(protocol.request_bytes_max)
    try:
        with trio.fail_after(REQUEST_READ_TIMEOUT_MS / 1000):
            while not (frames := decoder.feed(await stream.read(STREAM_READ_BYTES))):
                pass
    except trio.TooSlowError:
        message = "request not finished in time"
        raise PeerFault("stalled_request", message, penalty=PENALTY_STALLED) from None
    if len(frames) > 1 or decoder.pending_bytes:
        message = "more than one frame in a request"
        raise PeerFault("bad_request", message, penalty=PENALTY_MALFORMED)
    return frames[0]


async def write_answer(stream: YamuxStream, status: Status, answer: bytes) -> None:
    """Write the one frame of an answer and close the stream (Q2)."""
    await stream.write(encode_frame(bytes([status]) + answer))
    await stream.close()


async def _read_answer(stream: YamuxStream, protocol: RequestProtocol) -> bytes:
    size_max = max(protocol.response_bytes_max, 4 * REFUSAL_CHARACTERS_MAX) + _STATUS_BYTES
    opened = OpeningAnswer(protocol.name)
    decoder = FrameDecoder(size_max)
    while not (frames := decoder.feed(opened.feed(await stream.read(STREAM_READ_BYTES)))):
        pass
    return frames[0]


def _open_answer(answer: bytes) -> bytes:
    """Return what is in an answer (Q2)."""
    status, content = answer[:_STATUS_BYTES], answer[_STATUS_BYTES:]
    if status == bytes([Status.OK]):
        return content
    if status == bytes([Status.BUSY]):
        raise RequestFailed("busy", "peer has too much to do")
    if status == bytes([Status.REFUSED]):
        text = content.decode(errors="replace")[:REFUSAL_CHARACTERS_MAX]
        raise RequestFailed("refused", "".join(c for c in text if c.isprintable()))
    raise PeerFault("bad_answer", f"status {status!r}", penalty=PENALTY_MALFORMED)
