"""Snapshots: the same state makes the same chunks, and nothing else is restored from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.crypto import keccak256
from omninode.encoding import decode, encode
from omninode.errors import PeerFault, StorageFault
from omninode.storage import keys
from omninode.storage.database import Database
from omninode.storage.limits import CHUNK_BYTES_MAX, SNAPSHOTS_KEPT
from omninode.storage.snapshot import (
    SNAPSHOT_COLUMNS,
    Chunk,
    Manifest,
    Snapshots,
    chunks_of,
    decode_manifest,
    restore,
    snapshot_records,
)

HEAD = [(keys.META_FORMAT, encode(2))]


def add_head(database: Database) -> None:
    database.write_blocking(HEAD, sync=False)


def state_key(number: int) -> bytes:
    return keys.STATE + number.to_bytes(4, "big")


def records(count: int, size: int) -> list[tuple[bytes, bytes]]:
    return [(state_key(number), bytes((number % 251,)) * size) for number in range(count)]


def content(path: Path) -> list[tuple[bytes, bytes]]:
    with Database.open(path) as database:
        return list(database.iterate(b""))


@given(st.lists(st.binary(max_size=40), unique=True), st.integers(0, 400_000))
def test_chunks_hold_all_records_in_order_and_are_bounded(names: list[bytes], size: int) -> None:
    rows = [(keys.STATE + name, bytes(size)) for name in sorted(names)]
    chunks = [decode(chunk, Chunk, size_max=len(chunk)) for chunk in chunks_of(rows)]
    assert [row for chunk in chunks for row in chunk] == rows
    for chunk, encoded in zip(chunks, chunks_of(rows), strict=True):
        assert len(encoded) <= CHUNK_BYTES_MAX or len(chunk) == 1


def test_a_snapshot_is_restored_to_the_same_records(tmp_path: Path) -> None:
    rows = [*records(30, 200_000), (keys.WITHDRAWAL + b"1", b"w"), (keys.WITHDRAWAL_NODE, b"n")]
    with Database.open(tmp_path / "from") as database:
        others = [(keys.BLOCK + b"1", b"a block"), (keys.JOURNAL + b"1", b"mine")]
        database.write_blocking(rows + others, sync=True)
        snapshots = Snapshots(tmp_path / "snapshots")
        frozen = snapshot_records(database)
        database.write_blocking([(state_key(0), b"later"), (state_key(99), b"new")], sync=True)
        manifest = snapshots.make(7, frozen)
    assert len(manifest.chunks) > 1
    told: list[int] = []
    (tmp_path / "to").mkdir()
    restore(
        tmp_path / "to",
        manifest,
        chunk=lambda index: snapshots.chunk(7, index) or b"",
        finish=add_head,
        progress=told.append,
    )
    assert told == list(range(1, len(manifest.chunks) + 1))
    assert content(tmp_path / "to") == sorted(rows + HEAD)
    with Database.open(tmp_path / "to") as database:
        again = Snapshots(tmp_path / "again").make(7, snapshot_records(database))
    assert again.root == manifest.root


def test_only_the_newest_snapshots_are_kept(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots")
    for height in range(1, SNAPSHOTS_KEPT + 3):
        snapshots.make(height, records(height, 10))
    kept = snapshots.heights()
    assert kept == list(range(3, SNAPSHOTS_KEPT + 3))
    assert snapshots.manifest(1) is None
    assert snapshots.chunk(1, 0) is None
    assert snapshots.make(kept[-1], iter(())) == snapshots.manifest(kept[-1]), "made once"


def test_a_snapshot_half_made_is_none(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots")

    def breaks() -> Iterator[tuple[bytes, bytes]]:
        yield from records(2, CHUNK_BYTES_MAX)
        raise StorageFault("damaged")

    with pytest.raises(StorageFault):
        snapshots.make(5, breaks())
    assert snapshots.heights() == []
    assert snapshots.manifest(5) is None
    assert len(snapshots.make(5, records(2, CHUNK_BYTES_MAX)).chunks) == 2


def test_a_copy_takes_up_where_it_stopped(tmp_path: Path) -> None:
    source = Snapshots(tmp_path / "source")
    manifest = source.make(9, records(5, CHUNK_BYTES_MAX))
    copy = Snapshots(tmp_path / "copy")
    copy.begin_copy(Manifest(8, ()))
    place = copy.begin_copy(manifest)
    assert [each.name for each in copy.folder.iterdir()] == [place.name], "the other one is dropped"
    (place / "1").write_bytes(source.chunk(9, 1) or b"")
    (place / "2").write_bytes(b"torn")
    assert copy.missing(copy.begin_copy(manifest), manifest) == [0, 2, 3, 4]
    for index in copy.missing(place, manifest):
        (place / str(index)).write_bytes(source.chunk(9, index) or b"")
    assert copy.missing(place, manifest) == []
    copy.finish_copy(place, manifest)
    assert copy.heights() == [9]
    assert copy.manifest(9) == manifest


def test_a_manifest_must_be_that_of_the_root(tmp_path: Path) -> None:
    manifest = Snapshots(tmp_path).make(3, records(4, 10))
    assert decode_manifest(encode(manifest), root=manifest.root) == manifest
    for wrong in (encode(Manifest(4, manifest.chunks)), b"", b"\xff", encode(1)):
        with pytest.raises(PeerFault):
            decode_manifest(wrong, root=manifest.root)


@pytest.mark.parametrize(
    "rows",
    [
        [(state_key(2), b""), (state_key(1), b"")],
        [(state_key(1), b""), (state_key(1), b"")],
        [(keys.META_GENESIS, b"")],
        [(keys.JOURNAL + b"1", b"")],
        [(b"", b"")],
        [],
    ],
)
def test_rubbish_is_not_restored(tmp_path: Path, rows: list[tuple[bytes, bytes]]) -> None:
    """Even where a root vouches for it: whatever is in a snapshot stays within its columns."""
    chunk = encode(tuple(rows))
    manifest = Manifest(3, (keccak256(chunk),))
    with pytest.raises(PeerFault):
        restore(tmp_path / "to", manifest, chunk=lambda _: chunk, finish=add_head)
    with pytest.raises(PeerFault):
        restore(tmp_path / "to", manifest, chunk=lambda _: b"other", finish=add_head)
    assert not (tmp_path / "to").exists()


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_bytes(b"a file")
    with pytest.raises(StorageFault, match="snapshots"):
        Snapshots(tmp_path / "snapshots").make(1, records(1, 1))


def test_the_columns_are_those_that_the_state_and_the_settlement_need() -> None:
    assert SNAPSHOT_COLUMNS == (b"K", b"S", b"d", b"k", b"n", b"v", b"w")
