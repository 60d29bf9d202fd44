"""The write-ahead log keeps what was synced, cuts what was torn, and says what is damaged."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omninode.consensus import wal as wal_module
from omninode.consensus.framing import sync_point
from omninode.consensus.records import WalBlock, WalCertificate, WalRecord, WalVote
from omninode.consensus.types import (
    Block,
    Certificate,
    Vote,
    VoteKind,
    body_root,
    genesis_header,
)
from omninode.consensus.wal import Wal
from omninode.crypto import ZERO_HASH, keccak256
from omninode.errors import StorageFault

GENESIS = genesis_header(b"\1" * 32, time_ms=0, app_hash=ZERO_HASH, valset_hash=ZERO_HASH)


def vote(view: int, kind: str = "N") -> WalVote:
    voted = ZERO_HASH if kind == "X" else bytes([view % 251]) * 32
    return WalVote(Vote(VoteKind(kind), 0, view, voted, 1, bytes(65)))


def block(height: int, *transactions: bytes, view: int = 0) -> WalBlock:
    ids = tuple(keccak256(raw) for raw in transactions)
    header = Block(GENESIS, ids).header
    changed = {"height": height, "view": view or height, "body_root": body_root(ids)}
    header = type(header)(
        **{name: changed.get(name, getattr(header, name)) for name in header.__struct_fields__}
    )
    return WalBlock(Block(header, ids), transactions)


def certificate(view: int) -> WalCertificate:
    return WalCertificate(
        Certificate(VoteKind.NOTARIZE, 0, view, b"\7" * 32, (0, 1, 2), (bytes(65),) * 3)
    )


def reopened(path: Path) -> list[WalRecord]:
    wal, records = Wal.open(path)
    wal.close()
    return records


def only_file(path: Path) -> Path:
    (file,) = path.glob("*.wal")
    return file


def test_returns_records_in_order(tmp_path: Path) -> None:
    wal, records = Wal.open(tmp_path / "wal")
    assert records == []
    written = [block(1, b"t1", b"t2"), vote(1), certificate(1), vote(1, "F"), block(2), vote(2)]
    for number, record in enumerate(written):
        wal.append(record)
        if number % 2:
            wal.sync()
    wal.close()
    assert reopened(tmp_path / "wal") == written
    assert reopened(tmp_path / "wal") == written


def test_unsynced_records_are_not_on_the_disk(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path)
    wal.append(vote(1))
    wal.sync()
    wal.append(vote(2))
    before = only_file(tmp_path).read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / only_file(tmp_path).name).write_bytes(before)
    assert reopened(copy) == [vote(1)]
    wal.close()


def test_bodies_and_blocks_are_stored_once(tmp_path: Path) -> None:
    body = os.urandom(10_000)
    wal, _ = Wal.open(tmp_path)
    first, second = block(1, body, b"x"), block(1, b"y", body, view=2)
    for record in (first, first, second):
        wal.append(record)
    wal.close()
    assert only_file(tmp_path).stat().st_size < 2 * len(body)
    wal, records = Wal.open(tmp_path)
    assert records == [first, second]
    third = block(2, body, view=3)
    wal.append(second)
    wal.append(third)
    wal.close()
    assert only_file(tmp_path).stat().st_size < 2 * len(body)
    assert reopened(tmp_path) == [first, second, third]


def test_torn_tail_is_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    wal, _ = Wal.open(path)
    synced = [block(1, b"abc"), vote(1), certificate(1)]
    for record in synced:
        wal.append(record)
    wal.sync()
    sure = only_file(path).stat().st_size
    tail = [vote(2), block(2, b"def", b"abc"), vote(3)]
    for record in tail:
        wal.append(record)
    wal.sync()
    image = only_file(path).read_bytes()
    wal.close()
    for cut in range(sure, len(image) + 1):
        only_file(path).write_bytes(image[:cut])
        wal, records = Wal.open(path)
        assert records[: len(synced)] == synced
        assert records == [*synced, *tail][: len(records)]
        assert len(records) == len(synced) + len(tail) or cut < len(image)
        kept = cut - wal.torn_bytes
        wal.append(vote(9))
        wal.close()
        assert kept >= sure
        assert reopened(path)[-1] == vote(9)


def test_garbage_behind_the_last_sync_is_a_torn_tail(tmp_path: Path) -> None:
    """Unsynced pages may reach the disk in any order: whole records behind a hole mean nothing."""
    wal, _ = Wal.open(tmp_path)
    wal.append(vote(1))
    wal.sync()
    sure = only_file(tmp_path).stat().st_size
    for view in range(2, 40):
        wal.append(vote(view))
    wal.sync()
    image = bytearray(only_file(tmp_path).read_bytes())
    wal.close()
    middle = sure + 600
    image[middle : middle + 512] = bytes(512)
    only_file(tmp_path).write_bytes(image)
    wal, records = Wal.open(tmp_path)
    assert records[0] == vote(1)
    assert 2 <= len(records) < 39
    assert wal.torn_bytes > 512
    wal.close()


def test_every_flipped_bit_of_a_durable_record_is_damage(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path)
    wal.append(vote(1))
    wal.sync()
    wal.append(vote(2))
    wal.sync()
    sure = only_file(tmp_path).stat().st_size
    wal.append(vote(3))
    wal.sync()
    image = only_file(tmp_path).read_bytes()
    wal.close()
    for position in range(sure):
        damaged = bytearray(image)
        damaged[position] ^= 1 << position % 8
        only_file(tmp_path).write_bytes(damaged)
        if 16 <= position < 24:  # the salt: every sync point is strange, which looks like a tear
            continue
        with pytest.raises(StorageFault, match=r"damaged.*Move the folder") as caught:
            Wal.open(tmp_path)
        assert only_file(tmp_path).name in str(caught.value)


def test_clean_close_makes_the_last_record_tamper_evident(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path)
    wal.append(vote(1))
    wal.close()
    image = bytearray(only_file(tmp_path).read_bytes())
    image[40] ^= 1
    only_file(tmp_path).write_bytes(image)
    with pytest.raises(StorageFault):
        Wal.open(tmp_path)


def test_content_can_not_pose_as_a_sync_point(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path)
    wal.append(vote(1))
    wal.sync()
    sure = only_file(tmp_path).stat().st_size
    # A transaction full of sync points for every offset, as a stranger without the salt makes them.
    forged = b"".join(sync_point(offset, bytes(8)) for offset in range(sure, sure + 3000))
    wal.append(vote(2))
    wal.append(block(1, forged))
    wal.sync()
    image = bytearray(only_file(tmp_path).read_bytes())
    wal.close()
    at = image.index(vote(2).vote.block_hash)
    image[at] ^= 1
    only_file(tmp_path).write_bytes(image)
    wal, records = Wal.open(tmp_path)
    assert records == [vote(1)]
    assert wal.torn_bytes > len(forged)
    wal.close()


def filled(path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> Wal:
    """Return an open log with one synced view in each of `count` small segments."""
    monkeypatch.setattr(wal_module, "WAL_SEGMENT_BYTES_MAX", 100)
    wal, _ = Wal.open(path)
    for height in range(1, count + 1):
        for record in (block(height, b"%d" % height), vote(height), vote(height, "F")):
            wal.append(record)
        wal.sync()
    return wal


def test_prunes_whole_segments_below_the_final_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = filled(tmp_path, monkeypatch, 5)
    assert len(list(tmp_path.glob("*.wal"))) == 5
    assert wal.prune(final_epoch=0, final_view=3, committed_height=2) == 2
    assert wal.prune(final_epoch=0, final_view=2, committed_height=9) == 0
    assert wal.prune(final_epoch=0, final_view=9, committed_height=9) == 2, "the last one stays"
    wal.append(vote(6))
    wal.close()
    records = reopened(tmp_path)
    assert [r for r in records if isinstance(r, WalVote)] == [vote(5), vote(5, "F"), vote(6)]


def test_pruning_spares_bodies_that_a_living_block_refers_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "WAL_SEGMENT_BYTES_MAX", 100)
    wal, _ = Wal.open(tmp_path)
    wal.append(block(1, b"shared"))
    wal.sync()
    wal.append(block(2, b"shared"))
    wal.sync()
    wal.append(vote(3))
    wal.sync()
    assert wal.prune(final_epoch=0, final_view=3, committed_height=1) == 0
    wal.close()
    wal, records = Wal.open(tmp_path)
    assert records == [block(1, b"shared"), block(2, b"shared"), vote(3)]
    assert wal.prune(final_epoch=0, final_view=3, committed_height=1) == 0
    assert wal.prune(final_epoch=0, final_view=3, committed_height=2) == 2
    wal.append(block(4, b"shared"))
    wal.close()
    assert reopened(tmp_path) == [vote(3), block(4, b"shared")]


def test_a_missing_segment_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, monkeypatch, 4).close()
    sorted(tmp_path.glob("*.wal"))[1].unlink()
    with pytest.raises(StorageFault, match="missing"):
        Wal.open(tmp_path)


def test_an_old_segment_that_is_cut_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, monkeypatch, 3).close()
    oldest = min(tmp_path.glob("*.wal"))
    oldest.write_bytes(oldest.read_bytes()[:-1])
    with pytest.raises(StorageFault, match="damaged"):
        Wal.open(tmp_path)


@pytest.mark.parametrize("header", [0, 5, 23])
def test_a_crash_while_a_segment_is_made_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: int
) -> None:
    filled(tmp_path, monkeypatch, 2).close()
    (tmp_path / f"{2:016d}.wal").write_bytes(b"OMNIWAL1".ljust(24, b"\0")[:header])
    wal, records = Wal.open(tmp_path)
    assert len(records) == 6
    wal.append(vote(7))
    wal.close()
    assert reopened(tmp_path)[-1] == vote(7)


def test_appending_goes_on_while_another_thread_syncs(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path)
    stop = threading.Event()

    def syncing() -> None:
        while not stop.is_set():
            wal.sync()

    thread = threading.Thread(target=syncing)
    thread.start()
    written = [vote(view) for view in range(1, 2_000)]
    for record in written:
        wal.append(record)
    stop.set()
    thread.join()
    wal.sync()
    wal.close()
    assert reopened(tmp_path) == written


def test_a_full_disk_stops_the_log_and_keeps_what_was_synced(tmp_path: Path) -> None:
    """A process whose files may not grow past 64 KiB stands for a full disk."""
    script = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_wal import Wal, StorageFault, block
wal, _ = Wal.open(Path({str(tmp_path)!r}))
for height in range(1, 1000):
    wal.append(block(height, height.to_bytes(8, "big") * 125))
    try:
        wal.sync()
    except StorageFault as fault:
        print(height - 1, fault)
        break
try:
    wal.append(block(1000))
except StorageFault:
    print("stays stopped")
wal.close()
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "can not be written" in first
    assert second == "stays stopped"
    synced = int(first.split()[0])
    records = reopened(tmp_path)
    assert 30 < synced < 70
    assert records == [block(h, h.to_bytes(8, "big") * 125) for h in range(1, synced + 1)]
