"""The kept traces tell a core with one rule broken from the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_traces import TRACES, replay

from omninode.consensus.judging import Judging
from omninode.consensus.own_votes import OwnVotes
from omninode.consensus.state import State
from omninode.consensus.types import ValidatorSet

parent_of = State.parent
BROKEN: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "no S3": (OwnVotes, "_allowed", lambda _, kind, __, earlier: kind not in earlier),
    "gaps ignored": (Judging, "_views_between_are_nullified", lambda *_: True),
    "two thirds": (ValidatorSet, "is_quorum", lambda s, power: 3 * power >= 2 * s.total_power),
    "hidden ends of views ignored": (State, "parent", lambda s: parent_of(s) or s.chain.final),
    "seal at once": (State, "seal_due", lambda s, _: s.following.seal if s.following else None),
}


def is_noticed() -> bool:
    for path in TRACES:
        with pytest.MonkeyPatch.context() as patch:
            try:
                replay(path, path.name.split("-")[0], patch)
            except AssertionError:
                return True
    return False


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_core_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BROKEN[name])
    assert is_noticed()
