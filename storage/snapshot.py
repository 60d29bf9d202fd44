"""Snapshots: the state after one block as chunks that a stranger's copy can be checked by.

Rules (PROTOCOL.md P6; consensus.md §1.6)
    N1. A snapshot has all records of `SNAPSHOT_COLUMNS` as they are after one block, in key order,
        cut into chunks: a record that would make a chunk longer than `CHUNK_BYTES_MAX` begins the
        next one. So every node makes the same chunks of the same state.
    N2. The manifest names the height and the hash of each chunk. Its hash is the snapshot root that
        the epoch's sealing block carries, so one final header vouches for every byte.
    N3. A snapshot appears under its name whole or not at all; the newest `SNAPSHOTS_KEPT` are kept.
    N4. Chunks are restored into a new database, in order and each checked; it takes the old one's
        place when it is complete and durable.

What it does not do: decide whose root to believe, or talk to peers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from omninode.consensus.types import Count, Hash
from omninode.crypto import keccak256, tagged_hash
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault, StorageFault
from omninode.storage import keys
from omninode.storage.database import Database
from omninode.storage.limits import (
    CHUNK_BYTES_MAX,
    RECORD_BYTES_MAX,
    RESTORE_BATCH_BYTES,
    SNAPSHOT_CHUNKS_MAX,
    SNAPSHOTS_KEPT,
)

SNAPSHOT_COLUMNS: Final = tuple(
    sorted(
        (
            keys.STATE,
            keys.ACCOUNT_DEPOSIT,
            keys.WITHDRAWAL,
            keys.ACCOUNT_WITHDRAWAL,
            keys.WITHDRAWAL_NODE,
            keys.CHECKPOINT,
            keys.CHECKPOINT_HEIGHT,
        )
    )
)
"""What no node can do without and none can work out from the state: the state itself, and what the
settlement chain needs to prove withdrawals."""

_MANIFEST: Final = "manifest"
_UNFINISHED: Final = ".unfinished"
_RECORD_OVERHEAD_BYTES: Final = 12
"""The most that a record's arrays and lengths take beside key and value."""

Records = Iterable[tuple[bytes, bytes]]
Chunk = tuple[tuple[bytes, bytes], ...]


