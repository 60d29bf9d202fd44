"""The durable memory of what this validator signed: write-ahead log and signer guard together.

The log is made durable before the guard, so that a vote never binds this validator without the
block that it is for: a finalize vote that only the guard knew, its block lost, would keep us from
nullifying the view, and a network that needs our power could not leave it. `open` teaches the guard
what only the log knows. A vote that only the guard knows means that the log was lost; it is handed
to the core with the log's records, so that the core does not contradict it.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Final, Self

from omninode.consensus.guard import SignerGuard
from omninode.consensus.records import WalRecord, WalVote
from omninode.consensus.types import Vote
from omninode.consensus.wal import Wal
from omninode.errors import BrokenInvariant, ConfigError, StorageFault

_PROBE_BYTES: Final = 512
_PROBES: Final = 25
_NO_VIEW: Final = 2**63
"""A floor above every view."""


class VoteLog:
    """Implements `consensus.ports.VoteLog`; made by `open`."""

    def __init__(self, wal: Wal, guard: SignerGuard | None) -> None:
        self._wal = wal
        self._guard = guard

    @classmethod
    def open(cls, wal_path: Path, guard_path: Path | None) -> tuple[Self, list[WalRecord]]:
        """Open both and return what the core has to replay, in order.

        Args:
            wal_path: The log's folder; made if missing.
            guard_path: The guard's file; `None` for an observer, which signs nothing.

        Raises:
            ConfigError: The guard is missing or damaged, or log and guard contradict each other.
            StorageFault: The disk fails, or a durable record of the log is damaged.
        """
        guard = SignerGuard.open(guard_path) if guard_path is not None else None
        try:
            wal, records = Wal.open(wal_path)
            if guard is not None:
                records += _reconcile(guard, records, wal_path)
        except BaseException:
            if guard is not None:
                guard.close()
            raise
        return cls(wal, guard), records

    @property
    def torn_bytes(self) -> int:
        """How much of a crash's unfinished last write was cut off when the log was opened."""
        return self._wal.torn_bytes

    def floor_view(self, epoch: int) -> int:
        """Return the lowest view of an epoch that the guard lets us vote in; 0 without a guard.

        It keeps the floor as (epoch, view): of an epoch before the floor's nothing is allowed.
        """
        floor_epoch, floor_view = (0, 0) if self._guard is None else self._guard.floor
        if epoch == floor_epoch:
            return floor_view
        return 0 if epoch > floor_epoch else _NO_VIEW

    def append(self, record: WalRecord) -> None:
        """Buffer a record of the log.

        Raises:
            StorageFault: The log could not be written before.
        """
        self._wal.append(record)

    def guard(self, vote: Vote) -> None:
        """Judge an own vote by the signer guard and remember it there; durable with `sync`.

        Raises:
            BrokenInvariant: It contradicts an earlier vote, or this node has no guard.
            StorageFault: The guard could not be written before.
        """
        if self._guard is None:
            raise BrokenInvariant("a node without a signer guard tried to vote")
        self._guard.check(vote)

    def sync(self) -> None:
        """Make everything buffered durable; called in a worker thread while others append.

        Raises:
            StorageFault: The disk failed or is full.
        """
        self._wal.sync()
        if self._guard is not None:
            self._guard.sync()

    def prune(self, *, final_epoch: int, final_view: int, committed_height: int) -> int:
        """Drop what the log no longer needs (`Wal.prune`); in a worker thread."""
        return self._wal.prune(
            final_epoch=final_epoch, final_view=final_view, committed_height=committed_height
        )

    def close(self) -> None:
        """Sync and close both."""
        try:
            self._wal.close()
        finally:
            if self._guard is not None:
                self._guard.close()


def _reconcile(guard: SignerGuard, records: list[WalRecord], wal_path: Path) -> list[WalRecord]:
    """Teach the guard the log's votes; return the votes that only the guard knows."""
    logged = [record.vote for record in records if isinstance(record, WalVote)]
    for vote in logged:
        if (vote.epoch, vote.view) < guard.floor:
            continue
        try:
            guard.check(vote)
        except BrokenInvariant as error:
            raise ConfigError(
                f"{wal_path} and the signer guard belong to different histories: {error}",
                hint=f"Move {wal_path} away; the node fetches what it needs from its peers.",
            ) from error
    guard.sync()
    known = {(vote.epoch, vote.view, vote.kind) for vote in logged}
    return [
        WalVote(vote) for vote in guard.votes if (vote.epoch, vote.view, vote.kind) not in known
    ]


def measure_sync_ms(folder: Path) -> float:
    """Measure what one small append and fdatasync costs in a folder: the median in milliseconds.

    Every own vote waits for two of these. The probe file is removed again.

    Raises:
        StorageFault: The folder can not be written.
    """
    probe = folder / "sync-probe"
    taken_ns = []
    try:
        file = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(_PROBES):
                started_ns = time.perf_counter_ns()
                os.write(file, bytes(_PROBE_BYTES))
                os.fdatasync(file)
                taken_ns.append(time.perf_counter_ns() - started_ns)
        finally:
            os.close(file)
            probe.unlink()
    except OSError as error:
        raise StorageFault(f"{folder} can not be written: {error.strerror}") from error
    return statistics.median(taken_ns) / 1e6
