"""The JSON-RPC 2.0 envelope: from a request's bytes to calls, from results to response bytes.

Rules
    J1. Text is UTF-8 JSON (RFC 8259): no NaN, no Infinity, no comments. Nesting is measured before
        the text meets a recursive parser. Of duplicate members the last one counts, as in
        ECMAScript.
    J2. `jsonrpc` is exactly "2.0", `method` a string, `params` an object or an array if present
        (null is as good as absent: many clients send it), `id` a string, a number or null. An id is
        echoed as the very bytes it came in, so no number loses digits.
    J3. A request without `id` is a notification and gets no response, whatever happens; `"id":
        null` is a request.
    J4. A batch is an array of 1 to `batch_max` requests, each judged on its own; responses keep the
        order. A batch of notifications gets no response at all. An empty batch, or one too long,
        gets a single error.
    J5. A response has `result` or `error`, never both. If the id can not be told, it is null.

Pure functions: no input, output or clock.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, TypeAlias

import msgspec

from omninode.node.rpc.errors import AnyError, ErrorObject, error_object
from omninode.node.rpc.limits import ID_BYTES_MAX, METHOD_CHARS_MAX

NULL_ID: Final = b"null"

_NO_PARAMS: Final = b"{}"
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BATCH = re.compile(rb"[ \t\r\n]*+\[")
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = bytes(1 if byte in b"[{" else 0xFF for byte in range(256))


@dataclass(frozen=True, slots=True)
class Call:
    """One well-formed request; `params` and `id` are JSON text, `id` is `None` if absent (J3)."""

    method: str
    params: bytes
    id: bytes | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is answered with an error without being called."""

    error: ErrorObject
    id: bytes = NULL_ID


Item: TypeAlias = Call | Refusal


@dataclass(frozen=True, slots=True)
class Batch:
    """The requests of one array (J4)."""

    items: tuple[Item, ...]


Request: TypeAlias = Item | Batch


class _Envelope(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    method: str
    params: msgspec.Raw = msgspec.Raw(_NO_PARAMS)
    id: msgspec.Raw = msgspec.Raw()


class _OnlyId(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()


_envelopes = msgspec.json.Decoder(_Envelope)
_ids = msgspec.json.Decoder(_OnlyId)
_syntax = msgspec.json.Decoder(msgspec.Raw)
_batches = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.encode


def nesting(text: bytes) -> int:
    """Return how deep arrays and objects nest, without recursion; strings do not count."""
    bare = _STRING.sub(b"", text) if b'"' in text else text
    return max(accumulate(array("b", bare.translate(_STEPS, _NOT_BRACKETS))), default=0)


def parse(text: bytes, *, nesting_max: int, batch_max: int) -> Request:
    """Read a request or a batch (J1–J4).

    Args:
        text: The body; the caller has bounded its size.
        nesting_max: Deepest nesting allowed.
        batch_max: Most requests in a batch.
    """
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > nesting_max and nesting(text) > nesting_max:
        return _refuse("invalid_request", f"nested deeper than {nesting_max}", hint="flatten it")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            return _refuse("parse_error", f"not UTF-8: {error.reason} at byte {error.start}")
    if _BATCH.match(text) is None:
        return _parse_one(text)
    try:
        raws = _batches.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return _refuse("parse_error", str(error))
    if not raws:
        return _refuse("invalid_request", "an empty batch")
    if len(raws) > batch_max:
        return _refuse(
            "invalid_request", f"a batch of {len(raws)}", hint=f"at most {batch_max} in one"
        )
    return Batch(tuple(_parse_one(bytes(raw)) for raw in raws))


def _parse_one(text: bytes) -> Item:
    try:
        envelope = _envelopes.decode(text)
    except msgspec.ValidationError as error:
        return _refuse_envelope(text, str(error))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _refuse("parse_error", str(error))
    identifier = _identifier(bytes(envelope.id))
    if identifier is None:
        return _refuse("invalid_request", "id must be a string, a number or null, and not long")
    params = bytes(envelope.params)
    if params == b"null":
        params = _NO_PARAMS
    if params[:1] not in (b"{", b"["):
        return _refuse_call(identifier, "params must be an object or an array")
    if len(envelope.method) > METHOD_CHARS_MAX:
        return _refuse_call(identifier, "the method's name is too long")
    return Call(envelope.method, params, identifier or None)


def _refuse_envelope(text: bytes, message: str) -> Refusal:
    """Tell bad syntax from a bad request: the decoder stops at the first of either."""
    try:
        _syntax.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return _refuse("parse_error", str(error))
    try:
        identifier = _identifier(bytes(_ids.decode(text).id))
    except msgspec.DecodeError:
        identifier = None
    return _refuse_call(identifier or b"", message)


def _identifier(raw: bytes) -> bytes | None:
    """Return the id's text, empty if there is none, `None` if it may not be one (J2)."""
    if len(raw) > ID_BYTES_MAX or raw[:1] in (b"{", b"[", b"t", b"f"):
        return None
    return raw


def _refuse_call(identifier: bytes, message: str) -> Refusal:
    error = error_object("invalid_request", message)
    return Refusal(error, identifier or NULL_ID)


def _refuse(reason: str, message: str, *, hint: str = "") -> Refusal:
    return Refusal(error_object(reason, message, hint=hint))


def result_response(identifier: bytes, result: bytes) -> bytes:
    """Return the response that carries a result, given as JSON text (J5)."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, result)


def error_response(identifier: bytes, error: AnyError) -> bytes:
    """Return the response that carries an error (J5)."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, _encode(error))


def batch_response(responses: list[bytes]) -> bytes:
    """Join the responses of a batch (J4)."""
    return b"[%b]" % b",".join(responses)


def notification(method: str, params: bytes) -> bytes:
    """Return a notification of the server to a subscriber; `params` is JSON text."""
    return b'{"jsonrpc":"2.0","method":"%b","params":%b}' % (method.encode(), params)
