"""Recorded events through the exchange, compared with the trades that were printed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from omninode.dex.replay import ReplayRun, trades_in_sequence
from omninode.node.bench.collector import collector_off
from omninode.node.devnet.replay_file import read_replay


def bench_replay(path: Path | None) -> dict[str, Any]:
    """Feed a file through an exchange of its own, one operation a block.

    Args:
        path: The file; `None` means the shipped one.

    Returns:
        `operations`, `trades_expected`, `trades_reproduced_in_sequence`, `operations_per_second`.

    Raises:
        ConfigError: The file can not be read.
    """
    replay = read_replay(path)
    run = ReplayRun()
    with collector_off():
        began = time.perf_counter()
        for operation in replay.operations:
            run.step(operation)
        seconds = time.perf_counter() - began
    return {
        "operations": len(replay.operations),
        "trades_expected": len(replay.trades),
        "trades_reproduced_in_sequence": trades_in_sequence(run.trades, replay.trades),
        "operations_per_second": round(len(replay.operations) / seconds) if seconds else 0,
    }
