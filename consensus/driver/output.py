"""The one ordered output queue (PROTOCOL.md P3): durable first, then out.

Rules
    Q1. What the core wants sent or finalized leaves in the order in which the core said it.
    Q2. Nothing leaves before every record that the core wrote earlier in the same or a former step
        is durable.
    Q3. Records that arrive while a sync runs share the next one (group commit).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

from omninode.consensus.effects import Finalize, Send
from omninode.consensus.ports import VoteLog

Output = Send | Finalize


class OutputQueue:
    """Holds outputs back until the log is durable.

    Unbounded by itself, bounded by its only producer: the core emits a bounded number of effects a
    step and the service reads no further input than its peers' bounded streams deliver between two
    syncs.
    """

    def __init__(self, log: VoteLog, emit: Callable[[Output], None]) -> None:
        self._log = log
        self._emit = emit
        self._waiting: deque[Output] = deque()
        self._unsynced = False
        self._syncing = False
        self._wake = trio.Event()

    def push(self, output: Output) -> None:
        """Queue one output behind everything written so far."""
        self._waiting.append(output)

    def written(self) -> None:
        """Say that a record was appended that later outputs rest on (Q2)."""
        self._unsynced = True

    def flush(self) -> None:
        """Emit at once if everything is durable, else let the syncing task do it."""
        if self._syncing:
            return
        if self._unsynced:
            self._syncing = True
            self._wake.set()
            return
        self._release(len(self._waiting))

    async def run(self) -> NoReturn:
        """Sync in a worker thread and release what waited for it."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._unsynced:
                self._unsynced = False
                covered = len(self._waiting)
                await trio.to_thread.run_sync(self._log.sync)
                self._release(covered)
            self._syncing = False
            self._release(len(self._waiting))

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._emit(self._waiting.popleft())
