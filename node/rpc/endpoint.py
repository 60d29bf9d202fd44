"""What HTTP and WebSocket have in common: paying for a request, reading it, answering a batch."""

from __future__ import annotations

from collections.abc import Coroutine
from math import ceil
from typing import Any, Final

import trio

from omninode.node.config import RpcSection
from omninode.node.rpc.context import Context
from omninode.node.rpc.dispatch import Answer, Dispatcher
from omninode.node.rpc.envelope import (
    NULL_ID,
    Batch,
    Call,
    Refusal,
    Request,
    batch_response,
    error_response,
    parse,
)
from omninode.node.rpc.errors import error_object
from omninode.node.rpc.limits import RESPONSE_BYTES_MAX, TOKEN_BYTES
from omninode.node.rpc.rate import RateLimiter, cost_of

Started = Answer | Coroutine[Any, Any, Answer]
"""A call's answer, or what will give it."""


class Endpoint:
    """Reads and answers requests, whatever way they came.

    Args:
        dispatcher: Answers single calls.
        node: What the methods work on.
        settings: `[rpc]` of the configuration.
    """

    def __init__(self, dispatcher: Dispatcher, *, node: object, settings: RpcSection) -> None:
        self.dispatcher: Final = dispatcher
        self.node: Final = node
        self.settings: Final = settings
        self._limiter = RateLimiter(
            per_second=settings.requests_per_second, burst=settings.requests_burst
        )

    def read(self, text: bytes, client: str) -> Request:
        """Charge a request to its client and parse it.

        Args:
            text: The body; its size was checked.
            client: Whom to charge.

        Returns:
            The request; a refusal with reason `rate_limited` and `retry_after_ms` if it can not
            pay.
        """
        now_s = trio.current_time()
        paid = cost_of(1, len(text))
        wait_s = self._limiter.take(client, paid, now_s=now_s)
        if wait_s > 0:
            return self._limited(wait_s, text)
        settings = self.settings
        request = parse(text, nesting_max=settings.nesting_max, batch_max=settings.batch_max)
        owed = self._price(request) - paid
        if owed > 0:
            wait_s = self._limiter.take(client, owed, now_s=now_s)
            if wait_s > 0:
                return self._limited(wait_s, b"" if isinstance(request, Batch) else text)
        return request

    def _price(self, request: Request) -> int:
        """Return what the calls of a request cost together."""
        items = request.items if isinstance(request, Batch) else (request,)
        methods = self.dispatcher.methods
        price = 0
        for item in items:
            method = methods.get(item.method) if isinstance(item, Call) else None
            price += 1 if method is None else method.cost
        return price

    def _limited(self, wait_s: float, text: bytes) -> Refusal:
        error = error_object(
            "rate_limited",
            f"more than {self.settings.requests_per_second} requests per second",
            retry_after_ms=ceil(wait_s * 1000),
        )
        if 0 < len(text) <= TOKEN_BYTES:
            request = parse(text, nesting_max=self.settings.nesting_max, batch_max=1)
            if isinstance(request, Call | Refusal):
                return Refusal(error, request.id or NULL_ID)
        return Refusal(error)

    def too_large(self, size: int) -> bytes:
        """Return the answer to a request of `size` bytes that was not even read."""
        return error_response(
            NULL_ID,
            error_object(
                "request_too_large",
                f"more than {self.settings.body_bytes_max} bytes ({size} seen)",
            ),
        )

    def begin_batch(self, batch: Batch, context: Context[Any]) -> list[Started]:
        """Start every call of a batch; calls that do not wait are answered already."""
        answers: list[Started] = []
        size = 0
        for item in batch.items:
            if size > RESPONSE_BYTES_MAX and isinstance(item, Call):
                answers.append(_no_room(item))
                continue
            answer = self.dispatcher.begin(item, context)
            size += len(answer) if isinstance(answer, bytes) else 0
            answers.append(answer)
        return answers

    async def finish_batch(self, batch: Batch, answers: list[Started]) -> Answer:
        """Wait for the calls of a batch, all at once; returns its response."""
        size = sum(len(answer) for answer in answers if isinstance(answer, bytes))

        async def wait(place: int, work: Coroutine[Any, Any, Answer]) -> None:
            nonlocal size
            answer = await work
            item = batch.items[place]
            if size > RESPONSE_BYTES_MAX and isinstance(item, Call):
                answer = _no_room(item)
            size += len(answer or b"")
            answers[place] = answer

        async with trio.open_nursery() as nursery:
            for place, answer in enumerate(answers):
                if isinstance(answer, Coroutine):
                    nursery.start_soon(wait, place, answer)
        responses = [answer for answer in answers if isinstance(answer, bytes)]
        return batch_response(responses) if responses else None

    async def answer(self, request: Request) -> Answer:
        """Answer a request that came over HTTP; `None` if it was all notifications."""
        if isinstance(request, Batch):
            context = Context(self.node, in_batch=True)
            return await self.finish_batch(request, self.begin_batch(request, context))
        return await self.dispatcher.answer(request, Context(self.node))


def _no_room(call: Call) -> Answer:
    if call.id is None:
        return None
    error = error_object(
        "response_too_large",
        f"the batch's results have more than {RESPONSE_BYTES_MAX} bytes",
        hint="send fewer calls in one batch",
    )
    return error_response(call.id, error)
