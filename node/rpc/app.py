"""The ASGI application of the RPC port: `POST /`, `GET /` upgraded to WebSocket, `GET /health`.

It is an application of its own and not a framework's: three routes need no router, and a call goes
through one function less. Every refusal carries a JSON-RPC error body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from omninode.node.health import Health
from omninode.node.rpc.connection import refusal_body
from omninode.node.rpc.endpoint import Endpoint
from omninode.node.rpc.envelope import Refusal, error_response
from omninode.node.rpc.limits import BODY_TIMEOUT_S, DRAIN_BYTES_MAX
from omninode.node.rpc.origins import OriginPolicy
from omninode.node.rpc.outbox import Budget
from omninode.node.rpc.rate import client_of
from omninode.node.rpc.session import Receive, Send, Session

Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_CONTENT_TYPES: Final = {b"application/json", b"application/json-rpc", b"application/jsonrequest"}
_HTTP_METHODS: Final[dict[str, bytes]] = {"/": b"POST, OPTIONS", "/health": b"GET, HEAD"}


class _BodyRefused(Exception):
    """A body that is not taken."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


class RpcApp:
    """Routes what comes in on the RPC port.

    Args:
        endpoint: Reads and answers requests.
        health: The node's condition, as of now.
    """

    def __init__(self, endpoint: Endpoint, *, health: Callable[[], Health]) -> None:
        self._endpoint = endpoint
        self._health = health
        self._origins = OriginPolicy(endpoint.settings.cors_origins)
        self._budget = Budget()
        self.sessions: set[Session] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request or one WebSocket (ASGI)."""
        headers: Headers = dict(scope["headers"])
        client = client_of(scope["client"][0] if scope["client"] else "")
        if scope["type"] == "websocket":
            await self._websocket(scope, headers, receive, send, client=client)
        else:
            await self._http(scope, headers, receive, send, client=client)

    async def _http(
        self, scope: dict[str, Any], headers: Headers, receive: Receive, send: Send, *, client: str
    ) -> None:
        path, method = scope["path"], scope["method"]
        cors = self._origins.headers(headers)
        if path == "/" and method == "POST":
            await self._post(headers, receive, send, client=client, cors=cors)
        elif path == "/" and method == "OPTIONS":
            await respond(send, 204, b"", [*cors, *self._origins.preflight(headers)])
        elif path == "/health" and method in ("GET", "HEAD"):
            health = self._health()
            body = msgspec.json.encode(health)
            no_store = (b"cache-control", b"no-store")
            await respond(send, 200 if health.healthy else 503, body, [_JSON, no_store, *cors])
        elif path in _HTTP_METHODS:
            await respond(send, 405, _wrong_method(path), [_JSON, (b"allow", _HTTP_METHODS[path])])
        else:
            body = refusal_body("unknown_path", "there is nothing here")
            await respond(send, 404, body, [_JSON])

    async def _post(
        self, headers: Headers, receive: Receive, send: Send, *, client: str, cors: HeaderList
    ) -> None:
        try:
            self._check_content_type(headers)
            body = await self._read_body(receive)
        except _BodyRefused as refused:
            await self._drain(receive)
            close = (b"connection", b"close")
            await respond(send, refused.status, refused.body, [_JSON, close, *cors])
            return
        request = self._endpoint.read(body, client)
        if isinstance(request, Refusal) and "retry_after_ms" in request.error.data:
            seconds = -(-int(request.error.data["retry_after_ms"]) // 1000)
            retry = (b"retry-after", b"%d" % seconds)
            answer = error_response(request.id, request.error)
            await respond(send, 429, answer, [_JSON, retry, *cors])
            return
        response = await self._endpoint.answer(request)
        if response is None:
            await respond(send, 204, b"", cors)
        else:
            await respond(send, 200, response, [_JSON, *cors])

    def _check_content_type(self, headers: Headers) -> None:
        """Refuse what a page of any origin could send without asking the browser (CSRF)."""
        given = headers.get(b"content-type", b"")
        kind, _, parameters = given.partition(b";")
        charset = parameters.strip().lower().removeprefix(b"charset=").strip(b'"')
        if kind.strip().lower() in _CONTENT_TYPES and charset in (b"", b"utf-8"):
            return
        shown = given[:64].decode("ascii", "replace")
        body = refusal_body(
            "unsupported_media_type",
            f"content type {shown!r}",
        )
        raise _BodyRefused(415, body)

    async def _read_body(self, receive: Receive) -> bytes:
        size_max = self._endpoint.settings.body_bytes_max
        chunks: list[bytes] = []
        size = 0
        try:
            with trio.fail_after(BODY_TIMEOUT_S):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _BodyRefused(400, b"")
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > size_max:
                        raise _BodyRefused(413, self._endpoint.too_large(size))
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except trio.TooSlowError:
            body = refusal_body("request_timeout", f"no whole body within {BODY_TIMEOUT_S:g} s")
            raise _BodyRefused(408, body) from None

    @staticmethod
    async def _drain(receive: Receive) -> None:
        """Throw the rest of a body away: an early close would reset the refusal under way."""
        size = 0
        with trio.move_on_after(BODY_TIMEOUT_S):
            while size <= DRAIN_BYTES_MAX:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return

    async def _websocket(
        self, scope: dict[str, Any], headers: Headers, receive: Receive, send: Send, *, client: str
    ) -> None:
        await receive()
        if scope["path"] != "/":
            body = refusal_body("unknown_path", "there is no WebSocket here", hint="connect to /")
            await _reject(send, 404, body)
            return
        if not self._origins.allows_websocket(headers):
            body = refusal_body(
                "origin_not_allowed",
                "pages of this origin may not connect",
            )
            await _reject(send, 403, body)
            return
        await send({"type": "websocket.accept"})
        session = Session(
            self._endpoint,
            client=client,
            receive=receive,
            send=send,
            stopping=scope["state"]["stopping"],
            budget=self._budget,
        )
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)


def _wrong_method(path: str) -> bytes:
    hint = "POST a request, or upgrade to a WebSocket" if path == "/" else "GET it"
    return refusal_body("method_not_allowed", f"not a method of {path}", hint=hint)


async def respond(send: Send, status: int, body: bytes, headers: HeaderList) -> None:
    """Send a whole HTTP response."""
    if status != 204:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _reject(send: Send, status: int, body: bytes) -> None:
    """Answer a WebSocket handshake with an HTTP response."""
    length = (b"content-length", b"%d" % len(body))
    headers = [_JSON, length, (b"connection", b"close")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
