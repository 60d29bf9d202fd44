"""Gives the tests of this folder a world of nodes; loads `tests/driver_world.py` for them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio.testing

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from driver_world import World, open_world

MEMORY = Path("/dev/shm")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder in memory where there is one: four nodes sync four times a block."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
async def world(
    disk: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> AsyncIterator[World]:
    async with open_world(disk, monkeypatch, mock_clock) as opened:
        yield opened
