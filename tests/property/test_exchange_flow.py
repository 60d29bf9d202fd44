"""Blocks of many mixed transactions: replicas agree, and a restart in between changes nothing."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from exchange_world import START_MS
from omninode.dex.exchange import Exchange
from omninode.dex.outcomes import BlockInput, BlockOutcome

TESTS = Path(__file__).resolve().parents[1]
VECTOR = TESTS / "vectors" / "exchange.json"


def load_flow() -> ModuleType:
    """Load `tests/exchange_flow.py` by its path."""
    spec = importlib.util.spec_from_file_location("exchange_flow", TESTS / "exchange_flow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exchange_flow"] = module
    spec.loader.exec_module(module)
    return module


FLOW = load_flow()


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("offset", range(4))
def test_a_replica_that_restarts_at_any_block_stays_the_same(
    seed: int, offset: int, settled: bool
) -> None:
    flow = FLOW.Flow(seed * 1_000 + offset, settled=settled)
    rng = random.Random(seed + offset)
    replica = Exchange.genesis(flow.world.exchange.rules)
    database: dict[bytes, bytes] = {}
    seen: list[tuple[BlockInput, BlockOutcome]] = []
    apply = flow.world.exchange.apply

    def recording(block: BlockInput) -> BlockOutcome:
        outcome: BlockOutcome = apply(block)
        seen.append((block, outcome))
        return outcome

    flow.world.exchange.apply = recording
    for _ in range(120):
        flow.block()
        block, outcome = seen[-1]
        shuffled = list(block.transactions)
        mine = replica.apply(BlockInput(block.height, block.time_ms, block.seed, shuffled))
        assert mine == outcome
        for key, value in mine.writes.items():
            if value is None:
                database.pop(key, None)
            else:
                database[key] = value
        if rng.random() < 0.2:
            assert dict(replica.records()) == database
            replica = Exchange.load(replica.rules, database.items())


def test_the_order_of_the_body_changes_only_the_order_of_the_results(seed: int) -> None:
    """P4: the leader's order does not decide who comes first."""
    flow = FLOW.Flow(seed)
    for _ in range(60):
        world = flow.world
        body = [
            world.transaction(trader, flow.place())
            for trader in FLOW.TRADERS
            for _ in range(flow.rng.randrange(4))
        ]
        other = Exchange.load(world.exchange.rules, world.exchange.records())
        outcome = world.apply(*body)
        turned = other.apply(BlockInput(outcome.height, world.now_ms, world.seed, body[::-1]))
        assert turned.results == outcome.results[::-1]
        assert turned.events == outcome.events
        assert turned.parts.modules[:3] == outcome.parts.modules[:3]


@pytest.mark.parametrize("name", ["without settlement", "with settlement"])
def test_the_hashes_are_those_of_the_vector(name: str) -> None:
    """A change of these numbers splits a running network: it needs a new protocol version."""
    vector = json.loads(VECTOR.read_text())
    expected = vector[name]
    flow = FLOW.Flow(vector["seed"], settled=name == "with settlement")
    rules = flow.world.exchange.rules
    assert rules.genesis_time_ms == START_MS
    assert rules.hash.hex() == expected["genesis_hash"]
    hashes = {"0": flow.world.exchange.app_hash.hex()}
    for _ in range(100):
        flow.block()
        hashes[str(flow.world.exchange.height)] = flow.world.exchange.app_hash.hex()
    for height, app_hash in expected["app_hashes"].items():
        assert hashes[height] == app_hash, height
    bridge = flow.world.exchange.state.bridge
    made = [bridge.deposits.credited.count, bridge.withdrawals.count, bridge.checkpoints.number]
    assert made == expected["deposits, withdrawals, checkpoints"]
