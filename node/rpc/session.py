"""One WebSocket connection: calls in, responses and stream messages out.

Rules
    S1. Calls are started in the order in which they come; those that wait run side by side, up to
        `CALLS_IN_FLIGHT_MAX`, and answer when they are done.
    S2. Back-pressure: a client that does not read its responses is not read either.
    S3. A client that can not pay (`rate_limited`) is answered and then not read until it can.
    S4. A client too slow for its subscriptions is closed with 4008 and a reason; at a stop of the
        node, with 1001.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import trio

from omninode.errors import UserError
from omninode.node.rpc.context import Context
from omninode.node.rpc.dispatch import Answer
from omninode.node.rpc.endpoint import Endpoint
from omninode.node.rpc.envelope import Batch, Call, Refusal, error_response
from omninode.node.rpc.limits import CALLS_IN_FLIGHT_MAX, LINGER_S, SUBSCRIPTIONS_MAX
from omninode.node.rpc.outbox import BookUpdate, Budget, Outbox, Stream

CLOSE_GOING_AWAY: Final = 1001
CLOSE_SLOW: Final = 4008

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Session:
    """Serves one accepted WebSocket.

    Args:
        endpoint: Reads and answers requests.
        client: Whom to charge.
        receive: The ASGI channel in.
        send: The ASGI channel out.
        stopping: Set when the node stops.
        budget: Bytes waiting in all outboxes.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        client: str,
        receive: Receive,
        send: Send,
        stopping: trio.Event,
        budget: Budget,
    ) -> None:
        self._endpoint = endpoint
        self._client = client
        self._receive = receive
        self._send = send
        self._stopping = stopping
        self._outbox = Outbox(budget)
        self._scope = trio.CancelScope()
        self._closing: tuple[int, str] | None = None
        self._in_flight = 0
        self._landed = trio.Event()
        self._context = Context(endpoint.node, self)
        self._batch_context = Context(endpoint.node, self, in_batch=True)
        self._streams: dict[str, tuple[Stream, Callable[[], None]]] = {}
        self._subscriptions_made = 0

    def open_stream(self, subscribe: Callable[[Stream], Callable[[], None]]) -> Stream:
        """Make a subscription.

        Args:
            subscribe: Starts the flow into a stream; returns what ends it.

        Raises:
            UserError: `too_many_subscriptions`.
        """
        if len(self._streams) >= SUBSCRIPTIONS_MAX:
            raise UserError(
                "too_many_subscriptions",
                f"{SUBSCRIPTIONS_MAX} subscriptions on this connection already",
            )
        self._subscriptions_made += 1
        stream = Stream(f"0x{self._subscriptions_made:x}")
        self._streams[stream.subscription] = (stream, subscribe(stream))
        return stream

    def close_stream(self, subscription: str) -> bool:
        """End a subscription; false if there is none of that id. Nothing more of it is sent."""
        entry = self._streams.pop(subscription, None)
        if entry is None:
            return False
        stream, unsubscribe = entry
        stream.ended = True
        unsubscribe()
        return True

    def push(self, stream: Stream, body: bytes) -> None:
        """Send a stream message, or close the connection of a client that is too slow (S4)."""
        if not self._outbox.put_event(stream, body):
            self._close_slow()

    def push_book(self, stream: Stream, update: BookUpdate) -> None:
        """Send a book update; those that wait behind each other merge."""
        if not self._outbox.put_book(stream, update):
            self._close_slow()

    def close(self, code: int, reason: str) -> None:
        """Close the connection; the first reason counts."""
        if self._closing is None:
            self._closing = (code, reason)
            self._end_streams()
            self._scope.cancel()

    def _close_slow(self) -> None:
        if self._closing is None:
            self._endpoint.dispatcher.observer.slow_client_closed()
            self.close(CLOSE_SLOW, "slow consumer: read faster or subscribe to less")

    def _end_streams(self) -> None:
        for subscription in list(self._streams):
            self.close_stream(subscription)
        self._outbox.close()

    async def run(self) -> None:
        """Serve until the client goes or the connection is closed."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch_stop)
                    await self._read(nursery)
                    nursery.cancel_scope.cancel()
        finally:
            self._end_streams()
        if self._closing is not None:
            code, reason = self._closing
            with trio.move_on_after(LINGER_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _watch_stop(self) -> None:
        await self._stopping.wait()
        self.close(CLOSE_GOING_AWAY, "the node is stopping")

    async def _write(self) -> None:
        while True:
            message = await self._outbox.take()
            await self._send({"type": "websocket.send", "text": message.decode()})

    async def _read(self, nursery: trio.Nursery) -> None:
        while True:
            await self._outbox.has_room()  # S2
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return
            if "oversized" in message:
                self._outbox.put(self._endpoint.too_large(message["oversized"]))
                continue
            text = message.get("text")
            body = text.encode() if text is not None else message["bytes"]
            request = self._endpoint.read(body, self._client)
            if isinstance(request, Refusal) and "retry_after_ms" in request.error.data:
                self._outbox.put(error_response(request.id, request.error))
                await trio.sleep(int(request.error.data["retry_after_ms"]) / 1000)  # S3
            elif isinstance(request, Batch):
                answers = self._endpoint.begin_batch(request, self._batch_context)
                await self._start(nursery, self._endpoint.finish_batch(request, answers))
            else:
                await self._call(nursery, request)

    async def _call(self, nursery: trio.Nursery, item: Call | Refusal) -> None:
        answer = self._endpoint.dispatcher.begin(item, self._context)
        if isinstance(answer, bytes):
            self._outbox.put(answer)
        elif answer is not None:
            await self._start(nursery, answer)

    async def _start(self, nursery: trio.Nursery, work: Coroutine[Any, Any, Answer]) -> None:
        self._in_flight += 1
        nursery.start_soon(self._finish, work)
        while self._in_flight >= CALLS_IN_FLIGHT_MAX:  # S1
            self._landed = trio.Event()
            await self._landed.wait()

    async def _finish(self, work: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await work
        finally:
            self._in_flight -= 1
            self._landed.set()
        if answer is not None:
            self._outbox.put(answer)


def not_on_http() -> UserError:
    """Return the refusal of a streaming method called over HTTP."""
    return UserError(
        "websocket_required",
        "subscriptions need a WebSocket connection",
    )
