"""The JSON-RPC 2.0 envelope, as geth's clients use it: single requests and batches.

Rules
    E1. Nesting is measured before the text meets a recursive parser.
    E2. An id is a string, a number or null, and is echoed as the very bytes it came in.
    E3. A request without id is answered with nothing. Responses of a batch keep the order.
    E4. Whatever goes wrong inside a call becomes its error -32603; the server goes on.
"""

from __future__ import annotations

import re
import secrets
from array import array
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Any, Final, Literal

import msgspec
import structlog

from omninode.contracts.devchain.limits import (
    BATCH_MAX,
    ID_BYTES_MAX,
    NESTING_MAX,
    RESPONSE_BYTES_MAX,
)
from omninode.contracts.devchain.refusals import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    SERVER_ERROR,
    CallRefused,
)
from omninode.errors import StorageFault

Call = Callable[[str, list[Any]], Awaitable[Any]]
"""Runs a method with its arguments; its result becomes JSON."""

_log = structlog.get_logger("devchain")

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = bytes(1 if byte in b"[{" else 0xFF for byte in range(256))


class _Request(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    method: str
    params: list[Any] | None = None
    id: msgspec.Raw = msgspec.Raw()


class _OnlyId(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()


_requests: Final = msgspec.json.Decoder(_Request)
_ids: Final = msgspec.json.Decoder(_OnlyId)
_syntax: Final = msgspec.json.Decoder(msgspec.Raw)
_batches: Final = msgspec.json.Decoder(list[msgspec.Raw])


async def answer(text: bytes, call: Call) -> bytes | None:
    """Return the response to a request's body, `None` if there is none to be given.

    Args:
        text: The body; the caller has bounded its size.
        call: Runs one method.
    """
    if _nesting(text) > NESTING_MAX:
        return _error(b"null", CallRefused(INVALID_REQUEST, "nested too deep"))
    try:
        _syntax.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _error(b"null", CallRefused(PARSE_ERROR, str(error)))
    if not text.lstrip().startswith(b"["):
        return await _answer_one(text, call)
    requests = _batches.decode(text)
    if not requests:
        return _error(b"null", CallRefused(INVALID_REQUEST, "empty batch"))
    if len(requests) > BATCH_MAX:
        return _error(b"null", CallRefused(INVALID_REQUEST, "batch too large"))
    responses: list[bytes] = []
    room = RESPONSE_BYTES_MAX
    for request in requests:
        response = await _answer_one(bytes(request), call, room=room)
        if response is not None:
            room -= len(response)
            responses.append(response)
    return b"[%b]" % b",".join(responses) if responses else None


def _nesting(text: bytes) -> int:
    """Return how deep arrays and objects nest, without recursion; strings do not count (E1)."""
    bare = _STRING.sub(b"", text)
    return max(accumulate(array("b", bare.translate(_STEPS, _NOT_BRACKETS))), default=0)


async def _answer_one(text: bytes, call: Call, *, room: int = RESPONSE_BYTES_MAX) -> bytes | None:
    identifier = _identifier(text)
    if identifier is None:
        return _error(b"null", CallRefused(INVALID_REQUEST, "invalid request"))
    try:
        request = _requests.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refusal = CallRefused(INVALID_REQUEST, f"invalid request: {error}")
        return _error(identifier or b"null", refusal)
    response = await _run(request, call, identifier or b"null", room)
    return response if identifier else None


def _identifier(text: bytes) -> bytes | None:
    """Return the id's text, empty if there is none, `None` if it may not be one (E2)."""
    try:
        raw = bytes(_ids.decode(text).id)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if len(raw) > ID_BYTES_MAX or raw[:1] in (b"{", b"[", b"t", b"f"):
        return None
    return raw


async def _run(request: _Request, call: Call, identifier: bytes, room: int) -> bytes:
    try:
        result = msgspec.json.encode(await call(request.method, request.params or []))
    except CallRefused as refusal:
        return _error(identifier, refusal)
    except StorageFault:
        raise
    except Exception as error:  # noqa: BLE001 - the RPC boundary (E4)
        error_id = secrets.token_hex(8)
        _log.error("call_failed", method=request.method, error_id=error_id, exc_info=error)
        return _error(identifier, CallRefused(INTERNAL_ERROR, f"internal error {error_id}"))
    if len(result) > room:
        return _error(identifier, CallRefused(SERVER_ERROR, "response too large"))
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, result)


def _error(identifier: bytes, refusal: CallRefused) -> bytes:
    body: dict[str, Any] = {"code": refusal.code, "message": str(refusal)}
    if refusal.data is not None:
        body["data"] = refusal.data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, msgspec.json.encode(body))
