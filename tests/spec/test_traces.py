"""Traces of the specification, replayed through the real core: the same votes, certificates, views
and final blocks at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_replay import Replay
from model_trace import network, states

TRACES = sorted((Path(__file__).parent / "traces").glob("*.itf.json.gz"))


def replay(path: Path, model: str, patch: pytest.MonkeyPatch) -> int:
    """Replay a trace; return its number of steps."""
    trace = states(path)
    before = next(trace)
    real = Replay(network(model), before, patch)
    steps = 0
    for steps, after in enumerate(trace, 1):
        try:
            real.step(before, after)
        except AssertionError as error:
            error.add_note(f"{path.name}, step {steps}: {after.event}")
            raise
        before = after
    return steps


def test_there_are_traces() -> None:
    assert len(TRACES) >= 4


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_the_core_does_what_the_specification_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay(path, path.name.split("-")[0], monkeypatch) > 20
