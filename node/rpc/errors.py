"""Error objects of JSON-RPC: the standard codes, our own codes by reason, hints.

`data.reason` is the stable word that programs look at, `data.hint` says what to do next; the number
groups reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from omninode.errors import EndpointError, UserError

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
    "unknown_withdrawal": NOT_FOUND,
    "unknown_checkpoint": NOT_FOUND,
    "unknown_subscription": NOT_FOUND,
    "unknown_validator": NOT_FOUND,
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
    "not_checkpointed": NOT_READY,
    "no_settlement": NOT_READY,
    "no_staking": NOT_READY,
    "settlement_off": NOT_READY,
    "settlement_unreachable": NOT_READY,
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
    "nonce_used": BAD_NONCE,
    "nonce_out_of_window": BAD_NONCE,
    "unknown_market": BAD_ORDER,
    "unknown_asset": BAD_ORDER,
    "off_tick": BAD_ORDER,
    "off_lot": BAD_ORDER,
    "off_grid": BAD_ORDER,
    "insufficient_balance": BAD_FUNDS,
    "same_account": BAD_FUNDS,
    "not_withdrawable": BAD_FUNDS,
    "invalid_recipient": BAD_FUNDS,
}
"""The code of each reason; a reason that is not here has `REFUSED`."""

HINTS: Final[Mapping[str, str]] = {
    "parse_error": "send one JSON text in UTF-8",
    "invalid_request": '{"jsonrpc": "2.0", "id": 1, "method": "omni_status", "params": {}} is one',
    "method_not_found": "rpc.discover lists the methods",
    "invalid_params": "rpc.discover describes the parameters",
    "internal_error": "the node's log has more under error_id",
    "unknown_block": "omni_status gives the newest height",
    "unknown_transaction": "ask the node that it was sent to",
    "unknown_order": "an order that ended long ago is not kept; ask an older node",
    "unknown_withdrawal": "omni_getWithdrawals lists an account's withdrawals with their ids",
    "unknown_checkpoint": "the first one comes an interval after genesis; ask again later",
    "unknown_subscription": "ids are per connection, as omni_subscribe returned them",
    "unknown_validator": "omni_getValidators lists all who have registered",
    "pruned": "ask a node that keeps all blocks",
    "timeout": "ask again; omni_getTransaction tells what became of a transaction",
    "response_too_large": "ask for less, with `limit`, `depth` or a smaller range",
    "request_too_large": "split it",
    "book_too_large": "omni_getOrderBook gives the best levels",
    "starting": "ask again in a moment",
    "catching_up": "ask again later, or another node",
    "halted": "ask another node; this one's operator must act",
    "stopping": "ask another node",
    "busy": "ask again later",
    "mempool_full": "send again later, or to another node",
    "not_checkpointed": "ask again after the next checkpoint; omni_getWithdrawals shows the state",
    "no_settlement": "only a network whose genesis names a settlement contract has this",
    "no_staking": "only a network whose genesis has staking scores its validators",
    "settlement_off": "ask another node, or name an endpoint in settlement.endpoints of this one",
    "settlement_unreachable": "ask again in a moment, or another node; omni_status says more",
    "rate_limited": "wait for retry_after_ms; put many orders into one signed batch",
    "too_many_connections": "use one connection for many calls",
    "too_many_subscriptions": "end one with omni_unsubscribe, or open another connection",
    "unknown_path": "POST / or GET /health",
    "method_not_allowed": "POST a request, or upgrade to a WebSocket",
    "unsupported_media_type": "send Content-Type: application/json",
    "origin_not_allowed": "the operator can name the page in rpc.cors_origins",
    "request_timeout": "send the whole body at once",
    "bad_http": "speak HTTP/1.1, or WebSocket version 13",
    "websocket_required": "connect to the same address with ws:// and call again",
    "malformed": "omni_getTypedData shows the right form of an action, and its bytes",
    "bad_signature": "omni_getTypedData gives the document to sign, its domain included",
    "not_authorised": "approve the session key with the account's own key first",
    "nonce_used": "sign again with a fresh nonce: the present time in milliseconds",
    "nonce_out_of_window": "nonces are milliseconds since the epoch, near now: check the clock",
    "unknown_market": "omni_getMarkets lists the markets",
    "unknown_asset": "omni_getGenesis lists the assets",
    "off_tick": "omni_getMarkets gives each market's tick",
    "off_lot": "omni_getMarkets gives each market's lot",
    "off_grid": "omni_getGenesis gives each asset's decimals",
    "insufficient_balance": "omni_getAccount shows what the account has",
    "same_account": "name another account or subaccount",
    "not_withdrawable": "omni_getGenesis gives each asset's token on the settlement chain",
    "invalid_recipient": "name an address of yours on the settlement chain",
}
"""Hints for refusals that come without one."""


_NO_KEYS: Final = "a node holds no keys: sign in the wallet, send it with eth_sendRawTransaction"
_NO_FILTERS: Final = "a node keeps no filters: poll eth_blockNumber and eth_getLogs"

METHOD_HINTS: Final[Mapping[str, str]] = {
    "eth_sendTransaction": _NO_KEYS,
    "eth_sign": _NO_KEYS,
    "eth_signTransaction": _NO_KEYS,
    "eth_signTypedData": _NO_KEYS,
    "eth_signTypedData_v4": _NO_KEYS,
    "eth_requestAccounts": _NO_KEYS,
    "personal_sign": _NO_KEYS,
    "eth_subscribe": "poll eth_blockNumber and eth_getLogs; omni_subscribe streams the exchange",
    "eth_unsubscribe": "there are no eth_subscribe subscriptions here",
    "eth_newFilter": _NO_FILTERS,
    "eth_newBlockFilter": _NO_FILTERS,
    "eth_newPendingTransactionFilter": _NO_FILTERS,
    "eth_getFilterChanges": _NO_FILTERS,
    "eth_getFilterLogs": _NO_FILTERS,
    "eth_uninstallFilter": _NO_FILTERS,
}
"""What to do instead of calling methods that wallets know and that are not offered."""


class InvalidParams(UserError):
    """A parameter of the wrong type or outside its range; numbers are never clamped.

    Args:
        message: Which parameter, and what was expected.
        hint: What to do next.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__("invalid_params", message, hint=hint)


class NoAnswerYet(UserError):
    """A call took longer than its bound.

    Args:
        message: What was waited for.
        hint: What to do next.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__("timeout", message, hint=hint)


class ErrorObject(msgspec.Struct, frozen=True):
    """The `error` member of a response."""

    code: int
    message: str
    data: dict[str, str | int]

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.data["reason"])


class ForwardedError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `error` member of a response with another server's error, as it came."""

    code: int
    message: str
    data: object = None

    @property
    def reason(self) -> str:
        """What metrics count it under."""
        return "endpoint_error"


AnyError: TypeAlias = ErrorObject | ForwardedError
"""What a response can carry."""


def error_object(reason: str, message: str, *, hint: str = "", **more: str | int) -> ErrorObject:
    """Build an error object.

    Args:
        reason: The stable word; decides the code.
        message: What was wrong, for people.
        hint: What to do next.
        **more: Further members of `data`, such as `retry_after_ms`.
    """
    data: dict[str, str | int] = {"reason": reason, "hint": hint or HINTS.get(reason, ""), **more}
    return ErrorObject(code=CODES.get(reason, REFUSED), message=message, data=data)


def error_of(error: UserError | EndpointError) -> AnyError:
    """Return the error object of a refusal."""
    if isinstance(error, EndpointError):
        return ForwardedError(error.code, str(error), error.data)
    return error_object(error.reason, str(error), hint=error.hint)
