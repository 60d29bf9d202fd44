"""One JSON-RPC endpoint of the settlement chain, over HTTP on trio.

Rules
    E1. An answer is not trusted: its length is bounded while it is read, and it must be the answer
        to the question, in UTF-8. What is in it is judged by who asked (`wire`, `abi`).
    E2. A failure is a `ChainError`: `EndpointError` when the endpoint answered with an error,
        another when it did not answer properly. Nothing else comes out of here.
    E3. An endpoint's URL may hold a password or a key; people and logs see its `name` only.
    E4. What is only passed on is checked to be JSON, and stays the text that came: making objects
        of it would hold up everybody else ten times as long.
    E5. What is passed on has places of its own, so that no user's calls keep the node's waiting.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import (
    ENDPOINT_CALLS_MAX,
    ERROR_CHARS_MAX,
    ERROR_DATA_BYTES_MAX,
    FORWARDED_PLACES_MAX,
    FORWARDED_REPLY_BYTES_MAX,
    REPLY_BYTES_MAX,
)
from omninode.contracts.ports import Call
from omninode.errors import EndpointError

ANSWERED: Final = "ok"
REFUSED: Final = "error"
FAILED: Final = "failed"


_NULL: Final = b"null"
_INTERNAL_ERROR: Final = -32603
_CODE_BYTES_MAX: Final = 20


class _Answer(msgspec.Struct):
    """A JSON-RPC response; result and error are judged later."""

    id: int | str | None = None
    result: Any = None
    error: msgspec.Raw = msgspec.Raw(_NULL)


class _TextAnswer(_Answer):
    """One whose result stays text (E4)."""

    result: msgspec.Raw = msgspec.Raw(_NULL)


class _Refusal(msgspec.Struct):
    """The `error` of a response, its members as they came."""

    code: msgspec.Raw = msgspec.Raw(_NULL)
    message: msgspec.Raw = msgspec.Raw(_NULL)
    data: msgspec.Raw = msgspec.Raw(_NULL)


class _Manner(NamedTuple):
    """How to ask for the node itself, or for somebody else."""

    answers: msgspec.json.Decoder[Any]
    bytes_max: int
    places: trio.CapacityLimiter


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


_answers: Final = msgspec.json.Decoder(_Answer)
_text_answers: Final = msgspec.json.Decoder(_TextAnswer)
_refusals: Final = msgspec.json.Decoder(_Refusal)


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
        own, passed = (
            trio.CapacityLimiter(places) for places in (ENDPOINT_CALLS_MAX, FORWARDED_PLACES_MAX)
        )
        self._own = _Manner(_answers, REPLY_BYTES_MAX, own)
        self._passed = _Manner(_text_answers, FORWARDED_REPLY_BYTES_MAX, passed)
        connections_max = ENDPOINT_CALLS_MAX + FORWARDED_PLACES_MAX
        self._client = httpx.AsyncClient(
            # A compressed answer could be a thousand times as long as what was read of it (E1).
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            timeout=None,  # noqa: S113 - the whole call has one deadline, in `_exchange`
            trust_env=False,
            limits=httpx.Limits(
                max_connections=connections_max, max_keepalive_connections=connections_max
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
        return await self._ask(method, params, self._own)

    async def pass_on(self, method: str, params: list[Any]) -> msgspec.Raw:
        """Ask for somebody else; returns the result as the JSON text that came (E4).

        Raises:
            EndpointError: The endpoint answered with an error.
            EndpointFailure: As for `call`; `too_long` beyond `FORWARDED_REPLY_BYTES_MAX`.
        """
        result: msgspec.Raw = await self._ask(method, params, self._passed)
        return result

    async def _ask(self, method: str, params: list[Any], manner: _Manner) -> Any:  # noqa: ANN401
        """Ask, count the call by its outcome, and return the result or raise the error."""
        outcome = FAILED
        try:
            answer = await self._answer(method, params, manner)
            refused = bytes(answer.error) != _NULL
            outcome = REFUSED if refused else ANSWERED
        finally:
            if self._on_call is not None:
                self._on_call(Call(self.name, method, outcome))
        if refused:
            raise _error(answer.error)
        return answer.result

    async def _answer(self, method: str, params: list[Any], manner: _Manner) -> _Answer:
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        try:
            body = msgspec.json.encode(request)
        except (msgspec.MsgspecError, TypeError, RecursionError) as error:
            raise self._failure(f"can not ask {method}: {error}") from None
        data = await self._exchange(body, manner)
        try:
            if not data.isascii():
                data.decode()  # the decoder does not look into what it leaves as text
            answer: _Answer = manner.answers.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self._failure(f"no JSON-RPC answer: {error}") from None
        # An error for a request that could not be read has no id.
        is_refused = bytes(answer.error) != _NULL
        if answer.id != number and (answer.id is not None or not is_refused):
            raise self._failure("the answer to another question")
        return answer

    async def _exchange(self, body: bytes, manner: _Manner) -> bytes:
        """Post a request; returns the bounded body of the answer (E1, E5)."""
        try:
            with trio.fail_after(self._timeout_s):
                async with manner.places:
                    request = self._client.build_request("POST", self._url, content=body)
                    request.stream = _Body(body)
                    response = await self._client.send(request, stream=True)
                    try:
                        return await self._read(response, manner.bytes_max)
                    finally:
                        await response.aclose()
        except trio.TooSlowError:
            raise self._failure(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            # The message may quote the URL (E3), so only the kind of a library's error is told.
            raise self._failure(_kind(error)) from None

    async def _read(self, response: httpx.Response, bytes_max: int) -> bytes:
        data = bytearray()
        with trio.CancelScope() as rest:
            async for piece in response.aiter_raw():
                # Leaving the loop would abandon the library's generators; being cancelled ends
                # them.
                if len(data) + len(piece) > bytes_max:
                    rest.cancel()
                else:
                    data += piece
        if rest.cancel_called:
            raise self._failure(f"an answer of more than {bytes_max} bytes", too_long=True)
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


def _error(said: msgspec.Raw) -> EndpointError:
    """Turn the `error` of an answer into an error of ours, within bounds (E1)."""
    try:
        refusal = _refusals.decode(said)
    except msgspec.DecodeError:
        refusal = _Refusal(message=said)
    code = _small(refusal.code, _CODE_BYTES_MAX)
    return EndpointError(
        code if type(code) is int and abs(code) < 1 << 53 else _INTERNAL_ERROR,
        _text(refusal.message),
        _small(refusal.data, ERROR_DATA_BYTES_MAX),
    )


def _small(text: msgspec.Raw, bytes_max: int) -> object:
    """Return what a JSON text says, or `None` if it is long or says what can not be told on."""
    if len(memoryview(text)) > bytes_max:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _text(text: msgspec.Raw) -> str:
    """Return the beginning of a message; of one that is no string, the beginning of its JSON."""
    if bytes(text) == _NULL:
        return "an error without a message"
    try:
        message = msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        message = bytes(memoryview(text)[:ERROR_CHARS_MAX]).decode(errors="replace")
    return message[:ERROR_CHARS_MAX]
