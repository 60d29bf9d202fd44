"""HTTP and WebSocket connections under hypercorn on trio: opened, counted, ended.

hypercorn parses HTTP (h11) and WebSocket (wsproto) and calls an ASGI application. What it leaves
open is closed here and in `connection`:

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
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from omninode.errors import ConfigError
from omninode.node.log import get_logger
from omninode.node.rpc.connection import Connection, PatientStream, refusal_body
from omninode.node.rpc.limits import (
    HEADER_BYTES_MAX,
    HEADER_TIMEOUT_S,
    LINGER_S,
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
        patient = cast("Any", PatientStream(stream))
        connection = Connection(self._app, self._config, self._context, cast("Any", state), patient)
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
