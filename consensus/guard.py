"""The signer guard: a second memory of this validator's votes that refuses a contradiction.

Rules, judged here independently of the core (consensus.md §1.4, `cast`)
    S1. One vote of a kind in a view; the very same vote may be repeated.
    S2. No notarize vote after a nullify vote.
    S3. Finalize and nullify exclude each other.
    S4. No finalize vote for another block than the one notarized.
    S5. No vote in a view older than the oldest remembered one, once older views were forgotten.

The file lies outside the data folder, so that a lost, restored or reset write-ahead log takes
nothing from it; it never follows the log. It holds two slots that are written in turn, each with a
checksum and a sequence number: a crash in mid-write leaves the other slot, and the vote that was
being written had not left the node.

    slot, at offset 0 and SLOT_BYTES = magic(8) | crc32(4) | sequence(8) | length(4) | `_Memory`

It does not decide what to vote for, and it does not sign.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Final, Self

import msgspec

from omninode.consensus.limits import GUARD_VIEWS_MAX
from omninode.consensus.types import Count, Vote, VoteKind
from omninode.crypto import ZERO_HASH
from omninode.encoding import decode, encode
from omninode.errors import BrokenInvariant, ConfigError, Malformed, StorageFault

SLOT_BYTES: Final = 16_384
"""Room for two votes of at most 132 bytes in each of `GUARD_VIEWS_MAX` views."""
_MAGIC: Final = b"OMNIGRD1"
_HEADER: Final = struct.Struct(">8sIQI")
_REARM_HINT: Final = (
    "If the file is really lost, run `omninode keys rearm`: it makes a new guard that refuses "
    "every view below the one you name. Never copy the key to a second running node."
)

Place = tuple[int, int]
"""Epoch and view."""


class _Memory(msgspec.Struct, frozen=True, array_like=True):
    floor_epoch: Count
    floor_view: Count
    votes: tuple[Vote, ...]


class SignerGuard:
    """The guard of one vote key. Made by `create`, `open` or `rearm`."""

    def __init__(self, path: Path, file: int, sequence: int, memory: _Memory) -> None:
        self._path = path
        self._file = file
        self._sequence = sequence
        self._floor: Place = (memory.floor_epoch, memory.floor_view)
        self._views: dict[Place, dict[VoteKind, Vote]] = {}
        for vote in memory.votes:
            self._views.setdefault((vote.epoch, vote.view), {})[vote.kind] = vote
        self._dirty = False
        self._fault: StorageFault | None = None
        self._memory_lock = threading.Lock()
        self._write_lock = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make an empty guard (`omninode init`), durable with its directory entry.

        Raises:
            ConfigError: There is one already.
            StorageFault: It can not be written.
        """
        if path.exists():
            raise ConfigError(f"{path} exists already", hint="A signer guard is never overwritten.")
        _write_new(path, _Memory(0, 0, ()))
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing guard for one process.

        Raises:
            ConfigError: Missing, damaged, or used by another process; the message says what to do.
            StorageFault: The disk can not be read.
        """
        file = _lock(path)
        if file is None:
            raise ConfigError(
                f"the signer guard {path} is missing: without it this validator could contradict "
                "its earlier votes",
                hint=f"Restore the file. {_REARM_HINT}",
            )
        newest = _newest_slot(path, file)
        if newest is None:
            os.close(file)
            raise ConfigError(
                f"the signer guard {path} is damaged: neither of its two slots is readable",
                hint=f"Restore the file. {_REARM_HINT}",
            )
        return cls(path, file, *newest)

    @classmethod
    def rearm(cls, path: Path, *, floor_epoch: int, floor_view: int) -> Self:
        """Make a guard that refuses every view below a floor (`omninode keys rearm`).

        What a readable guard remembers is kept, and its floor never sinks; a damaged one is kept as
        `….damaged`.

        Raises:
            ConfigError: The present guard is used by another process.
            StorageFault: It can not be written.
        """
        kept = _Memory(0, 0, ())
        file = _lock(path)
        if file is not None:
            newest = _newest_slot(path, file)
            if newest is None:
                path.replace(path.with_name(path.name + ".damaged"))
            else:
                kept = newest[1]
            os.close(file)
        floor = max((floor_epoch, floor_view), (kept.floor_epoch, kept.floor_view))
        votes = tuple(vote for vote in kept.votes if (vote.epoch, vote.view) >= floor)
        _write_new(path, _Memory(*floor, votes))
        return cls.open(path)

    @property
    def floor(self) -> Place:
        """The oldest (epoch, view) in which this guard still allows a vote."""
        return self._floor

    @property
    def votes(self) -> tuple[Vote, ...]:
        """The remembered votes, oldest view first, for a core whose log has lost them (P7)."""
        with self._memory_lock:
            return self._remembered()

    def check(self, vote: Vote) -> None:
        """Judge a vote (S1–S5) and remember it in memory; it may leave the node only after `sync`.

        Raises:
            BrokenInvariant: The vote contradicts one that was signed before, or its view is too old
                to know.
            StorageFault: The guard could not be written before.
        """
        if self._fault is not None:
            raise self._fault
        with self._memory_lock:
            self._judge(vote)
            place = (vote.epoch, vote.view)
            kinds = self._views.setdefault(place, {})
            if vote.kind in kinds:
                return
            kinds[vote.kind] = vote
            self._dirty = True
            if len(self._views) > GUARD_VIEWS_MAX:
                del self._views[min(self._views)]
                self._floor = min(self._views)

    def check_and_record(self, vote: Vote) -> None:
        """Judge a vote and make it durable in one call.

        Raises:
            BrokenInvariant: See `check`.
            StorageFault: It can not be written.
        """
        self.check(vote)
        self.sync()

    def sync(self) -> None:
        """Make what was checked durable; called in a worker thread while others check.

        Raises:
            StorageFault: The file can not be written; every later call fails with the same fault.
        """
        with self._write_lock:
            if self._fault is not None:
                raise self._fault
            with self._memory_lock:
                if not self._dirty:
                    return
                self._dirty = False
                slot = _pack(self._sequence + 1, _Memory(*self._floor, self._remembered()))
            self._sequence += 1
            try:
                _write_at(self._file, slot, (self._sequence + 1) % 2 * SLOT_BYTES)
                os.fdatasync(self._file)
            except OSError as error:
                self._fault = StorageFault(
                    f"the signer guard {self._path} can not be written: {error.strerror}; "
                    "free or replace the disk and start again"
                )
                raise self._fault from error

    def close(self) -> None:
        """Give the file back; unsynced votes were never sent and are dropped."""
        os.close(self._file)

    def _remembered(self) -> tuple[Vote, ...]:
        return tuple(vote for place in sorted(self._views) for vote in self._views[place].values())

    def _judge(self, vote: Vote) -> None:
        if (vote.kind is VoteKind.NULLIFY) != (vote.block_hash == ZERO_HASH):
            raise BrokenInvariant(
                f"signer guard: a {vote.kind.value} vote for the wrong kind of hash"
            )
        if (vote.epoch, vote.view) < self._floor:  # S5
            raise BrokenInvariant(
                f"signer guard: refused a vote in epoch {vote.epoch}, view {vote.view}: "
                f"nothing is known any more below view {self._floor[1]} of epoch {self._floor[0]}"
            )
        earlier = self._views.get((vote.epoch, vote.view), {})
        notarized = earlier.get(VoteKind.NOTARIZE)
        same = earlier.get(vote.kind)
        if same is not None:  # S1
            allowed = same.block_hash == vote.block_hash
        elif vote.kind is VoteKind.NOTARIZE:  # S2, S4 the other way round
            finalized = earlier.get(VoteKind.FINALIZE)
            allowed = VoteKind.NULLIFY not in earlier and (
                finalized is None or finalized.block_hash == vote.block_hash
            )
        elif vote.kind is VoteKind.FINALIZE:  # S3, S4
            allowed = VoteKind.NULLIFY not in earlier and (
                notarized is None or notarized.block_hash == vote.block_hash
            )
        else:  # S3
            allowed = VoteKind.FINALIZE not in earlier
        if not allowed:
            signed = ", ".join(
                f"{v.kind.value} {v.block_hash.hex()[:16]}" for v in earlier.values()
            )
            raise BrokenInvariant(
                f"signer guard: refused {vote.kind.value} {vote.block_hash.hex()[:16]} in epoch "
                f"{vote.epoch}, "
                f"view {vote.view}: already signed {signed}"
            )


def _lock(path: Path) -> int | None:
    """Open and lock the file; `None` if there is none."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"the signer guard {path} can not be opened: {error.strerror}",
            hint="Mend its owner and mode: a plain file that this user can read and write.",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise ConfigError(
            f"the signer guard {path} is in use by another process",
            hint="One vote key signs in one process only: stop the other one first.",
        ) from None
    return file


