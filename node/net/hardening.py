"""What must change inside libp2p before it may meet strangers. Applied once, to one exact version.

Each change answers a defect that was reproduced against libp2p 0.8.1; tests/unit/node/net holds the
attacks:

    C1. An exception in any stream handler, or in naming the stream's protocol, ends the node.
        -> `SwarmConn._handle_muxed_stream` is guarded; the peer pays, the stream is reset.
    C2. A peer may open streams without bound. -> At most `STREAMS_PER_CONNECTION_MAX`, and served
        at `STREAMS_PER_S`.
    C3. The length of a multistream message is not bounded, and text that is no UTF-8 escapes as an
        error nobody handles. -> `read_delim` is replaced.
    C4. A peer that ignores the window is only logged, so its data piles up; windows grow to 16 MiB
        each. -> Beyond the window the connection ends; windows have fixed sizes.
    C5. Each `read` sends a window update: a third of the CPU of a busy receiver. -> One update per
        half window.
    C6. An exception in a connection's own tasks ends the node. -> They are guarded too.
    C7. A writer without window looks again every 10 ms, and two writers of one stream mix their
        messages. -> It is woken, and one writes after the other.
    C8. Every lock taken gives the processor away, five times for each small message. -> A free lock
        is taken at once; the socket is where a task yields.

The classes here are `Yamux` and `YamuxStream` with those changes; `apply` puts them in place.
"""

from __future__ import annotations

import importlib.metadata
import logging
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio
from libp2p.abc import IMuxedStream, INetConn, INetStream, ISecureConn
from libp2p.exceptions import BaseLibp2pError, ParseError
from libp2p.io.abc import Reader
from libp2p.io.utils import read_exactly
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.utils.varint import decode_uvarint_from_stream
from typing_extensions import override

from omninode.errors import BrokenInvariant
from omninode.node.net.allowance import Allowance
from omninode.node.net.limits import (
    NEGOTIATION_BYTES_MAX,
    STREAM_STALL_TIMEOUT_MS,
    STREAM_WINDOW_BYTES,
    STREAMS_BURST,
    STREAMS_PER_CONNECTION_MAX,
    STREAMS_PER_S,
)
from omninode.node.net.transport import PeerSocket

LIBP2P_VERSION: Final = "0.8.1"

StreamFaultHandler = Callable[["GuardedYamux", Exception], None]
"""Told about a stream of a connection that failed inside libp2p or in a handler."""


_FRAME_PAYLOAD_BYTES: Final = yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE
_END_CHECK_S: Final = 0.1


