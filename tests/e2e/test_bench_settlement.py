"""A short run of `omninode bench settlement`: everything that it promises is there and counted."""

from __future__ import annotations

import json

import pytest

from omninode.node.bench import network
from omninode.node.cli.main import main
from real_devnet import BASE_PORT

pytestmark = pytest.mark.slow

WAITS = ("fill_to_checkpoint_ms", "deposit_to_credited_ms", "withdrawal_to_claimable_ms")


def test_a_short_run_measures_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "BENCH_BASE_PORT", BASE_PORT)
    code = main(["--json", "bench", "settlement", "--seconds", "8"])
    shown = capsys.readouterr()
    assert code == 0, shown
    document = json.loads(shown.out)
    assert document["ok"] is True
    assert document["seconds"] >= 8
    for name in WAITS:
        assert set(document[name]) == {"count", "open", "p50", "p99"}
    fills = document["fill_to_checkpoint_ms"]
    assert fills["count"] > 0
    assert 0 < fills["p50"] <= fills["p99"]
    assert document["deposit_to_credited_ms"]["count"] > 0
    assert document["checkpoints"] > 0
    chain = document["chain"]
    assert chain["blocks"] > 0
    assert chain["cores"] > 0
    assert chain["rss_mb"] > 0
    calls = document["calls_per_chain_block"]
    assert calls["all"] > 0
    assert calls["methods"]["eth_getLogs"] > 0
    assert document["orders"]["final"] > 0
    assert document["orders"]["lost"] == 0
