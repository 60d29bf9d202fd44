"""The shipped order flow makes exactly the trades that the exchange printed."""

from __future__ import annotations

import gzip
import json
from importlib import resources

import pytest

from omninode.dex.exchange import Exchange
from omninode.dex.replay import Replay, ReplayRun, parse_replay, trades_in_sequence
from omninode.errors import ConfigError


def shipped() -> Replay:
    source = resources.files("omninode.configs") / "replay" / "bitstamp_btcusd_l3_180s.json.gz"
    return parse_replay(gzip.decompress(source.read_bytes()))


def test_all_printed_trades_are_reproduced_in_sequence() -> None:
    replay = shipped()
    assert len(replay.operations) == 42_108
    run = ReplayRun()
    for operation in replay.operations:
        run.step(operation)
    assert run.trades == list(replay.trades)
    assert trades_in_sequence(run.trades, replay.trades) == 28
    assert len(run.exchange.state.open_orders.by_id) == 6_495  # and 22 bids at a price of 0
    loaded = Exchange.load(run.exchange.rules, run.exchange.records())
    assert dict(loaded.records()) == dict(run.exchange.records())


def replay_of(*ops: list[object], trades: list[list[int]]) -> Replay:
    return parse_replay(json.dumps({"ops": ops, "trades": trades}).encode())


def test_market_orders_and_cancels_of_unknown_orders() -> None:
    """The shipped file has no market order."""
    replay = replay_of(
        [0, "P", 1, "S", 10_000, 100],
        [0, "P", 2, "S", 10_100, 100],
        [0, "P", 3, "B", 9_000, 100],
        [1, "C", 77],
        [1, "M", 4, "B", 0, 150],
        [1, "C", 4],
        [2, "M", 5, "S", 0, 40],
        [2, "C", 3],
        [3, "L", 6, "S", 9_000, 10],
        trades=[[4, 1, 10_000, 100], [4, 2, 10_100, 50], [5, 3, 9_000, 40]],
    )
    run = ReplayRun()
    for operation in replay.operations:
        run.step(operation)
    assert trades_in_sequence(run.trades, replay.trades) == 3
    assert len(run.trades) == 3


def test_a_trade_out_of_sequence_ends_the_count() -> None:
    expected = ((1, 2, 3, 4), (5, 6, 7, 8))
    assert trades_in_sequence([], expected) == 0
    assert trades_in_sequence([(1, 2, 3, 4), (5, 6, 7, 9)], expected) == 1
    assert trades_in_sequence([(5, 6, 7, 8), (1, 2, 3, 4)], expected) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ops": [[0]], "trades": []}',
        b'{"ops": [[0, "X", 1]], "trades": []}',
        b'{"ops": [[0, "L", 1, "Q", 1, 1]], "trades": []}',
        b'{"ops": [[0, "L", 1, "B", 1.5, 1]], "trades": []}',
        b'{"ops": [], "trades": [[1]]}',
        b'{"ops": 1, "trades": []}',
    ],
)
def test_another_document_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_replay(data)
