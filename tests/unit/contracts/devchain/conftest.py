"""A dev chain in a folder of the test, without a process around it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from devchain_bench import ALICE, BOB, COINS, Bench

from omninode.contracts.devchain.chain import Genesis
from omninode.contracts.devchain.store import Store


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A chain with two rich accounts and a block gas limit of a million."""
    alloc = {account.address.lower(): COINS for account in (ALICE, BOB)}
    store = Store.open(tmp_path / "evm")
    try:
        yield Bench(store, Genesis(chain_id=31337, gas_limit=1_000_000, alloc=alloc))
    finally:
        store.close()
