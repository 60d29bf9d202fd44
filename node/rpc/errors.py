"""Error objects of JSON-RPC: the standard codes, our own codes by reason, hints.

`data.reason` is the stable word that programs look at, `data.hint` says what to do next; the number
groups reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from omninode.errors import UserError

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

REFUSED: Final = -32000
NOT_FOUND: Final = -32001
TIMEOUT: Final = -32002
TOO_LARGE: Final = -32003
NOT_READY: Final = -32004
LIMITED: Final = -32005
TRANSPORT: Final = -32006
BAD_TRANSACTION: Final = -32010
BAD_NONCE: Final = -32011
BAD_ORDER: Final = -32012
BAD_FUNDS: Final = -32013

CODES: Final[Mapping[str, int]] = {
    "parse_error": PARSE_ERROR,
    "invalid_request": INVALID_REQUEST,
    "method_not_found": METHOD_NOT_FOUND,
    "invalid_params": INVALID_PARAMS,
    "internal_error": INTERNAL_ERROR,
    "unknown_block": NOT_FOUND,
    "unknown_transaction": NOT_FOUND,
    "unknown_order": NOT_FOUND,
    "unknown_subscription": NOT_FOUND,
    "pruned": NOT_FOUND,
    "timeout": TIMEOUT,
    "response_too_large": TOO_LARGE,
    "request_too_large": TOO_LARGE,
    "book_too_large": TOO_LARGE,
    "starting": NOT_READY,
    "catching_up": NOT_READY,
    "halted": NOT_READY,
    "stopping": NOT_READY,
    "busy": NOT_READY,
    "mempool_full": NOT_READY,
    "rate_limited": LIMITED,
    "too_many_connections": LIMITED,
    "too_many_subscriptions": LIMITED,
    "unknown_path": TRANSPORT,
    "method_not_allowed": TRANSPORT,
    "unsupported_media_type": TRANSPORT,
    "origin_not_allowed": TRANSPORT,
    "request_timeout": TRANSPORT,
    "bad_http": TRANSPORT,
    "websocket_required": TRANSPORT,
    "malformed": BAD_TRANSACTION,
    "bad_signature": BAD_TRANSACTION,
    "not_authorised": BAD_TRANSACTION,
    "expired": BAD_TRANSACTION,
    "nonce_used": BAD_NONCE,
    "nonce_out_of_window": BAD_NONCE,
    "unknown_market": BAD_ORDER,
    "unknown_asset": BAD_ORDER,
    "off_tick": BAD_ORDER,
    "off_lot": BAD_ORDER,
    "off_grid": BAD_ORDER,
    "insufficient_balance": BAD_FUNDS,
    "unfunded_account": BAD_FUNDS,
    "same_account": BAD_FUNDS,
}
"""The code of each reason; a reason that is not here has `REFUSED`."""

_HINTS: Final[Mapping[str, str]] = {
    "unknown_market": "omni_getMarkets lists the markets",
    "unknown_asset": "omni_getMarkets lists the markets and their assets",
    "off_tick": "omni_getMarkets gives each market's tick",
    "off_lot": "omni_getMarkets gives each market's lot",
    "nonce_used": "sign again with a fresh nonce: the present time in milliseconds",
    "nonce_out_of_window": "nonces are milliseconds since the epoch, near now: check the clock",
    "bad_signature": "omni_getTypedData gives the document to sign, its domain included",
    "unknown_order": "it may be older than what this node keeps",
    "unknown_block": "omni_status gives the newest height",
    "pruned": "ask a node that keeps all blocks",
}
"""Hints for refusals that come without one."""


class InvalidParams(UserError):
    """A parameter of the wrong type or outside its range; numbers are never clamped.

    Args:
        message: Which parameter, and what was expected.
        hint: What to do next.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(
            "invalid_params", message, hint=hint or "rpc.discover describes the parameters"
        )


class NoAnswerYet(UserError):
    """A call took longer than its bound.

    Args:
        message: What was waited for.
        hint: What to do next.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__("timeout", message, hint=hint or "ask again")


class ErrorObject(msgspec.Struct, frozen=True):
    """The `error` member of a response."""

    code: int
    message: str
    data: dict[str, str | int]


def error_object(reason: str, message: str, *, hint: str = "", **more: str | int) -> ErrorObject:
    """Build an error object.

    Args:
        reason: The stable word; decides the code.
        message: What was wrong, for people.
        hint: What to do next.
        **more: Further members of `data`, such as `retry_after_ms`.
    """
    data: dict[str, str | int] = {"reason": reason, "hint": hint or _HINTS.get(reason, ""), **more}
    return ErrorObject(code=CODES.get(reason, REFUSED), message=message, data=data)


def error_of(error: UserError) -> ErrorObject:
    """Return the error object of a refusal."""
    return error_object(error.reason, str(error), hint=error.hint)
