"""The sum of all balances is fresh, but never most of what a node does."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from omninode.node.rpc import supply as supply_module
from omninode.node.rpc.limits import SUPPLY_SHARE
from omninode.node.rpc.supply import SupplyReader


async def test_adding_up_takes_a_bounded_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    scans, took_s = 0, iter(range(0, 10_000, 2))

    def add_up(exchange: object) -> dict[str, Any]:
        nonlocal scans
        scans += 1
        return {"height": scans}

    monkeypatch.setattr(supply_module, "supply_view", add_up)
    monkeypatch.setattr(supply_module, "perf_counter", lambda: next(took_s))
    reader = SupplyReader(object())  # type: ignore[arg-type]
    seen = set()
    for _ in range(400):
        seen.add(reader.read()["height"])
        await trio.sleep(1)
    # Each scan takes two seconds here.
    assert scans * 2 == pytest.approx(400 * SUPPLY_SHARE, abs=2)
    assert seen == set(range(1, scans + 1))
