"""A small HTTP/1.1 server for one function: h11 on trio.

Rules
    H1. One client's connection can not end the server: whatever fails in it, it ends.
    H2. Connections, heads and bodies are bounded; nothing waits for ever.
    H3. Pages of any origin may ask (CORS), as with every public endpoint; who asks as a page is
        told to the handler.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import h11
import structlog
import trio

from omninode.contracts.devchain.limits import (
    BODY_BYTES_MAX,
    BODY_TIMEOUT_S,
    CONNECTIONS_MAX,
    HEAD_BYTES_MAX,
    IDLE_TIMEOUT_S,
    SEND_TIMEOUT_S,
)
from omninode.errors import ConfigError, StorageFault

Handler = Callable[[bytes, bool], Awaitable[bytes | None]]
"""Takes a body and whether a page sent it; returns the response's body, or `None` for none."""

Headers = list[tuple[str, str]]

_log = structlog.get_logger("devchain")

_CORS: Final[Headers] = [("access-control-allow-origin", "*"), ("vary", "origin")]
_PREFLIGHT: Final[Headers] = [
    ("access-control-allow-methods", "POST, OPTIONS"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-max-age", "600"),
]
_RECEIVE_BYTES: Final = 64 * 1024


class _Refused(Exception):
    """A request that is answered with a status alone, after which the connection is closed."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class HttpServer:
    """Serves one handler on one port.

    Args:
        handler: Answers the body of a POST.
        host: Address or name to listen on.
        port: TCP port, 0 for any free one.
    """

    def __init__(self, handler: Handler, *, host: str, port: int) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._open = 0

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; reports the bound port.

        Raises:
            ConfigError: The address can not be bound.
            StorageFault: The handler met a failing disk.
        """
        try:
            listeners = await trio.open_tcp_listeners(self._port, host=self._host)
        except OSError as error:
            raise ConfigError(
                f"can not listen on {self._host} port {self._port}: {error.strerror}",
                hint="is another chain running? choose another port",
            ) from None
        port: int = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            task_status.started(port)
            await trio.serve_listeners(self._accept, listeners, handler_nursery=nursery)

    async def _accept(self, stream: trio.SocketStream) -> None:
        if self._open >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await _Connection(stream, self._handler).run()
        except (trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # The client left, or takes nothing (H2).
        except StorageFault:
            raise
        except Exception as error:  # noqa: BLE001 - the RPC boundary (H1)
            _log.error("connection_failed", error_id=secrets.token_hex(8), exc_info=error)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)


class _Connection:
    """One connection, request after request."""

    def __init__(self, stream: trio.SocketStream, handler: Handler) -> None:
        self._stream = stream
        self._handler = handler
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def run(self) -> None:
        """Serve requests until the client ends or breaks the rules."""
        while True:
            try:
                with trio.move_on_after(IDLE_TIMEOUT_S) as idle:
                    event = await self._next_event()
                if idle.cancelled_caught or not isinstance(event, h11.Request):
                    return
                await self._serve(event)
            except _Refused as refused:
                await self._refuse(refused)
                return
            except h11.RemoteProtocolError as error:
                await self._refuse(_Refused(error.error_status_hint, "not HTTP/1.1"))
                return
            if self._http.our_state is h11.MUST_CLOSE:
                return
            self._http.start_next_cycle()

    async def _serve(self, request: h11.Request) -> None:
        headers = {name.lower(): value for name, value in request.headers}
        body = await self._read_body()
        match request.method, request.target:
            case b"OPTIONS", _:
                await self._respond(204, b"", [*_CORS, *_PREFLIGHT])
            case b"POST", b"/":
                if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/json":
                    raise _Refused(415, "content type application/json is wanted")
                response = await self._handler(body, b"origin" in headers)
                kind = [("content-type", "application/json"), *_CORS]
                await self._respond(200 if response is not None else 204, response or b"", kind)
            case _, b"/":
                raise _Refused(405, "POST a JSON-RPC request")
            case _:
                raise _Refused(404, "nothing is here")

    async def _read_body(self) -> bytes:
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        chunks: list[bytes] = []
        size = 0
        with trio.move_on_after(BODY_TIMEOUT_S):
            while True:
                event = await self._next_event()
                if isinstance(event, h11.EndOfMessage):
                    return b"".join(chunks)
                if not isinstance(event, h11.Data):
                    raise trio.BrokenResourceError
                size += len(event.data)
                if size > BODY_BYTES_MAX:
                    raise _Refused(413, f"at most {BODY_BYTES_MAX} bytes")
                chunks.append(bytes(event.data))
        raise _Refused(408, f"no whole body within {BODY_TIMEOUT_S:g} s")

    async def _next_event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._stream.receive_some(_RECEIVE_BYTES))

    async def _refuse(self, refused: _Refused) -> None:
        """Answer with a status and the reason, and throw away what is still on its way."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"%b"}}' % (
            refused.reason.encode()
        )
        close = [("content-type", "application/json"), ("connection", "close"), *_CORS]
        await self._respond(refused.status, body, close)
        with trio.move_on_after(1):
            # Closing with unread data would reset the connection under the answer.
            await self._stream.send_eof()
            while await self._stream.receive_some(_RECEIVE_BYTES):
                pass

    async def _respond(self, status: int, body: bytes, headers: Headers) -> None:
        if status != 204:
            headers = [*headers, ("content-length", str(len(body)))]
        data = self._http.send(h11.Response(status_code=status, headers=headers)) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        with trio.fail_after(SEND_TIMEOUT_S):
            await self._stream.send_all(data)

    async def _send(self, event: h11.InformationalResponse) -> None:
        data = self._http.send(event)
        if data:
            with trio.fail_after(SEND_TIMEOUT_S):
                await self._stream.send_all(data)
