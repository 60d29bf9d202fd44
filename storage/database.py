"""The database: LevelDB with one writer thread, group commit, and one fault for ever.

Rules
    D1. One thread writes. Batches that wait while a sync runs are written together, in order of
        arrival, as one atomic LevelDB batch with one sync (group commit).
    D2. A batch is atomic: after a crash it is there whole or not at all, and never without the
        batches before it.
    D3. After a failed write nothing is written any more: every later write fails with the same
        fault, so that what is on the disk stays the prefix of what was written.
    D4. Reads go straight to LevelDB, in any thread, beside the writer; they see whole batches only.

What it does not know: what the keys mean (`keys`) or what the values are (`records`).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self, TypeAlias

import plyvel
import trio

from omninode.errors import StorageFault
from omninode.storage.limits import (
    GROUP_BYTES_MAX,
    OPEN_FILES_MAX,
    READ_CACHE_BYTES,
    WRITE_BUFFER_BYTES,
    WRITE_BYTES_WAITING_MAX,
    WRITES_WAITING_MAX,
)

Batch: TypeAlias = Sequence[tuple[bytes, bytes | None]]
"""Keys with their new values; `None` deletes."""

_BLOOM_BITS: Final = 10


class _Write:
    """One batch on its way to the disk."""

    __slots__ = ("batch", "done", "fault", "size", "sync")

    def __init__(self, batch: Batch, *, sync: bool, done: Callable[[], None]) -> None:
        self.batch = batch
        self.sync = sync
        self.done = done
        self.fault: StorageFault | None = None
        self.size = sum(len(key) + len(value or b"") for key, value in batch)


class Database:
    """An open LevelDB folder. Made by `open`; closed by `close` or as a context manager.

    Attributes:
        fault: Why nothing is written any more, or `None`.
    """

    def __init__(self, path: Path, level: plyvel.DB) -> None:
        self.fault: StorageFault | None = None
        self._path = path
        self._level = level
        self._queue: deque[_Write] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._wake = threading.Condition()
        self._entrance = trio.Lock()
        self._room = trio.Event()
        # A daemon: an error elsewhere that skips `close` must not keep the process alive.
        self._thread = threading.Thread(
            target=self._write_loop, name="database writer", daemon=True
        )
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder, making it if missing.

        Raises:
            StorageFault: It is in use, damaged, or can not be read or written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            level = plyvel.DB(
                str(path),
                create_if_missing=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                max_open_files=OPEN_FILES_MAX,
                lru_cache_size=READ_CACHE_BYTES,
                bloom_filter_bits=_BLOOM_BITS,
            )
        except (plyvel.Error, OSError) as error:
            raise StorageFault(
                f"the database {path} can not be opened: {_words(error)}. {_advice(error)}"
            ) from error
        return cls(path, level)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def write(self, batch: Batch, *, sync: bool) -> None:
        """Write a batch; returns when it is written, with `sync` when it is durable.

        It can not be cancelled: the batch is written, and only then does the caller notice.

        Args:
            batch: Applied as one (D2); a later entry of a key wins.
            sync: Whether to wait for the disk. Batches before it become durable with it.

        Raises:
            StorageFault: The disk failed or is full (D3).
        """
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()

        def done() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(trio.lowlevel.reschedule, task)
                token.run_sync_soon(self._made_room, idempotent=True)

        write = _Write(batch, sync=sync, done=done)
        with trio.CancelScope(shield=True):
            async with self._entrance:
                while not self._has_room(write):
                    # `_made_room` runs in this thread too, so it can not come before the event.
                    self._room = trio.Event()
                    await self._room.wait()
                self._enqueue(write)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if write.fault is not None:
            raise write.fault

    def write_blocking(self, batch: Batch, *, sync: bool) -> None:
        """Write a batch from a thread without trio (command line tools), through the same queue.

        Raises:
            StorageFault: The disk failed or is full (D3).
        """
        finished = threading.Event()
        write = _Write(batch, sync=sync, done=finished.set)
        self._enqueue(write)
        finished.wait()
        if write.fault is not None:
            raise write.fault

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key.

        Raises:
            StorageFault: The disk failed or the database is damaged.
        """
        try:
            value: bytes | None = self._level.get(key, verify_checksums=True)
        except (plyvel.Error, OSError) as error:
            raise self._unreadable(error) from error
        return value

    def iterate(
        self,
        prefix: bytes,
        *,
        start: bytes = b"",
        stop: bytes | None = None,
        reverse: bool = False,
        fill_cache: bool = True,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the keys with a prefix, which is taken off, as they are at this moment.

        Args:
            prefix: What the keys begin with.
            start: First key after the prefix (included).
            stop: End of the keys after the prefix (not included).
            reverse: From the last to the first.
            fill_cache: False for one long scan, so that it does not empty the cache.

        Raises:
            StorageFault: The disk failed or the database is damaged.
        """
        try:
            rows = self._level.prefixed_db(prefix).iterator(
                start=start or None,
                stop=stop,
                reverse=reverse,
                fill_cache=fill_cache,
                verify_checksums=True,
            )
        except (plyvel.Error, OSError) as error:
            raise self._unreadable(error) from error
        return self._guarded(rows)

    def frozen(self, columns: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over whole columns, keys complete, as they are at the call.

        Another thread may read it while this one goes on writing.

        Raises:
            StorageFault: The disk failed or the database is damaged.
        """
        view = self._level.snapshot()

        def rows() -> Iterator[tuple[bytes, bytes]]:
            with contextlib.closing(view):
                for column in columns:
                    yield from view.iterator(prefix=column, fill_cache=False, verify_checksums=True)

        return self._guarded(rows())

    def close(self) -> None:
        """Write what is queued, then close; a second call does nothing."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._level.close()

    def _guarded(self, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from rows
        except (plyvel.Error, OSError) as error:
            raise self._unreadable(error) from error

    def _has_room(self, write: _Write) -> bool:
        with self._wake:
            return not self._queue or (
                len(self._queue) < WRITES_WAITING_MAX
                and self._queued_bytes + write.size <= WRITE_BYTES_WAITING_MAX
            )

    def _made_room(self) -> None:
        self._room.set()

    def _enqueue(self, write: _Write) -> None:
        with self._wake:
            if self._closing:
                raise StorageFault(f"the database {self._path} is closed")
            self._queue.append(write)
            self._queued_bytes += write.size
            self._wake.notify()

    def _write_loop(self) -> None:
        """Write groups until closed; the only place that changes the database (D1)."""
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                group = [self._queue.popleft()]
                size = group[0].size
                while self._queue and size + self._queue[0].size <= GROUP_BYTES_MAX:
                    group.append(self._queue.popleft())
                    size += group[-1].size
                self._queued_bytes -= size
            if self.fault is None:
                self._write_group(group)
            for write in group:
                write.fault = self.fault
                write.done()

    def _write_group(self, group: list[_Write]) -> None:
        try:
            with self._level.write_batch(sync=any(write.sync for write in group)) as batch:
                for write in group:
                    for key, value in write.batch:
                        if value is None:
                            batch.delete(key)
                        else:
                            batch.put(key, value)
        except (plyvel.Error, OSError) as error:
            self.fault = StorageFault(
                f"the database {self._path} can not be written: {_words(error)}. Free or replace "
                "the disk and start again: nothing that was acknowledged is lost"
            )

    def _unreadable(self, error: Exception) -> StorageFault:
        return StorageFault(
            f"the database {self._path} can not be read: {_words(error)}. {_advice(error)}"
        )


def _words(error: Exception) -> str:
    """Return the message of LevelDB, which comes as bytes."""
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _advice(error: Exception) -> str:
    if isinstance(error, plyvel.CorruptionError):
        return "It is damaged: check the disk, then `omninode reset` and let the node sync again"
    if _words(error).startswith("IO error: lock "):
        return "Another process uses it: stop that one first"
    return "Free or mend the disk and start again"
