"""HTTP and WebSocket connections under hypercorn on trio: the one module that knows its inside.

hypercorn parses HTTP (h11) and WebSocket (wsproto) and calls an ASGI application. What it leaves
open is closed here:

    H1. One client's connection can not end the server: whatever fails in it is logged, and it ends.
    H2. Connections are counted, altogether and by client; one too many is refused with a reason.
    H3. Nothing waits for ever: not for a request head, a silent client, or one that takes nothing.
    H4. HTTP/1.1 only. Compression is not negotiated: a small frame could unfold without bound.
    H5. An oversized WebSocket message is thrown away while it arrives, and answered.
    H6. Refusals that hypercorn makes by itself carry a JSON-RPC error body as well.
    H7. A stop lets running requests end and says goodbye to WebSockets, for `STOP_GRACE_S`.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
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
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, H11SendableEvent
from typing_extensions import override
from wsproto.events import Message, Ping

from omninode.errors import ConfigError
from omninode.node.log import get_logger
from omninode.node.rpc.envelope import NULL_ID, error_response
from omninode.node.rpc.errors import error_object
from omninode.node.rpc.limits import (
    DRAIN_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADER_TIMEOUT_S,
    LINGER_S,
    PING_INTERVAL_S,
    SEND_CHUNK_BYTES,
    SEND_STALL_S,
    SILENCE_TIMEOUT_S,
    STOP_GRACE_S,
)
from omninode.node.rpc.rate import client_of

_log = get_logger("rpc")

App = Callable[
    [Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]
"""An ASGI application."""

Address = tuple[str, int]

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


class HttpServer:
    """Serves one ASGI application on one TCP port.

    Args:
        app: The application; `scope["state"]["stopping"]` is an event that is set at a stop.
        host: Address or name to listen on.
        port: TCP port, 0 for any free one.
        connections_max: Most open connections.
        connections_per_client_max: Most of them from one client.
        message_bytes_max: Largest WebSocket message.
    """

    def __init__(
        self,
        app: App,
        *,
        host: str,
        port: int,
        connections_max: int,
        connections_per_client_max: int,
        message_bytes_max: int,
    ) -> None:
        self._app = ASGIWrapper(cast("Any", app))
        self._host = host
        self._port = port
        self._connections_max = connections_max
        self._per_client_max = connections_per_client_max
        self._config = _config(message_bytes_max)
        self._context = WorkerContext(None)
        self._clients: Counter[str] = Counter()
        self._streams: set[trio.SocketStream] = set()
        self._stopping = trio.Event()
        self._stopped = trio.Event()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._streams)

    async def run(
        self, *, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports the bound addresses.

        Raises:
            ConfigError: The address can not be bound.
        """
        try:
            listeners = await trio.open_tcp_listeners(self._port, host=self._host)
        except OSError as error:
            raise ConfigError(
                f"can not listen on {self._host} port {self._port}: {error.strerror}",
                hint="is another node running? choose another host or port in omninode.toml",
            ) from None
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(self._hold_connections)
            task_status.started([listener.socket.getsockname()[:2] for listener in listeners])
            try:
                await trio.serve_listeners(
                    self._serve_connection, listeners, handler_nursery=connections
                )
            finally:
                self._stopping.set()
                await self._context.terminated.set()

    async def _hold_connections(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Keep connections alive past the cancellation of the server, for the grace time (H7)."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as connections:
                task_status.started(connections)
                await self._stopping.wait()
                with trio.move_on_after(STOP_GRACE_S):
                    while self._streams:
                        await self._stopped.wait()
                connections.cancel_scope.cancel()
                # hypercorn shields what it sends; a closed socket ends that too.
                for stream in self._streams:
                    stream.socket.close()

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        try:
            peer = stream.socket.getpeername()
        except OSError:
            peer = ("", 0)
        client = client_of(str(peer[0]))
        full = len(self._streams) >= self._connections_max
        if full or self._clients[client] >= self._per_client_max:
            await _refuse_connection(stream)
            return
        self._clients[client] += 1
        self._streams.add(stream)
        try:
            await self._run_connection(stream)
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            self._streams.discard(stream)
            if self._stopping.is_set() and not self._streams:
                self._stopped.set()
            await trio.aclose_forcefully(stream)

    async def _run_connection(self, stream: trio.SocketStream) -> None:
        state: dict[str, Any] = {"stopping": self._stopping}
        patient = cast("Any", _PatientStream(stream))
        connection = _Connection(
            self._app, self._config, self._context, cast("Any", state), patient
        )
        try:
            await connection.run()
        except Exception as error:  # noqa: BLE001 - the RPC boundary (H1)
            _log.error("connection_failed", error_id=secrets.token_hex(8), exc_info=error)


def _config(message_bytes_max: int) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.h11_max_incomplete_size = HEADER_BYTES_MAX
    config.keep_alive_timeout = HEADER_TIMEOUT_S
    config.keep_alive_max_requests = 2**62
    config.read_timeout = int(SILENCE_TIMEOUT_S)
    config.include_server_header = False
    config.websocket_max_message_size = message_bytes_max
    return config


async def _refuse_connection(stream: trio.SocketStream) -> None:
    """Tell a client that there is no room, and close (H2)."""
    body = refusal_body("too_many_connections", "no room for another connection")
    head = (
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    try:
        with trio.move_on_after(LINGER_S):
            await stream.send_all(head + body)
            await stream.send_eof()
            # Closing with unread data would reset the connection under the answer.
            while await stream.receive_some(HEADER_BYTES_MAX):
                pass
    except trio.BrokenResourceError:
        pass
    finally:
        await trio.aclose_forcefully(stream)


class _PatientStream:
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


class _Connection(TCPServer):
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
