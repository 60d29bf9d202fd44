"""A dev chain for the tests of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from devchain_process import DevChain


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevChain]:
    """A chain that makes ten blocks a second."""
    with DevChain(tmp_path_factory.mktemp("chain") / "home") as made:
        yield made


@pytest.fixture
def slow_chain(tmp_path: Path) -> Iterator[DevChain]:
    """A chain that makes blocks on demand only."""
    with DevChain(tmp_path / "home", interval_ms=3_600_000) as made:
        yield made
