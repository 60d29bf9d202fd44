"""The write-ahead log of consensus: own votes, blocks with their bodies, certificates, in order.

Rules
    L1. `append` buffers; `sync` is one write and one fdatasync, and what was appended before it was
        called is durable when it returns.
    L2. The log is a row of segment files. Every file but the last ends in a durable record.
    L3. The first record of a write says that every byte before it is durable (a *sync point*). So a
        bad record with a sync point behind it is damage, and one without is the torn tail of a
        crash: nothing behind it was ever promised, it is cut off and its size reported.
    L4. A transaction's bytes are stored once: a block that holds one again refers to it.
    L5. A segment goes when everything in it is final and committed: blocks at or below the
        committed height, votes and certificates at or below the final view. Segments go oldest
        first, and one whose bodies a living block refers to stays.

    segment = "OMNIWAL1" | sequence(8) | salt(8) | record…        records as in `consensus.framing`

It does not know what a vote means: the core and the signer guard do.
"""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn, Self

import msgspec

from omninode.consensus.framing import (
    SALT_BYTES,
    RecordKind,
    frame,
    has_sync_point,
    record_at,
    sync_point,
)
from omninode.consensus.guard import sync_directory
from omninode.consensus.limits import (
    WAL_BUFFER_BYTES_MAX,
    WAL_RECORD_BYTES_MAX,
    WAL_SEGMENT_BYTES_MAX,
)
from omninode.consensus.records import WalBlock, WalCertificate, WalRecord, WalVote
from omninode.consensus.types import Block, Certificate, Vote
from omninode.encoding import decode, encode
from omninode.errors import Malformed, StorageFault

_MAGIC: Final = b"OMNIWAL1"
_HEADER_BYTES: Final = 16 + SALT_BYTES


class _BlockRecord(msgspec.Struct, frozen=True, array_like=True):
    """A block as the log holds it: an empty body stands in an earlier record (L4)."""

    block: Block
    bodies: tuple[bytes, ...]


