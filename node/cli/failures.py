"""How a command fails: the exit code, the one line for people, the document for machines.

Exit codes: 0 done, 1 the operation failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from typer import Abort, TyperException

from omninode.errors import (
    BrokenInvariant,
    ChainError,
    ConfigError,
    Malformed,
    OmniNodeError,
    PeerFault,
    StorageFault,
    UserError,
)
from omninode.node.cli.invocation import Invocation

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

CAUSES_MAX: Final = 64
"""Errors of one failed nursery that are looked at to find the worst."""


class CommandFailed(UserError):
    """A command did its work and the result, its `document`, is a failure: exit code 1."""

    def __init__(self, reason: str, message: str, *, document: dict[str, Any]) -> None:
        super().__init__(reason, message)
        self.document = document


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, ready to be shown."""

    code: int
    reason: str
    messages: tuple[str, ...]
    hint: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def failure_of(error: BaseException) -> Failure:
    """Say what an error means for the caller."""
    leaf = worst(error)
    if isinstance(leaf, KeyboardInterrupt):
        return Failure(INTERRUPTED, "interrupted", ("interrupted",))
    if isinstance(leaf, Abort):
        return Failure(FAILED, "not_confirmed", ("not confirmed, nothing was done",))
    if isinstance(leaf, TyperException):
        code = getattr(leaf, "exit_code", USAGE)
        hint = "see `omninode COMMAND --help`"
        return Failure(code, "wrong_usage", (_plain(leaf),), hint)
    if isinstance(leaf, ConfigError):
        return Failure(USAGE, leaf.reason, tuple(str(leaf).splitlines()), leaf.hint)
    if isinstance(leaf, CommandFailed):
        return Failure(FAILED, leaf.reason, (_one_line(leaf),), leaf.hint, leaf.document)
    if isinstance(leaf, UserError):
        return Failure(FAILED, leaf.reason, (_one_line(leaf),), leaf.hint)
    if isinstance(leaf, OmniNodeError):
        return Failure(FAILED, *_of_node(leaf))
    if isinstance(leaf, OSError):
        name = f" {leaf.filename}:" if leaf.filename else ""
        return Failure(
            FAILED, "system_error", (f"{name.lstrip()} {leaf.strerror or leaf}".strip(),)
        )
    what = f"{type(leaf).__name__}: {_one_line(leaf)}"
    return Failure(FAILED, "internal_error", (what,), "this is a defect; --debug shows where")


def show(failure: Failure, invocation: Invocation, error: BaseException | None = None) -> None:
    """Print a failure: lines on stderr and, with `--json`, the document on stdout."""
    if invocation.debug and error is not None:
        traceback.print_exception(error)
    for message in failure.messages:
        hint = f" ({failure.hint})" if failure.hint and message is failure.messages[-1] else ""
        print(f"error: {message}{hint}", file=sys.stderr)
    if invocation.as_json:
        detail: dict[str, Any] = {
            "reason": failure.reason,
            "message": "\n".join(failure.messages),
            "hint": failure.hint,
        }
        print(json.dumps({**failure.extra, "error": detail}, ensure_ascii=False))


def worst(error: BaseException) -> BaseException:
    """Return the error of a group that matters: our own defects, a full disk, then others."""
    order = (BrokenInvariant, StorageFault, OmniNodeError, KeyboardInterrupt, Exception)
    leaves = list(_leaves(error))[:CAUSES_MAX]
    for kind in order:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _plain(error: TyperException) -> str:
    formatter = getattr(error, "format_message", None)
    return " ".join((str(formatter()) if callable(formatter) else str(error)).split())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _of_node(error: OmniNodeError) -> tuple[str, tuple[str, ...], str]:
    message = (_one_line(error),)
    if isinstance(error, StorageFault):
        return "storage_fault", message, "free space or mend the disk, then start again"
    if isinstance(error, BrokenInvariant):
        return "broken_invariant", message, "the node stopped to do no harm; --debug shows where"
    if isinstance(error, ChainError):
        return "settlement_chain", message, "check the settlement endpoint"
    if isinstance(error, PeerFault):
        return error.reason, message, ""
    if isinstance(error, Malformed):
        return "malformed", message, ""
    return "failed", message, ""
