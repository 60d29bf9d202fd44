"""Networks with a settlement chain for the tests of this folder; loads `tests/real_*.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from real_settlement import SettledNetwork, settled_network


@pytest.fixture(scope="module")
def shared_settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SettledNetwork]:
    """Four validators and a chain that run as long as the tests of a file."""
    with settled_network(tmp_path_factory.mktemp("settled")) as made:
        yield made


@pytest.fixture
def settled(shared_settled: SettledNetwork) -> SettledNetwork:
    """The file's network, whole again and following the chain, whatever the last test did."""
    shared_settled.heal()
    return shared_settled
