"""Refused calls, with the numbers that geth gives them and clients expect."""

from __future__ import annotations

from typing import Final

from omninode.errors import UserError

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
SERVER_ERROR: Final = -32000
LIMIT_EXCEEDED: Final = -32005
REVERTED: Final = 3


class CallRefused(UserError):
    """A JSON-RPC call that is answered with an error.

    Args:
        code: The error's number.
        message: What was wrong; clients match the words that geth uses.
        data: More for programs, such as a revert's bytes in hex.
    """

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__("call_refused", message)
        self.code = code
        self.data = data


def refuse(message: str) -> CallRefused:
    """Return the refusal of a call that is well formed but can not be done."""
    return CallRefused(SERVER_ERROR, message)


def invalid(index: int, message: str) -> CallRefused:
    """Return the refusal of a wrong argument, counted from 0."""
    return CallRefused(INVALID_PARAMS, f"invalid argument {index}: {message}")


def over_limit(message: str) -> CallRefused:
    """Return the refusal of a call that asks for more than a bound allows."""
    return CallRefused(LIMIT_EXCEEDED, message)


def missing(index: int) -> CallRefused:
    """Return the refusal of a call that lacks an argument, counted from 0."""
    return CallRefused(INVALID_PARAMS, f"missing value for required argument {index}")
