"""One JSON-RPC endpoint of the settlement chain, over HTTP on trio.

Rules
    E1. An answer is not trusted: its length is bounded while it is read, and it must be the answer
        to the question. What is in it is judged by who asked (`wire`, `abi`).
    E2. A failure is a `ChainError`: `EndpointError` when the endpoint answered with an error,
        another when it did not answer properly. Nothing else comes out of here.
    E3. An endpoint's URL may hold a password or a key; people and logs see its `name` only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import (
    ENDPOINT_CALLS_MAX,
    ERROR_CHARS_MAX,
    ERROR_DATA_BYTES_MAX,
    REPLY_BYTES_MAX,
)
from omninode.contracts.ports import Call
from omninode.errors import EndpointError

ANSWERED: Final = "ok"
REFUSED: Final = "error"
FAILED: Final = "failed"


class _Answer(msgspec.Struct):
    """A JSON-RPC response; result and error are judged later."""

    id: int | str | None = None
    result: Any = None
    error: Any = None


class _Body(httpx.AsyncByteStream):
    """A request's bytes in one piece.

    The library's own is a generator, which is left unfinished when a call is cancelled.
    """

    def __init__(self, body: bytes) -> None:
        self._pieces = iter((body,))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


_answer_decoder: Final = msgspec.json.Decoder(_Answer)


class Endpoint:
    """Asks one endpoint.

    Args:
        url: `http://…` or `https://…`.
        timeout_s: Longest wait for one answer, connecting included.
        on_call: Told about every call that ended.

    Attributes:
        name: What people call it: scheme, host and port.
    """

    def __init__(
        self, url: str, *, timeout_s: float, on_call: Callable[[Call], None] | None = None
    ) -> None:
        parts = urlsplit(url)
        self.name: Final = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._url = url
        self._timeout_s = timeout_s
        self._on_call = on_call
        self._ids = itertools.count(1)
        self._places = trio.CapacityLimiter(ENDPOINT_CALLS_MAX)
        self._client = httpx.AsyncClient(
            # A compressed answer could be a thousand times as long as what was read of it (E1).
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            timeout=None,  # noqa: S113 - the whole call has one deadline, in `_exchange`
            trust_env=False,
            limits=httpx.Limits(
                max_connections=ENDPOINT_CALLS_MAX, max_keepalive_connections=ENDPOINT_CALLS_MAX
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(self, method: str, params: list[Any]) -> Any:  # noqa: ANN401 - any JSON
        """Ask, and return the result.

        Raises:
            EndpointError: The endpoint answered with an error.
            EndpointFailure: It did not answer in time, or not with JSON-RPC.
        """
        outcome = FAILED
        try:
            answer = await self._ask(method, params)
            outcome = ANSWERED if answer.error is None else REFUSED
        finally:
            if self._on_call is not None:
                self._on_call(Call(self.name, method, outcome))
        if answer.error is not None:
            raise _error(answer.error)
        return answer.result

    async def _ask(self, method: str, params: list[Any]) -> _Answer:
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        try:
            body = msgspec.json.encode(request)
        except (msgspec.MsgspecError, TypeError, RecursionError) as error:
            raise self._failure(f"can not ask {method}: {error}") from None
        data = await self._exchange(body)
        try:
            answer = _answer_decoder.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self._failure(f"no JSON-RPC answer: {error}") from None
        # An error for a request that could not be read has no id.
        if answer.id != number and (answer.id is not None or answer.error is None):
            raise self._failure("the answer to another question")
        return answer

    async def _exchange(self, body: bytes) -> bytes:
        """Post a request; returns the bounded body of the answer (E1)."""
        try:
            with trio.fail_after(self._timeout_s):
                async with self._places:
                    request = self._client.build_request("POST", self._url, content=body)
                    request.stream = _Body(body)
                    response = await self._client.send(request, stream=True)
                    try:
                        return await self._read(response)
                    finally:
                        await response.aclose()
        except trio.TooSlowError:
            raise self._failure(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            # The message may quote the URL (E3), so only the kind of a library's error is told.
            raise self._failure(_kind(error)) from None

    async def _read(self, response: httpx.Response) -> bytes:
        data = bytearray()
        with trio.CancelScope() as rest:
            async for piece in response.aiter_raw():
                # Leaving the loop would abandon the library's generators; being cancelled ends
                # them.
                if len(data) + len(piece) > REPLY_BYTES_MAX:
                    rest.cancel()
                else:
                    data += piece
        if rest.cancel_called:
            raise self._failure(f"more than {REPLY_BYTES_MAX} bytes", too_long=True)
        # JSON-RPC errors may come with any status; what is no JSON is judged by its status.
        if not response.is_success and not data.lstrip().startswith(b"{"):
            raise self._failure(f"HTTP status {response.status_code}")
        return bytes(data)

    def _failure(self, what: str, *, too_long: bool = False) -> EndpointFailure:
        return EndpointFailure(f"{self.name}: {what[:ERROR_CHARS_MAX]}", too_long=too_long)


def _kind(error: Exception) -> str:
    kinds: dict[type[Exception], str] = {
        httpx.ConnectError: "can not connect",
        httpx.ReadError: "the connection broke",
        httpx.RemoteProtocolError: "the connection broke or it is no HTTP server",
    }
    return kinds.get(type(error), type(error).__name__)


def _error(error: object) -> EndpointError:
    """Turn the `error` of an answer into an error of ours, within bounds (E1)."""
    if not isinstance(error, dict):
        return EndpointError(-32603, str(error)[:ERROR_CHARS_MAX])
    code, message, data = error.get("code"), error.get("message"), error.get("data")
    if data is not None and len(msgspec.json.encode(data)) > ERROR_DATA_BYTES_MAX:
        data = None
    return EndpointError(
        code if isinstance(code, int) and abs(code) < 1 << 53 else -32603,
        str(message)[:ERROR_CHARS_MAX],
        data,
    )
