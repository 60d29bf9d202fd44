"""One WebSocket to one validator: calls, subscriptions, and connecting again.

Rules
    N1. A call is answered exactly once: by the validator, or with `connection_lost`.
    N2. Calls that wait together leave as one JSON-RPC batch; their order is kept.
    N3. Bounded: at `CALLS_WAITING_MAX` unanswered calls, or while an answer is overdue, the
        connection is not `ready`, and whoever has a choice takes another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from omninode.errors import EndpointError, UserError
from omninode.node.client import error_of
from omninode.node.devnet.limits import (
    BATCH_CALLS_MAX,
    CALL_TIMEOUT_S,
    CALLS_WAITING_MAX,
    CONNECT_TIMEOUT_S,
    MESSAGE_BYTES_MAX,
    RECONNECT_DELAY_S,
    UNANSWERED_S,
)

Document = dict[str, Any]
Params = Document | Sequence[Any]
"""By name; by position for methods of the settlement chain."""

OnAnswer = Callable[[Any, UserError | EndpointError | None], None]
"""Told a call's result, or its error."""

NOTIFICATION_METHOD: Final = "omni_subscription"

_encode = msgspec.json.encode
_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class _Waiting:
    method: str
    on_answer: OnAnswer
    since_s: float


class Connection:
    """Talks to one validator.

    Args:
        url: `ws://HOST:PORT`.
        on_connect: Run on each new connection, before it is `ready`; subscribes.
        on_notice: Told the parameters of each stream message.
        on_change: Called when it may have become `ready`, or was lost.
    """

    def __init__(
        self,
        url: str,
        *,
        on_connect: Callable[[Connection], Awaitable[None]],
        on_notice: Callable[[Document], None],
        on_change: Callable[[], None],
    ) -> None:
        self.url: Final = url
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self.connected = False
        self._on_connect = on_connect
        self._on_notice = on_notice
        self._on_change = on_change
        self._count = 0
        self._waiting: dict[int, _Waiting] = {}
        self._outbox: deque[bytes] = deque()
        self._filled = trio.Event()

    @property
    def ready(self) -> bool:
        """Whether it is a good choice for the next call (N3)."""
        if not self.connected or len(self._waiting) >= CALLS_WAITING_MAX:
            return False
        oldest = next(iter(self._waiting.values()), None)
        return oldest is None or trio.current_time() - oldest.since_s < UNANSWERED_S

    def post(self, method: str, params: Params, on_answer: OnAnswer) -> None:
        """Send a call without waiting; never blocks (N1)."""
        self._count += 1
        identifier = self._count
        self._waiting[identifier] = _Waiting(method, on_answer, trio.current_time())
        request = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}
        self._outbox.append(_encode(request))
        self._filled.set()

    async def call(
        self, method: str, params: Params | None = None, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> Any:  # noqa: ANN401 - any JSON
        """Call a method and return its result.

        Raises:
            UserError: What the validator answered, `connection_lost` or `timeout`.
            EndpointError: What the settlement chain answered.
        """
        answered = trio.Event()
        answer: list[tuple[Any, UserError | EndpointError | None]] = []

        def take(result: object, error: UserError | EndpointError | None) -> None:
            answer.append((result, error))
            answered.set()

        self.post(method, {} if params is None else params, take)
        with trio.move_on_after(timeout_s):
            await answered.wait()
        if not answer:
            raise UserError("timeout", f"{self.url} did not answer {method} in {timeout_s} s")
        result, error = answer[0]
        if error is not None:
            raise error
        return result

    async def run(self) -> NoReturn:
        """Stay connected until cancelled."""
        while True:
            await self._connect_once()
            self._drop()
            await trio.sleep(RECONNECT_DELAY_S)

    async def _connect_once(self) -> None:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except (OSError, trio.TooSlowError):
            return
        async with stream, trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_TIMEOUT_S):
                    socket = await wrap_client_stream(
                        nursery,
                        stream,
                        f"{self._host}:{self._port}",
                        "/",
                        max_message_size=MESSAGE_BYTES_MAX,
                    )
            except (OSError, HandshakeError, trio.TooSlowError):
                nursery.cancel_scope.cancel()
                return
            self._drop()  # what was asked while there was no connection
            nursery.start_soon(self._write, socket)
            nursery.start_soon(self._greet)
            await self._read(socket)
            nursery.cancel_scope.cancel()

    async def _read(self, socket: WebSocketConnection) -> None:
        try:
            while True:
                self._take(await socket.get_message())
        except ConnectionClosed:
            return

    async def _greet(self) -> None:
        try:
            await self._on_connect(self)
        except UserError:
            return  # not ready; the reader notices when the connection ends
        self.connected = True
        self._on_change()

    async def _write(self, socket: WebSocketConnection) -> None:
        try:
            while True:
                while not self._outbox:
                    self._filled = trio.Event()
                    await self._filled.wait()
                await socket.send_message(self._next_message())
        except ConnectionClosed:
            return

    def _next_message(self) -> str:
        """Take the calls that wait, as one message (N2)."""
        count = min(len(self._outbox), BATCH_CALLS_MAX)
        calls = [self._outbox.popleft() for _ in range(count)]
        message = calls[0] if count == 1 else b"[" + b",".join(calls) + b"]"
        return message.decode()

    def _take(self, text: str | bytes) -> None:
        message = _decode(text)
        if isinstance(message, list):
            for answer in message:
                self._answer(answer)
        elif message.get("method") == NOTIFICATION_METHOD:
            self._on_notice(message["params"])
        else:
            self._answer(message)

    def _answer(self, message: Document) -> None:
        waiting = self._waiting.pop(message.get("id", 0), None)
        if waiting is None:
            return
        self._on_change()
        error = message.get("error")
        if error is None:
            waiting.on_answer(message["result"], None)
            return
        waiting.on_answer(None, error_of(waiting.method, error))

    def _drop(self) -> None:
        """Forget the connection that ended, and tell who waited (N1)."""
        self.connected = False
        self._outbox.clear()
        waiting, self._waiting = self._waiting, {}
        for call in waiting.values():
            call.on_answer(None, UserError("connection_lost", f"{self.url} went away"))
        self._on_change()
