"""One connection of the HTTP server: what hypercorn leaves open is closed here.

The rules H3 to H6 are those of `transport`. This is the one module that knows hypercorn's inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import h11
import trio
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import (
    ASGIWebsocketState,
    FrameTooLargeError,
    WebsocketBuffer,
    WSStream,
)
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState, H11SendableEvent
from typing_extensions import override
from wsproto.events import Message, Ping

from omninode.node.rpc.envelope import NULL_ID, error_response
from omninode.node.rpc.errors import error_object
from omninode.node.rpc.limits import (
    DRAIN_BYTES_MAX,
    LINGER_S,
    PING_INTERVAL_S,
    SEND_CHUNK_BYTES,
    SEND_STALL_S,
)

_STATUS_WORDS: Final = {
    400: "bad_http",
    404: "unknown_path",
    408: "request_timeout",
    413: "request_too_large",
    426: "bad_http",
    431: "request_too_large",
    500: "internal_error",
    501: "bad_http",
}


def refusal_body(reason: str, message: str, *, hint: str = "", **more: str | int) -> bytes:
    """Return the JSON-RPC error body of a refusal that belongs to no request id."""
    return error_response(NULL_ID, error_object(reason, message, hint=hint, **more))


class PatientStream:
    """A TCP stream that cuts off a client who takes nothing for `SEND_STALL_S` (H3)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket: Final = stream.socket
        self.receive_some: Final = stream.receive_some
        self.send_eof: Final = stream.send_eof
        self.aclose: Final = stream.aclose

    async def send_all(self, data: bytes) -> None:
        """Send, with a deadline for each chunk.

        Raises:
            trio.BrokenResourceError: The client is gone, or takes nothing.
        """
        if len(data) <= SEND_CHUNK_BYTES:
            await self._send_chunk(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), SEND_CHUNK_BYTES):
            await self._send_chunk(view[start : start + SEND_CHUNK_BYTES])

    async def _send_chunk(self, chunk: bytes | memoryview) -> None:
        with trio.move_on_after(SEND_STALL_S) as scope:
            await self._stream.send_all(chunk)
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client takes nothing")


class Connection(TCPServer):
    """One connection: HTTP/1.1 without a choice (H4), and an end that does not wait (H3)."""

    @override
    async def run(self) -> None:
        socket = cast("trio.SocketStream", self.stream).socket
        client, server = socket.getpeername()[:2], socket.getsockname()[:2]
        try:
            async with trio.open_nursery() as nursery, TaskGroup() as group:
                self._task_group = group
                protocol = _Http1(
                    self.app,
                    self.config,
                    self.context,
                    group,
                    cast("ConnectionState", self.state),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                self.protocol = cast("Any", protocol)

                def end_soon() -> None:
                    nursery.cancel_scope.deadline = trio.current_time() + LINGER_S

                protocol.end_soon = end_soon
                protocol.gone = trio.Event()
                await self.idle_task.restart(group, self._idle_timeout)
                await self._read_data()
                await self.idle_task.stop()
                protocol.gone.set()
                end_soon()
        except OSError:
            pass


class _Http1(H11Protocol):
    """HTTP/1.1 with our refusals (H6) and without upgrades other than plain WebSocket (H4)."""

    end_soon: Callable[[], None]
    gone: trio.Event
    _refused = False
    _head = b""

    @override
    async def _check_protocol(self, event: h11.Request) -> None:
        """Ignore offers of HTTP/2 (H4)."""

    @override
    async def _create_stream(self, request: h11.Request) -> None:
        headers = [pair for pair in request.headers.raw_items() if pair[0].lower() != _EXTENSIONS]
        if len(headers) != len(request.headers):
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        await super()._create_stream(request)
        if isinstance(self.stream, WSStream):
            self.stream.buffer = _Buffer(
                self.config.websocket_max_message_size, on_overflow=self.end_soon
            )
            self.task_group.spawn(self._ping, self.stream)

    async def _ping(self, stream: WSStream) -> None:
        """Ping a WebSocket client; hypercorn's own way would outlive the connection."""
        while not self.gone.is_set():
            with trio.move_on_after(PING_INTERVAL_S):
                await self.gone.wait()
            if stream.state is ASGIWebsocketState.CONNECTED:
                await stream._send_wsproto_event(Ping())  # noqa: SLF001 - ASGI knows no ping

    @override
    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and event.status_code >= 400 and _is_bare(event):
            body = _status_body(event.status_code)
            headers = _refusal_headers(body)
            await super().stream_send(
                Response(stream_id=event.stream_id, headers=headers, status_code=event.status_code)
            )
            await super().stream_send(Body(stream_id=event.stream_id, data=body))
            self._refused = True
            return
        await super().stream_send(event)
        if self._refused and isinstance(event, EndBody):
            await self.send(Closed())

    @override
    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Send a response's head together with what follows: each send is a system call."""
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            # After an error of the client there is nothing to be said any more.
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        self._head = data if isinstance(event, h11.Response) else b""
        if data and not self._head:
            await self.send(RawData(data=data))

    @override
    async def _send_error_response(self, status_code: int) -> None:
        body = _status_body(status_code)
        headers = [*_refusal_headers(body), *self.config.response_headers("h11")]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


_EXTENSIONS: Final = b"sec-websocket-extensions"


def _is_bare(response: Response) -> bool:
    return (b"content-length", b"0") in response.headers


def _status_body(status: int) -> bytes:
    word = _STATUS_WORDS.get(status, "bad_http")
    return refusal_body(word, f"HTTP {status}: not a request this server can serve")


def _refusal_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]


class _Buffer(WebsocketBuffer):
    """Collects the frames of a message; throws an oversized one away while it arrives (H5)."""

    def __init__(self, max_length: int, *, on_overflow: Callable[[], None]) -> None:
        super().__init__(max_length)
        self._size = 0
        self._on_overflow = on_overflow

    @override
    def extend(self, event: Message[Any]) -> None:
        """Add a frame's data.

        Raises:
            FrameTooLargeError: Even the bound of what is thrown away is exceeded.
        """
        self._size += len(event.data)
        if self._size <= self.max_length:
            super().extend(event)
            return
        self.value = None
        if self._size > DRAIN_BYTES_MAX:
            self._on_overflow()
            raise FrameTooLargeError

    @override
    def to_message(self) -> dict[str, Any]:
        """Return the ASGI event; without data if the message was too large."""
        if self._size > self.max_length:
            return {"type": "websocket.receive", "oversized": self._size}
        message: dict[str, Any] = super().to_message()
        return message

    @override
    def clear(self) -> None:
        super().clear()
        self._size = 0
