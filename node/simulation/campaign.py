"""Many schedules, by seed, in as many processes as there are cores.

Every schedule depends on its seed and the options alone, and reports are added in the order of the
seeds: so the result is the same for any number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.pool import Pool
from typing import Final

from omninode.node.simulation.options import Options
from omninode.node.simulation.report import Report
from omninode.node.simulation.simulator import simulate

SEEDS_PER_TURN: Final = 16
"""Seeds that a process gets at a time."""


def run_seeds(seeds: range, options: Options, *, processes: int | None = None) -> Iterator[Report]:
    """Run schedules and yield their reports in the order of the seeds.

    Args:
        seeds: Each names a schedule.
        options: What they have in common.
        processes: How many work at it; default one a core that this process may use.
    """
    run = partial(simulate, options=options)
    count = processes or len(os.sched_getaffinity(0))
    turn = min(SEEDS_PER_TURN, max(len(seeds) // (4 * count), 1))
    if count == 1 or len(seeds) <= turn:
        yield from map(run, seeds)
        return
    with _pool(min(count, len(seeds))) as pool:
        yield from pool.imap(run, seeds, chunksize=turn)


def _pool(count: int) -> Pool:
    """Start processes that never hear Ctrl-C: it is for the one that shows the result."""
    # Started by the first pool otherwise, and it would end the mask.
    resource_tracker.ensure_running()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return multiprocessing.get_context("spawn").Pool(count)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