def _newest_slot(path: Path, file: int) -> tuple[int, _Memory] | None:
    """Return the readable slot with the highest sequence number."""
    found = []
    for slot in range(2):
        try:
            data = os.pread(file, SLOT_BYTES, slot * SLOT_BYTES)
        except OSError as error:
            raise StorageFault(
                f"the signer guard {path} can not be read: {error.strerror}"
            ) from error
        unpacked = _unpack(data)
        if unpacked is not None:
            found.append(unpacked)
    return max(found, key=lambda entry: entry[0], default=None)


def _pack(sequence: int, memory: _Memory) -> bytes:
    payload = encode(memory)
    assert _HEADER.size + len(payload) <= SLOT_BYTES, "GUARD_VIEWS_MAX is too large for a slot"
    tail = _HEADER.pack(_MAGIC, 0, sequence, len(payload))[len(_MAGIC) + 4 :] + payload
    return _MAGIC + zlib.crc32(tail).to_bytes(4, "big") + tail


def _unpack(data: bytes) -> tuple[int, _Memory] | None:
    if len(data) < _HEADER.size:
        return None
    magic, checksum, sequence, length = _HEADER.unpack_from(data)
    end = _HEADER.size + length
    if magic != _MAGIC or end > len(data):
        return None
    if zlib.crc32(data[len(_MAGIC) + 4 : end]) != checksum:
        return None
    try:
        return sequence, decode(data[_HEADER.size : end], _Memory, size_max=SLOT_BYTES)
    except Malformed:
        return None


def _write_new(path: Path, memory: _Memory) -> None:
    """Put a whole new file in place at once, durable with its directory entry."""
    draft = path.with_name(path.name + ".new")
    try:
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Both slots have their place on the disk from the start: a full disk can not stop a
            # later vote half-way.
            _write_at(file, _pack(1, memory).ljust(2 * SLOT_BYTES, b"\0"), 0)
            os.fsync(file)
        finally:
            os.close(file)
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageFault(
            f"the signer guard {path} can not be written: {error.strerror}"
        ) from error


def _write_at(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; a synced new file may still lose its name.

    Raises:
        OSError: The directory can not be opened or synced.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