class PromptLock:
    """A lock that is taken without a checkpoint when it is free (C8)."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_error: object) -> None:
        self._lock.release()


class WindowExceeded(trio.TooSlowError):
    """A peer sent more than it was allowed to (C4).

    `TooSlowError` is the one kind of error on which libp2p's reader of a connection gives the whole
    connection up; any other would be logged and the data kept.
    """


class GuardedYamuxStream(YamuxStream):
    """A Yamux stream whose window has a fixed size and is enforced (C4, C5, C7, C8)."""

    def __init__(self, stream_id: int, conn: Yamux, is_initiator: bool) -> None:  # noqa: FBT001
        self._receive_window = STREAM_WINDOW_BYTES
        self._send_window = 0
        self._has_window = trio.Event()
        self._writing = PromptLock()
        super().__init__(stream_id, conn, is_initiator)
        self.window_lock = PromptLock()  # type: ignore[assignment]

    @property
    def send_window(self) -> int:
        """Bytes that the peer will still take."""
        return self._send_window

    @send_window.setter
    def send_window(self, value: int) -> None:
        self._send_window = value
        if value > 0:
            self._has_window.set()

    @override
    async def read(self, n: int | None = None) -> bytes:
        """Return what has come, up to `n` bytes; wait if nothing has.

        Raises:
            MuxedStreamReset: The peer reset the stream.
            MuxedStreamEOF: The peer, or the connection, ended.
        """
        connection, key = self.conn, self.stream_id
        while not (buffer := connection.stream_buffers.get(key)):
            if self.reset_received:
                raise MuxedStreamReset("stream was reset")
            if buffer is None or self.recv_closed or connection.event_shutting_down.is_set():
                raise MuxedStreamEOF("stream ended")
            await connection.stream_events[key].wait()
            if key in connection.stream_events:
                connection.stream_events[key] = trio.Event()
        data = bytes(buffer[:n] if n is not None and n >= 0 else buffer)
        del buffer[: len(data)]
        if self.closed and not buffer:
            await connection._finalize_stream(self, fully_closed=True)  # noqa: SLF001
        await self._auto_tune_and_send_window_update(bytes_read=len(data))
        return data

    @override
    async def write(self, data: bytes) -> None:
        """Write all of `data`, in frames as the peer's window allows (C7).

        Raises:
            MuxedStreamError: The stream is closed, or the peer takes nothing for a while.
        """
        async with self._writing:
            sent = 0
            while sent < len(data):
                if self.send_closed or self.closed:
                    raise MuxedStreamError("stream is closed for sending")
                size = min(self._send_window, _FRAME_PAYLOAD_BYTES, len(data) - sent)
                if size <= 0:
                    await self._wait_for_window()
                    continue
                self._send_window -= size
                header = struct.pack(
                    yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, size
                )
                await self.conn._write_frame(header + data[sent : sent + size])  # noqa: SLF001
                sent += size

    async def _wait_for_window(self) -> None:
        """Return when the peer takes data again, or the stream has ended."""
        self._has_window = trio.Event()
        deadline = trio.current_time() + STREAM_STALL_TIMEOUT_MS / 1000
        while not (self._send_window > 0 or self.closed):
            if trio.current_time() > deadline:
                raise MuxedStreamError("peer takes no data")
            # The end of a stream sets no event for its writer.
            with trio.move_on_after(_END_CHECK_S):
                await self._has_window.wait()

    @property
    def recv_window(self) -> int:
        """Bytes that the peer may still send."""
        return self._receive_window

    @recv_window.setter
    def recv_window(self, value: int) -> None:
        if value < 0:
            raise WindowExceeded(f"stream {self.stream_id}: {-value} bytes beyond the window")
        self._receive_window = value

    async def widen(self, window_bytes: int) -> None:
        """Let the peer have up to `window_bytes` unread bytes in this stream."""
        extra = window_bytes - self.target_recv_window
        if extra > 0:
            self.target_recv_window = window_bytes
            self.recv_window += extra
            await self.send_window_update(extra)

    @override
    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        """Give back what was read once it is half a window (C5)."""
        self._pending_recv_release += bytes_read
        release = self._pending_recv_release
        if release * 2 >= self.target_recv_window:
            self._pending_recv_release = 0
            self.recv_window += release
            await self.send_window_update(release)


class GuardedYamux(Yamux):
    """A Yamux connection with a ping of ours, guarded tasks and counted streams."""

    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,  # noqa: FBT001 - libp2p's signature
        on_close: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(secured_conn, peer_id, is_initiator, on_close)
        self.streams_lock = PromptLock()  # type: ignore[assignment]
        self._write_lock = PromptLock()  # type: ignore[assignment]
        self.inbound_streams = 0
        self.openings = Allowance(STREAMS_PER_S, burst=STREAMS_BURST)
        self.session_ready = trio.Event()
        """Set by the network once it has taken the connection in."""
        self.on_stream_fault: StreamFaultHandler = _ignore_fault
        self.socket = _socket_of(self)

    async def ping(self) -> float:
        """Return the seconds of one round trip; waits as long as it takes."""
        self._ping_id = (self._ping_id + 1) & 0xFFFF_FFFF
        self._ping_event = trio.Event()
        header = struct.pack(
            yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id
        )
        started = trio.current_time()
        self._ping_sent_time = started
        await self._write_frame(header)
        await self._ping_event.wait()
        return trio.current_time() - started

    @override
    async def start(self) -> None:
        """Run the connection; its failure is its own end and nobody else's (C6)."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            self.on_stream_fault(self, error)
            await self.socket.abort()

    @override
    async def _measure_rtt_loop(self) -> None:
        """Do nothing: the network pings by itself, and acts on a missing answer."""

    @override
    async def _write_frame(self, data: bytes) -> None:
        """Write one frame whole; libp2p's own also builds a log line for each."""
        async with self._write_lock:
            await self.secured_conn.write(data)


