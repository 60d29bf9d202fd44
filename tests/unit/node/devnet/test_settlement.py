"""Comparing both sides at the end of a run, while the chain is gone or comes back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from omninode.errors import ChainError, UserError
from omninode.node.devnet import settlement
from omninode.node.devnet.limits import BACKING_DEADLINE_S, BACKING_STOPPED_S
from omninode.node.devnet.money import Comparison, NotCompared
from omninode.node.devnet.settlement import Settlement

UNREACHABLE = UserError("settlement_unreachable", "no endpoint answers")
COMPARED: Any = object()


async def compare(
    monkeypatch: pytest.MonkeyPatch,
    *outcomes: Exception | None,
    stopped: bool = False,
    connected: bool = True,
    given_up: bool = False,
) -> Comparison:
    """Compare where each attempt ends like this; the last one without end, if that is `None`."""
    left = list(outcomes)

    async def read_backing(*_: object) -> Any:
        await trio.sleep(0.1)
        if not left:
            return COMPARED
        outcome = left.pop(0)
        if outcome is not None:
            raise outcome
        await trio.sleep_forever()
        raise AssertionError("that has no end")

    monkeypatch.setattr(settlement, "read_backing", read_backing)
    made: Any = Settlement.__new__(Settlement)
    made.process = SimpleNamespace(is_given_up=given_up)
    made.terms = made._chain = made._ledger = made._anyone = None
    made._observer = SimpleNamespace(connections=[SimpleNamespace(connected=connected)])
    return await made.backing(stopped=stopped)  # type: ignore[no-any-return]


async def test_a_chain_that_comes_back_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    failures = [UNREACHABLE, ChainError("changes", retryable=True), UNREACHABLE]
    assert await compare(monkeypatch, *failures, stopped=True) is COMPARED


@pytest.mark.parametrize(
    ("stopped", "limit_s"), [(False, BACKING_DEADLINE_S), (True, BACKING_STOPPED_S)]
)
async def test_a_chain_that_stays_away_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.abc.Clock,
    stopped: bool,
    limit_s: float,
) -> None:
    began = trio.current_time()
    found = await compare(monkeypatch, UNREACHABLE, None, stopped=stopped)
    assert found == NotCompared("the chain does not answer")
    assert trio.current_time() - began == pytest.approx(limit_s)


async def test_a_chain_that_is_not_started_again_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    began = trio.current_time()
    found = await compare(monkeypatch, given_up=True)
    assert found == NotCompared("the chain does not answer")
    assert trio.current_time() == began


async def test_who_else_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    missing = ChainError("the contract counts 2 deposits, but its events show 1", retryable=True)
    assert await compare(monkeypatch, missing, None) == NotCompared(str(missing))
    silent = await compare(monkeypatch, None, connected=False)
    assert silent == NotCompared("no validator answers")
