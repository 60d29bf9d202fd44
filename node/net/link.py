"""One outgoing plane stream to one peer: a queue bounded in bytes and one writer.

Rules
    L1. `push` never waits. A full queue refuses the new frame; what is queued stays.
    L2. The writer wakes at once and joins what waits into one write of up to
        `LINK_WRITE_BYTES_MAX`, so that a burst costs one encryption and one system call.
    L3. One task writes, so frames never mix.
    L4. A peer that takes nothing for 5 s (Yamux: no window; socket: S1) is given up: the link ends
        the connection. Votes for a peer that is minutes behind help nobody; it will ask for blocks.
    L5. A stream that the peer ends soon is opened again after a pause that doubles, until one lives
        or `retry` says that something has changed.
"""

from __future__ import annotations

from collections import deque

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from omninode.errors import PeerFault
from omninode.node.net.framing import LENGTH_BYTES
from omninode.node.net.hardening import GuardedYamux, reset_quietly
from omninode.node.net.limits import (
    LINK_QUEUE_BYTES_MAX,
    LINK_REOPEN_DELAY_MAX_MS,
    LINK_REOPEN_DELAY_MS,
    LINK_STEADY_MS,
    LINK_WRITE_BYTES_MAX,
    PENALTY_MALFORMED,
    STREAM_READ_BYTES,
)
from omninode.node.net.negotiation import OpeningAnswer, ProtocolRefused, opening
from omninode.node.net.settings import Plane


class LinkStalled(Exception):
    """The peer takes no data (L4)."""


class Link:
    """The way out to one peer on one plane.

    Args:
        connection: The connection to the peer.
        plane: Which stream to open.
    """

    def __init__(self, connection: GuardedYamux, plane: Plane) -> None:
        self._connection = connection
        self._plane = plane
        self._frames: deque[bytes] = deque()
        self._wake = trio.Event()
        self.queued_bytes = 0
        self.frames_dropped = 0
        self.is_up = False
        """Whether the peer has accepted the stream."""
        self._scope = trio.CancelScope()
        self._retry = trio.Event()

    def push(self, frame: bytes) -> bool:
        """Queue one frame; False if the queue is full (L1)."""
        size = len(frame) + LENGTH_BYTES
        if self.queued_bytes + size > LINK_QUEUE_BYTES_MAX:
            self.frames_dropped += 1
            return False
        self._frames.append(frame)
        self.queued_bytes += size
        self._wake.set()
        return True

    async def run(self) -> None:
        """Keep the stream open and write what is queued, until stopped (L5).

        Raises:
            LinkStalled: The peer takes nothing (L4).
            PeerFault: The peer said something on a stream that is not its own.
        """
        delay_ms = LINK_REOPEN_DELAY_MS
        with self._scope:
            while not self._connection.event_shutting_down.is_set():
                started = trio.current_time()
                await self._run_stream()
                self.is_up = False
                if trio.current_time() - started > LINK_STEADY_MS / 1000:
                    delay_ms = LINK_REOPEN_DELAY_MS
                with trio.move_on_after(delay_ms / 1000) as pause:
                    await self._retry.wait()
                    self._retry = trio.Event()
                delay_ms = (
                    min(delay_ms * 2, LINK_REOPEN_DELAY_MAX_MS)
                    if pause.cancelled_caught
                    else LINK_REOPEN_DELAY_MS
                )
        self.is_up = False

    def retry(self) -> None:
        """Open a stream that the peer ended again at once (L5)."""
        if not self.is_up:
            self._retry.set()

    def stop(self) -> None:
        """End the stream; what is queued is dropped."""
        self._scope.cancel()

    async def _run_stream(self) -> None:
        """Serve one stream until the peer ends it."""
        try:
            stream = await self._connection.open_stream()
        except BaseLibp2pError:
            return
        stalled = False
        fault: PeerFault | None = None

        async def watch() -> None:
            nonlocal fault
            try:
                await self._watch(stream)
            except PeerFault as error:
                fault = error
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await self._write_all(stream)
        except* BaseLibp2pError:
            # Ended by the peer, or no window for 5 s; only the second leaves it open.
            stalled = not (stream.closed or self._connection.event_shutting_down.is_set())
        finally:
            with trio.CancelScope(shield=True):
                await reset_quietly(stream)
        if stalled:
            raise LinkStalled(f"peer takes no {self._plane.name.lower()} frames")
        if fault is not None:
            raise fault

    async def _write_all(self, stream: YamuxStream) -> None:
        await stream.write(opening(self._plane.value))
        while True:
            if not self._frames:
                self._wake = trio.Event()
                await self._wake.wait()
            await stream.write(self._take())

    def _take(self) -> bytes:
        """Return the frames of the next write, joined (L2)."""
        parts: list[bytes] = []
        size = 0
        while self._frames and size < LINK_WRITE_BYTES_MAX:
            frame = self._frames.popleft()
            parts += (len(frame).to_bytes(LENGTH_BYTES, "big"), frame)
            size += len(frame) + LENGTH_BYTES
        self.queued_bytes -= size
        return b"".join(parts)

    async def _watch(self, stream: YamuxStream) -> None:
        """Notice that the peer agreed to the stream, and later that it ended it."""
        answer = OpeningAnswer(self._plane.value)
        try:
            while True:
                rest = answer.feed(await stream.read(STREAM_READ_BYTES))
                self.is_up = answer.is_agreed
                if rest:
                    raise PeerFault("talks_back", "data on our stream", penalty=PENALTY_MALFORMED)
        except (BaseLibp2pError, ProtocolRefused):
            return
