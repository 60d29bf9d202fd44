from __future__ import annotations

import json
from typing import Any

import pytest

from omninode.errors import (
    BrokenInvariant,
    ChainError,
    ConfigError,
    Malformed,
    PeerFault,
    StorageFault,
    UserError,
)
from omninode.node.cli.failures import (
    FAILED,
    INTERRUPTED,
    USAGE,
    CommandFailed,
    Failure,
    failure_of,
    show,
    worst,
)
from omninode.node.cli.invocation import Invocation


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ConfigError("x"), USAGE, "bad_configuration"),
        (UserError("node_unreachable", "x"), FAILED, "node_unreachable"),
        (StorageFault("x"), FAILED, "storage_fault"),
        (BrokenInvariant("x"), FAILED, "broken_invariant"),
        (ChainError("x", retryable=True), FAILED, "settlement_chain"),
        (PeerFault("bad_frame"), FAILED, "bad_frame"),
        (Malformed("x"), FAILED, "malformed"),
        (OSError(28, "No space left on device", "/x"), FAILED, "system_error"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
        (ValueError("x"), FAILED, "internal_error"),
    ],
)
def test_every_kind_of_error_has_its_exit_code_and_word(
    error: BaseException, code: int, reason: str
) -> None:
    failure = failure_of(error)
    assert (failure.code, failure.reason) == (code, reason)
    assert len(failure.messages) == 1
    assert "\n" not in failure.messages[0]


def test_the_worst_error_of_a_nursery_is_reported() -> None:
    full = StorageFault("the disk is full")
    group = BaseExceptionGroup(
        "", [ValueError("x"), ExceptionGroup("", [UserError("a"), full]), KeyboardInterrupt()]
    )
    assert worst(group) is full
    defect = BrokenInvariant("never")
    assert worst(BaseExceptionGroup("", [full, defect])) is defect
    assert failure_of(group).reason == "storage_fault"


def shown(
    capsys: pytest.CaptureFixture[str], failure: Failure, *, as_json: bool
) -> tuple[str, Any]:
    show(failure, Invocation(as_json=as_json))
    out, err = capsys.readouterr()
    return err, json.loads(out) if as_json else out


def test_a_failure_is_one_line_with_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(FAILED, "a_word", ("it failed",), "mend it")
    assert shown(capsys, failure, as_json=False) == ("error: it failed (mend it)\n", "")


def test_a_failure_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(FAILED, "a_word", ("it failed",), "mend it")
    _, document = shown(capsys, failure, as_json=True)
    expected = {"reason": "a_word", "message": "it failed", "hint": "mend it"}
    assert document == {"error": expected}


def test_a_failed_result_is_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    failed = CommandFailed("mismatch", "differs", document={"to": 7})
    _, document = shown(capsys, failure_of(failed), as_json=True)
    assert document["to"] == 7
    assert document["error"]["reason"] == "mismatch"


def test_every_problem_of_a_configuration_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    failure = failure_of(ConfigError("a:1: x\na:2: y", hint="mend it"))
    err, _ = shown(capsys, failure, as_json=False)
    assert err.splitlines() == ["error: a:1: x", "error: a:2: y (mend it)"]
