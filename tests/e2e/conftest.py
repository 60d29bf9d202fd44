"""Networks of real processes for the tests of this folder; loads `tests/real_network.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_network import RealNetwork, real_network


@pytest.fixture(scope="module")
def shared_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNetwork]:
    """Four validators that run as long as the tests of a file."""
    with real_network(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture
def network(shared_network: RealNetwork) -> RealNetwork:
    """The file's network with every node running and in sync, whatever the last test did to it."""
    shared_network.heal()
    return shared_network