def apply() -> None:
    """Put the changes in place; doing it twice is harmless.

    Raises:
        BrokenInvariant: Another version of libp2p is installed: the changes reach into its inside
            and were tested against `LIBP2P_VERSION` only.
    """
    version = importlib.metadata.version("libp2p")
    if version != LIBP2P_VERSION:
        raise BrokenInvariant(f"libp2p {version} is installed, tested with {LIBP2P_VERSION} only")
    # Its messages are written for its developers, and strangers could fill the log with them.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    yamux.YamuxStream = GuardedYamuxStream  # type: ignore[misc]
    # The largest frame that is read whole before the window is looked at (C4).
    yamux.MAX_WINDOW_SIZE = STREAM_WINDOW_BYTES
    muxer_multistream.Yamux = GuardedYamux  # type: ignore[attr-defined]
    multiselect_communicator.read_delim = _read_delimited  # type: ignore[attr-defined]
    SwarmConn._handle_muxed_stream = _handle_muxed_stream  # type: ignore[method-assign]  # noqa: SLF001


def guarded(owner: INetConn | INetStream) -> GuardedYamux:
    """Return the connection under one of libp2p's wrappers.

    Raises:
        BrokenInvariant: It was made before `apply`.
    """
    connection = owner.muxed_conn
    if not isinstance(connection, GuardedYamux):
        raise BrokenInvariant(f"a connection without guard: {type(connection).__name__}")
    return connection


async def reset_quietly(stream: IMuxedStream | INetStream) -> None:
    """Reset a stream whose connection may be gone already."""
    with suppress(BaseLibp2pError):
        await stream.reset()


_handle_muxed_stream_stock = SwarmConn._handle_muxed_stream  # noqa: SLF001


async def _handle_muxed_stream(self: SwarmConn, muxed_stream: IMuxedStream) -> None:
    """Serve one stream that a peer opened (C1, C2)."""
    connection = guarded(self)
    if connection.inbound_streams >= STREAMS_PER_CONNECTION_MAX:
        await reset_quietly(muxed_stream)
        return
    connection.inbound_streams += 1
    try:
        await connection.openings.spend()
        await _handle_muxed_stream_stock(self, muxed_stream)
    except Exception as error:  # noqa: BLE001 - the boundary to a peer
        connection.on_stream_fault(connection, error)
        await reset_quietly(muxed_stream)
    finally:
        connection.inbound_streams -= 1


async def _read_delimited(reader: Reader) -> bytes:
    """Read one multistream message: a length, a text, a line feed (C3)."""
    length = await decode_uvarint_from_stream(reader)
    if not 0 < length <= NEGOTIATION_BYTES_MAX:
        raise ParseError(f"multistream message of {length} bytes")
    message = await read_exactly(reader, length)
    if message[-1:] != b"\n":
        raise ParseError("multistream message without a line feed")
    try:
        message.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"multistream message is no text: {error}") from None
    return message[:-1]


def _socket_of(connection: Yamux) -> PeerSocket:
    """Return the socket under a connection, through the layers of libp2p."""
    layer: Any = connection.secured_conn
    for name in ("conn", "read_writer", "read_write_closer", "stream"):
        layer = getattr(layer, name, None)
    if not isinstance(layer, PeerSocket):
        raise BrokenInvariant("a connection that did not come through omninode.node.net.transport")
    return layer


def _ignore_fault(connection: GuardedYamux, error: Exception) -> None:
    """Stand in until the network has taken the connection in."""