class Manifest(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """What a snapshot is made of (N2)."""

    height: Count
    chunks: tuple[Hash, ...]

    @cached_property
    def root(self) -> bytes:
        """The snapshot root."""
        return tagged_hash("omni/snapshot/1", encode(self))


def chunks_of(records: Records) -> Iterator[bytes]:
    """Cut records in key order into encoded chunks (N1)."""
    chunk: list[tuple[bytes, bytes]] = []
    size = 0
    for record in records:
        length = len(record[0]) + len(record[1]) + _RECORD_OVERHEAD_BYTES
        if chunk and size + length > CHUNK_BYTES_MAX:
            yield encode(tuple(chunk))
            chunk, size = [], 0
        chunk.append(record)
        size += length
    if chunk:
        yield encode(tuple(chunk))


def decode_manifest(data: bytes, *, root: bytes) -> Manifest:
    """Decode a manifest from a peer and check it against a final header's root (N2).

    Raises:
        PeerFault: It is not the manifest of that root.
    """
    try:
        manifest = decode(data, Manifest, size_max=64 + 40 * SNAPSHOT_CHUNKS_MAX)
    except Malformed as error:
        raise PeerFault("bad_snapshot", f"manifest: {error}") from None
    if manifest.root != root:
        raise PeerFault("bad_snapshot", "the manifest is not that of the sealed root")
    return manifest


def check_chunk(manifest: Manifest, index: int, data: bytes) -> None:
    """Check a chunk from a peer (N2).

    Raises:
        PeerFault: It is another one.
    """
    if keccak256(data) != manifest.chunks[index]:
        raise PeerFault("bad_snapshot", f"chunk {index} is not the manifest's")


class Snapshots:
    """The snapshots of one node: a folder for each, named by its height.

    Everything here blocks on the disk and runs in a worker thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    def make(self, height: int, records: Records) -> Manifest:
        """Write the snapshot after a block, unless it is there; drop old ones (N1, N3).

        Args:
            height: The block's height.
            records: All records of `SNAPSHOT_COLUMNS` after it, in key order.

        Raises:
            StorageFault: The disk failed or is full.
        """
        held = self.manifest(height)
        if held is not None:
            return held
        with _disk_faults(self.folder):
            place = self._begin(f"{height}{_UNFINISHED}")
            hashes = []
            for index, chunk in enumerate(chunks_of(records)):
                (place / str(index)).write_bytes(chunk)
                hashes.append(keccak256(chunk))
            manifest = Manifest(height, tuple(hashes))
            self._finish(place, manifest)
            for old in self.heights()[:-SNAPSHOTS_KEPT]:
                shutil.rmtree(self.folder / str(old))
        return manifest

    def heights(self) -> list[int]:
        """Return the heights of the snapshots held, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(place.name) for place in self.folder.iterdir() if place.name.isdigit())

    def manifest(self, height: int) -> Manifest | None:
        """Return the manifest of a snapshot held.

        Raises:
            StorageFault: It can not be read.
        """
        data = self._read(height, _MANIFEST)
        if data is None:
            return None
        try:
            return decode(data, Manifest, size_max=len(data))
        except Malformed as error:
            raise StorageFault(f"{self.folder}/{height}/{_MANIFEST} is damaged: {error}") from error

    def chunk(self, height: int, index: int) -> bytes | None:
        """Return a chunk of a snapshot held.

        Raises:
            StorageFault: It can not be read.
        """
        return self._read(height, str(index))

    # A copy that is being fetched from peers.

    def begin_copy(self, manifest: Manifest) -> Path:
        """Return the folder that takes the chunks of a copy; what it holds of them stays.

        Unfinished copies of other snapshots are dropped.
        """
        with _disk_faults(self.folder):
            place = self.folder / f"{manifest.root.hex()}{_UNFINISHED}"
            place.mkdir(parents=True, exist_ok=True)
            for other in self.folder.iterdir():
                if other.name.endswith(_UNFINISHED) and other != place:
                    shutil.rmtree(other)
        return place

    def missing(self, place: Path, manifest: Manifest) -> list[int]:
        """Return which chunks of a copy are not held yet, or not whole."""
        missing = []
        for index, expected in enumerate(manifest.chunks):
            path = place / str(index)
            if not path.is_file() or keccak256(path.read_bytes()) != expected:
                missing.append(index)
        return missing

    def finish_copy(self, place: Path, manifest: Manifest) -> None:
        """Make a complete copy a snapshot of ours (N3)."""
        with _disk_faults(self.folder):
            self._finish(place, manifest)

    def _begin(self, name: str) -> Path:
        place = self.folder / name
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        return place

    def _finish(self, place: Path, manifest: Manifest) -> None:
        (place / _MANIFEST).write_bytes(encode(manifest))
        for path in sorted(place.iterdir()):
            _sync(path)
        _sync(place)
        target = self.folder / str(manifest.height)
        if target.exists():
            shutil.rmtree(target)
        place.rename(target)
        _sync(self.folder)

    def _read(self, height: int, name: str) -> bytes | None:
        try:
            return (self.folder / str(height) / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault(f"{self.folder}/{height}/{name}: {error.strerror}") from error


def snapshot_records(database: Database) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over all that a snapshot has, as the database is at this moment (N1).

    The view is taken at the call, not at the first record: what is written later is not in it.
    """
    return database.frozen(SNAPSHOT_COLUMNS)


def restore(
    target: Path,
    manifest: Manifest,
    *,
    chunk: Callable[[int], bytes],
    finish: Callable[[Database], object],
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Build a database from a snapshot and put it in the place of `target` (N4).

    Args:
        target: The database's folder; whatever is there is removed at the end.
        manifest: Of the snapshot, checked against a final header.
        chunk: Returns the bytes of one chunk.
        finish: Adds what else a chain's database holds, and may refuse by raising.
        progress: Told after each chunk how many are restored.

    Raises:
        PeerFault: A chunk is not the manifest's, or its records are not in order.
        StorageFault: The disk failed or is full.
    """
    building = target.with_name(target.name + _UNFINISHED)
    with _disk_faults(building):
        if building.exists():
            shutil.rmtree(building)
    with Database.open(building) as database:
        last = b""
        for index in range(len(manifest.chunks)):
            data = chunk(index)
            check_chunk(manifest, index, data)
            last = _put(database, _records_of(data, after=last))
            progress(index + 1)
        finish(database)
        database.write_blocking((), sync=True)
    with _disk_faults(target):
        if target.exists():
            shutil.rmtree(target)
        building.rename(target)
        _sync(target.parent)


def _records_of(data: bytes, *, after: bytes) -> Chunk:
    try:
        chunk = decode(data, Chunk, size_max=RECORD_BYTES_MAX)
    except Malformed as error:
        raise PeerFault("bad_snapshot", f"chunk: {error}") from None
    if not chunk:
        raise PeerFault("bad_snapshot", "a chunk without records")
    for key, _ in chunk:
        if key <= after or key[:1] not in SNAPSHOT_COLUMNS:
            raise PeerFault("bad_snapshot", "records out of order or of a foreign column")
        after = key
    return chunk


def _put(database: Database, chunk: Chunk) -> bytes:
    batch: list[tuple[bytes, bytes | None]] = []
    size = 0
    for key, value in chunk:
        batch.append((key, value))
        size += len(key) + len(value)
        if size >= RESTORE_BATCH_BYTES:
            database.write_blocking(batch, sync=False)
            batch, size = [], 0
    database.write_blocking(batch, sync=False)
    return chunk[-1][0]


@contextlib.contextmanager
def _disk_faults(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFault(f"{error.filename or place}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
