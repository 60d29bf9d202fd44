"""Loads `tests/money_node.py`; one node for all tests of a module."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from money_node import MoneyNode, money_node
from omninode.node.keys.keystore import write_keystore


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MoneyNode]:
    with money_node(tmp_path_factory.mktemp("chain")) as node:
        yield node


@pytest.fixture
def node(shared_node: MoneyNode) -> MoneyNode:
    """The node as it is without a test's wishes."""
    shared_node.reset()
    return shared_node


@pytest.fixture
def keystore(node: MoneyNode, tmp_path: Path) -> Path:
    """A folder with alice, who has coins and tokens, and bob, who has none."""
    folder = tmp_path / "keys"
    for name in ("alice", "bob"):
        write_keystore(folder / f"{name}.json", node.keys[name], "secret", light=True)
    (folder / "password").write_text("secret\n")
    return folder