class _Segment:
    """One file and what keeps it alive (L5)."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.size = 0
        self.salt = b""
        self.place_max = (-1, -1)
        self.height_max = -1
        self.blocks: set[bytes] = set()
        self.bodies: set[bytes] = set()


class Wal:
    """An open log. Made by `open`; one thread appends while another syncs.

    Attributes:
        torn_bytes: How much of a crash's unfinished last write was cut off when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.torn_bytes = 0
        self._path = path
        self._segments: list[_Segment] = []
        self._of_body: dict[bytes, _Segment] = {}
        self._of_block: dict[bytes, _Segment] = {}
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._file: int | None = None
        self._written = _Segment(0)
        self._synced_since_point = False
        self._fault: StorageFault | None = None
        self._buffer_lock = threading.Lock()
        self._write_lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[WalRecord]]:
        """Open the log in folder `path` (made if missing) and return its records in order.

        Raises:
            StorageFault: The disk fails, or a record that was durable is damaged.
        """
        wal = cls(path)
        try:
            records = wal._load()
        except OSError as error:
            raise StorageFault(
                f"the write-ahead log {path} can not be opened: {error.strerror}"
            ) from error
        return wal, records

    def append(self, record: WalRecord) -> None:
        """Buffer a record; a block that the log already holds is not written again.

        Raises:
            StorageFault: The log could not be written before.
        """
        if self._fault is not None:
            raise self._fault
        with self._buffer_lock:
            match record:
                case WalVote(vote):
                    self._put(RecordKind.VOTE, encode(vote))
                    self._keep(vote)
                case WalCertificate(certificate):
                    self._put(RecordKind.CERTIFICATE, encode(certificate))
                    self._keep(certificate)
                case WalBlock(block, transactions):
                    if block.hash not in self._of_block:
                        self._put(
                            RecordKind.BLOCK,
                            encode(self._without_known_bodies(block, transactions)),
                        )
                        self._register(block, self._segments[-1])
            full = self._buffered_bytes > WAL_BUFFER_BYTES_MAX
        if full:
            self.sync()

    def sync(self) -> None:
        """Write and fdatasync everything appended before this call.

        Raises:
            StorageFault: The disk failed or is full; every later call fails with the same fault.
        """
        with self._write_lock:
            if self._fault is not None:
                raise self._fault
            with self._buffer_lock:
                if not self._buffer:
                    return
                records = self._buffer
                segment = self._segments[-1]
                self._buffer = []
                self._buffered_bytes = 0
                if segment.size >= WAL_SEGMENT_BYTES_MAX:
                    self._segments.append(_Segment(segment.sequence + 1))
            try:
                self._write(segment, records)
            except OSError as error:
                self._fail(error)

    def prune(self, *, final_epoch: int, final_view: int, committed_height: int) -> int:
        """Drop the oldest segments that nothing needs any more (L5); returns how many.

        It waits for a sync that is under way: call it in a worker thread.

        Raises:
            StorageFault: A file can not be removed.
        """
        dropped = []
        with self._write_lock, self._buffer_lock:
            while (
                (segment := self._segments[0]).sequence < self._written.sequence
                and segment.place_max <= (final_epoch, final_view)
                and segment.height_max <= committed_height
            ):
                dropped.append(self._segments.pop(0))
                self._forget(segment)
        try:
            for segment in dropped:
                self._name(segment.sequence).unlink()
            if dropped:
                sync_directory(self._path)
        except OSError as error:
            self._fail(error)
        return len(dropped)

    def close(self) -> None:
        """Sync, mark the end as durable, and close the file.

        Raises:
            StorageFault: The disk failed or is full.
        """
        if self._fault is None:
            self.sync()
        if self._file is not None:
            try:
                if self._fault is None and self._synced_since_point:
                    self._write(self._written, [])
            except OSError as error:
                self._fail(error)
            finally:
                os.close(self._file)
                self._file = None

    # Appending. Everything here runs under the buffer lock, or while the log is being opened.

    def _put(self, kind: RecordKind, payload: bytes) -> None:
        if len(payload) > WAL_RECORD_BYTES_MAX:
            raise StorageFault(f"a record of {len(payload)} bytes, at most {WAL_RECORD_BYTES_MAX}")
        record = frame(kind, payload)
        self._buffer.append(record)
        self._buffered_bytes += len(record)
        self._segments[-1].size += len(record)

    def _keep(self, record: Vote | Certificate) -> None:
        segment = self._segments[-1]
        segment.place_max = max(segment.place_max, (record.epoch, record.view))

    def _without_known_bodies(self, block: Block, transactions: tuple[bytes, ...]) -> _BlockRecord:
        assert all(transactions), "a transaction has bytes"
        fresh: set[bytes] = set()
        bodies = []
        for transaction_id, body in zip(block.transaction_ids, transactions, strict=True):
            known = transaction_id in self._of_body or transaction_id in fresh
            bodies.append(b"" if known else body)
            fresh.add(transaction_id)
        return _BlockRecord(block, tuple(bodies))

    def _register(self, block: Block, segment: _Segment) -> None:
        height = block.header.height
        segment.height_max = max(segment.height_max, height)
        segment.blocks.add(block.hash)
        self._of_block[block.hash] = segment
        for transaction_id in block.transaction_ids:
            holder = self._of_body.setdefault(transaction_id, segment)
            holder.bodies.add(transaction_id)
            holder.height_max = max(holder.height_max, height)

    def _forget(self, segment: _Segment) -> None:
        for block_hash in segment.blocks:
            del self._of_block[block_hash]
        for transaction_id in segment.bodies:
            del self._of_body[transaction_id]

    # Writing. Everything here runs under the write lock, or while the log is being opened.

    def _write(self, segment: _Segment, records: list[bytes]) -> None:
        if self._file is None or segment is not self._written:
            self._begin(segment)
        assert self._file is not None
        point = b""
        if self._synced_since_point:
            point = sync_point(os.lseek(self._file, 0, os.SEEK_CUR), segment.salt)
        _write_all(self._file, b"".join((point, *records)))
        os.fdatasync(self._file)
        self._synced_since_point = bool(records)

    def _begin(self, segment: _Segment) -> None:
        """Make the file of a new segment, durable with its name (L2)."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.open(self._name(segment.sequence), flags, 0o600)
        segment.salt = os.urandom(SALT_BYTES)
        _write_all(self._file, _header(segment))
        os.fsync(self._file)
        sync_directory(self._path)
        self._written = segment
        self._synced_since_point = False

    def _fail(self, error: OSError) -> NoReturn:
        self._fault = StorageFault(
            f"the write-ahead log {self._path} can not be written: {error.strerror}; free or "
            "replace the disk and start again, nothing that left this node is lost"
        )
        raise self._fault from error

    def _name(self, sequence: int) -> Path:
        return self._path / f"{sequence:016d}.wal"

    # Opening.

    def _load(self) -> list[WalRecord]:
        if not self._path.is_dir():
            self._path.mkdir(parents=True)
            sync_directory(self._path.parent)
        sequences = sorted(int(file.stem) for file in self._path.glob("[0-9]*.wal"))
        for earlier, later in pairwise(sequences):
            if later != earlier + 1:
                self._damaged(self._name(earlier + 1), 0, "the file is missing")
        records: list[WalRecord] = []
        bodies: dict[bytes, bytes] = {}
        for sequence in sequences:
            self._load_segment(sequence, records, bodies, last=sequence == sequences[-1])
        if not self._segments:
            self._segments.append(_Segment(0))
        last = self._segments[-1]
        if last.size >= WAL_SEGMENT_BYTES_MAX:
            self._segments.append(_Segment(last.sequence + 1))
        return records

    def _load_segment(
        self, sequence: int, records: list[WalRecord], bodies: dict[bytes, bytes], *, last: bool
    ) -> None:
        name = self._name(sequence)
        data = name.read_bytes()
        segment = _Segment(sequence)
        self._segments.append(segment)
        self._written = segment
        segment.salt = data[16:_HEADER_BYTES]
        end = 0
        if data.startswith(_header(segment)) and len(data) >= _HEADER_BYTES:
            end = self._take_all(name, data, records, bodies)
        # The header is durable before anything follows it, so a torn one stands alone.
        durable_behind = (
            has_sync_point(data, end, segment.salt) if end else len(data) > _HEADER_BYTES
        )
        if end < len(data) and (not last or durable_behind):
            self._damaged(name, end, "a record that was durable does not match its checksum")
        segment.size = end
        if last:
            self._reopen(segment, end, len(data))

    def _take_all(
        self, name: Path, data: bytes, records: list[WalRecord], bodies: dict[bytes, bytes]
    ) -> int:
        """Read a segment's records; returns where the last good one ends."""
        end = _HEADER_BYTES
        while (record := record_at(data, end)) is not None:
            kind, payload, behind = record
            try:
                self._take(kind, payload, records, bodies)
            except (Malformed, ValueError) as error:
                self._damaged(name, end, f"a record with a right checksum is malformed: {error}")
            end = behind
        return end

    def _take(
        self, kind: int, payload: bytes, records: list[WalRecord], bodies: dict[bytes, bytes]
    ) -> None:
        size = WAL_RECORD_BYTES_MAX
        if kind == RecordKind.VOTE:
            vote = decode(payload, Vote, size_max=size)
            self._keep(vote)
            records.append(WalVote(vote))
        elif kind == RecordKind.BLOCK:
            stored = decode(payload, _BlockRecord, size_max=size)
            ids = stored.block.transaction_ids
            bodies.update(
                (name, body) for name, body in zip(ids, stored.bodies, strict=True) if body
            )
            self._register(stored.block, self._segments[-1])
            # A body went with an older segment only when this block was committed (L5).
            if all(name in bodies for name in ids):
                whole = tuple(bodies[name] for name in ids)
                records.append(WalBlock(stored.block, whole))
        elif kind == RecordKind.CERTIFICATE:
            certificate = decode(payload, Certificate, size_max=size)
            self._keep(certificate)
            records.append(WalCertificate(certificate))
        elif kind != RecordKind.SYNC_POINT:
            raise Malformed(f"unknown record type {kind}")

    def _reopen(self, segment: _Segment, end: int, size: int) -> None:
        """Continue the last file behind its last good record."""
        self.torn_bytes = size - end
        if end == 0:
            self._begin(segment)
            segment.size = _HEADER_BYTES
            return
        self._file = os.open(self._name(segment.sequence), os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        # What a crash left unsynced is read and built on from now: make it as durable as the rest.
        os.fsync(self._file)
        sync_directory(self._path)
        self._synced_since_point = end > _HEADER_BYTES

    def _damaged(self, name: Path, offset: int, what: str) -> NoReturn:
        raise StorageFault(
            f"the write-ahead log is damaged: {name} at byte {offset}: {what}. Move the folder "
            f"{self._path} away and start again: the signer guard and the peers' memory keep this "
            "validator from contradicting its earlier votes, and blocks come from the peers"
        )


def _header(segment: _Segment) -> bytes:
    return _MAGIC + segment.sequence.to_bytes(8, "big") + segment.salt


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
