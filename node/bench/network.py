"""The benchmark of a whole network on this machine: a devnet in a temporary folder, measured.

One run gives order → final, the rate, what each validator takes of memory and processor, and how
long the start took. `climb` looks for the highest rate that stays final.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from omninode.dex.replay import Replay
from omninode.node.devnet.layout import WorldOptions
from omninode.node.devnet.processes import NodeProcess
from omninode.node.devnet.service import Devnet, Pace, Stop
from omninode.node.devnet.view import Snapshot
from omninode.node.devnet.world import World, opened_world
from omninode.node.home import Home

Document = dict[str, Any]
Tell = Callable[[str], None]

BENCH_BASE_PORT: Final = 26_250
"""Below the ports that systems lend to outgoing connections, so that none is in the way."""
CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")

CLIMB_SPEEDS: Final = (5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 25.0, 30.0, 40.0)
"""Times the recorded rate of about 198 operations a second."""

CLIMB_STEP_S: Final = 20.0
KEEPS_UP_P99_MS: Final = 2_000.0
"""A rate is kept up while this holds: a backlog shows in the latencies first."""

BATCH_TRADERS_PER_SIDE: Final = 4
"""With batches fewer accounts trade, so that there is something to share a signature."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run; `silent` validators are ended before the clock starts, and stay down."""

    pace: Pace
    silent: int = 0


class Beside(Protocol):
    """What runs beside a devnet, in the same event loop."""

    def begin(self) -> None:
        """The load begins now."""

    async def run(self, devnet: Devnet) -> None:
        """Run; ended with the devnet."""


class Watch:
    """A view that keeps what it is shown, and what the validators have used by then."""

    interval_s = 1.0

    def __init__(self, tell: Tell) -> None:
        self.snapshots: list[Snapshot] = []
        self.processor_s: list[tuple[float, list[float | None]]] = []
        self._say = tell
        self._processes: tuple[NodeProcess, ...] = ()

    def begin(self, devnet: Devnet, silent: int) -> None:
        """Take the processes to watch, and end those that are to be silent."""
        self._processes = devnet.processes[: len(devnet.processes) - silent]
        for process in devnet.processes[len(self._processes) :]:
            process.kill()

    def tell(self, text: str) -> None:
        """Hand a step on."""
        self._say(text)

    def show_world(self, world: World) -> None:
        """Show nothing: the network is gone in a minute."""

    def update(self, snapshot: Snapshot) -> None:
        """Keep it, with the processor time of each validator."""
        self.snapshots.append(snapshot)
        used = [processor_s(process.process_id) for process in self._processes]
        self.processor_s.append((time.monotonic(), used))

    def close(self) -> None:
        """Do nothing."""

    def cores(self) -> list[float]:
        """Return how much of a core each validator took while the load ran."""
        if len(self.processor_s) < 2:
            return []
        (began_s, first), (ended_s, last) = self.processor_s[0], self.processor_s[-1]
        return [
            round((after - before) / (ended_s - began_s), 2)
            for before, after in zip(first, last, strict=True)
            if before is not None and after is not None
        ]

    def memory(self) -> dict[str, float | None]:
        """Return the largest validator's MiB at the beginning, the middle and the end."""
        largest = [
            max((row.resident_mb for row in one.validators if row.resident_mb), default=None)
            for one in self.snapshots
        ]
        if not largest:
            return {"first": None, "middle": None, "last": None}
        return {"first": largest[0], "middle": largest[len(largest) // 2], "last": largest[-1]}


def run_trial(
    trial: Trial,
    replay: Replay,
    *,
    tell: Tell,
    beside: Beside | None = None,
) -> Document:
    """Run one devnet of 4 validators in a temporary folder and return its figures.

    Args:
        trial: What to run.
        replay: The recorded flow.
        tell: Told the progress.
        beside: What measures more.

    Raises:
        UserError: It did not start, or made no progress.
    """
    watch = Watch(tell)

    def begin(devnet: Devnet) -> None:
        watch.begin(devnet, trial.silent)
        if beside is not None:
            beside.begin()

    with tempfile.TemporaryDirectory(prefix="omninode-bench-") as folder:
        options = WorldOptions(base_port=BENCH_BASE_PORT)
        with opened_world(Home(Path(folder)), options, step=tell) as world:
            devnet = Devnet(
                world,
                replay,
                trial.pace,
                restart=trial.silent == 0,
                view=watch,
                stop=Stop(),
                before_load=begin,
            )
            document = trio.run(_run, devnet, beside)
    assert document is not None
    return _figures(trial, devnet, document, watch)


async def _run(devnet: Devnet, beside: Beside | None) -> Document | None:
    if beside is None:
        return await devnet.run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beside.run, devnet)
        document = await devnet.run()
        nursery.cancel_scope.cancel()
    return document


def _figures(trial: Trial, devnet: Devnet, document: Document, watch: Watch) -> Document:
    hashes = {row["app_hash"] for row in document["validators"]} - {None}
    cores = watch.cores()
    return {
        "speed": trial.pace.speed,
        "signed": "batches" if trial.pace.pack_s else "one by one",
        "silent": trial.silent,
        "ok": len(hashes) == 1 and document["orders"]["lost"] == 0,
        "seconds": document["seconds"],
        "start_to_first_block_s": None if devnet.started_s is None else round(devnet.started_s, 1),
        "orders": document["orders"],
        "orders_per_second": document["orders_per_second"],
        "finality_ms": document["finality_ms"],
        "rss_mb": watch.memory(),
        "cores_per_validator": round(statistics.median(cores), 2) if cores else None,
    }


def climb(replay: Replay, *, hold_s: float, pack_s: float, tell: Tell) -> list[Document]:
    """Raise the rate until it is not kept up, then hold the highest that was.

    Args:
        replay: The flow.
        hold_s: How long the highest rate is held.
        pack_s: Operations due within it share a signature per account; 0: none do.
        tell: Told the progress.

    Returns:
        Each step's figures; the last one is that of the hold.
    """
    documents: list[Document] = []
    best: float | None = None
    for speed in CLIMB_SPEEDS:
        tell(f"speed {speed}")
        document = run_trial(Trial(make_pace(speed, CLIMB_STEP_S, pack_s)), replay, tell=_silent)
        documents.append(document)
        if not keeps_up(document):
            break
        best = speed
    if best is not None:
        tell(f"holding speed {best} for {hold_s:.0f} s")
        documents.append(run_trial(Trial(make_pace(best, hold_s, pack_s)), replay, tell=_silent))
    return documents


def make_pace(speed: float, for_s: float, pack_s: float) -> Pace:
    """Return a pace; `pack_s` of 0 signs each operation on its own."""
    if not pack_s:
        return Pace(speed=speed, for_s=for_s)
    return Pace(speed=speed, for_s=for_s, pack_s=pack_s, traders_per_side=BATCH_TRADERS_PER_SIDE)


def keeps_up(document: Document) -> bool:
    """Whether a trial's rate was sustained: nothing lost or refused, and no backlog."""
    p99 = document["finality_ms"]["p99"]
    return (
        document["ok"]
        and document["orders"]["refused"] == 0
        and p99 is not None
        and p99 <= KEEPS_UP_P99_MS
    )


def _silent(_text: str) -> None:
    """Say nothing."""


def processor_s(process_id: int | None) -> float | None:
    """Return the processor time that a process has used; `None` if it is gone."""
    if process_id is None:
        return None
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
