"""One writer, group commit, one fault for ever."""

import subprocess
import sys
import threading
from pathlib import Path

import plyvel
import pytest
import trio

from omninode.errors import StorageFault
from omninode.storage import database as database_module
from omninode.storage.database import Database


async def test_reads_what_was_written(tmp_path: Path) -> None:
    with Database.open(tmp_path) as database:
        await database.write([(b"a1", b"x"), (b"a2", b"y"), (b"b1", b"z")], sync=True)
        assert database.get(b"a1") == b"x"
        assert database.get(b"nothing") is None
        assert list(database.iterate(b"a")) == [(b"1", b"x"), (b"2", b"y")]
        assert list(database.iterate(b"a", reverse=True)) == [(b"2", b"y"), (b"1", b"x")]
        assert list(database.iterate(b"a", start=b"2")) == [(b"2", b"y")]
        assert list(database.iterate(b"a", stop=b"2")) == [(b"1", b"x")]
        await database.write([(b"a1", None), (b"a2", b"new")], sync=False)
        assert list(database.iterate(b"a")) == [(b"2", b"new")]


async def test_is_there_after_a_restart(tmp_path: Path) -> None:
    with Database.open(tmp_path) as database:
        await database.write([(b"k", b"v")], sync=True)
    with Database.open(tmp_path) as database:
        assert database.get(b"k") == b"v"


async def test_many_writers_share_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    original = Database._write_group

    def counting(self: Database, group: list[database_module._Write]) -> None:
        groups.append(len(group))
        original(self, group)

    monkeypatch.setattr(Database, "_write_group", counting)
    with Database.open(tmp_path) as database:
        async with trio.open_nursery() as nursery:
            for number in range(500):
                key = number.to_bytes(4, "big")
                nursery.start_soon(lambda key=key: database.write([(key, key)], sync=True))
        assert sum(groups) == 500
        assert len(groups) < 250, "writers that wait together are written together"
        assert len(list(database.iterate(b""))) == 500


async def test_order_of_arrival_holds_under_pressure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "WRITES_WAITING_MAX", 2)
    order: list[bytes | None] = []
    original = Database._write_group

    def watching(self: Database, group: list[database_module._Write]) -> None:
        order.extend(write.batch[0][1] for write in group)
        original(self, group)

    monkeypatch.setattr(Database, "_write_group", watching)
    with Database.open(tmp_path) as database:

        async def writer(number: int) -> None:
            await database.write([(b"last", b"%d" % number)], sync=False)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(writer, number)
                await trio.testing.wait_all_tasks_blocked()
        assert order == [b"%d" % number for number in range(100)]
        assert database.get(b"last") == b"99"


async def test_bytes_in_the_queue_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "WRITE_BYTES_WAITING_MAX", 1_000)
    gate = threading.Event()
    original = Database._write_group

    def gated(self: Database, group: list[database_module._Write]) -> None:
        gate.wait()
        original(self, group)

    monkeypatch.setattr(Database, "_write_group", gated)
    with Database.open(tmp_path) as database:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                big = bytes(400)
                nursery.start_soon(
                    lambda n=number, v=big: database.write([(b"%d" % n, v)], sync=False)
                )
            await trio.testing.wait_all_tasks_blocked()
            assert database._queued_bytes <= 1_000
            gate.set()
        # One batch that is larger than the bound passes alone.
        await database.write([(b"huge", bytes(5_000))], sync=False)
        assert len(list(database.iterate(b""))) == 21


async def test_a_cancelled_caller_knows_that_its_batch_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "WRITES_WAITING_MAX", 1)
    gate = threading.Event()
    original = Database._write_group

    def gated(self: Database, group: list[database_module._Write]) -> None:
        gate.wait()
        original(self, group)

    monkeypatch.setattr(Database, "_write_group", gated)
    with Database.open(tmp_path) as database:
        async with trio.open_nursery() as nursery:
            for key in (b"1", b"2", b"3", b"4"):
                nursery.start_soon(lambda k=key: database.write([(k, b"")], sync=False))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
            gate.set()
        assert [key for key, _ in database.iterate(b"")] == [b"1", b"2", b"3", b"4"]


async def test_an_iterator_sees_one_moment(tmp_path: Path) -> None:
    with Database.open(tmp_path) as database:
        await database.write([(b"%03d" % n, b"old") for n in range(100)], sync=False)
        rows = database.iterate(b"")
        await database.write([(b"%03d" % n, b"new") for n in range(200)], sync=False)
        assert {value for _, value in rows} == {b"old"}


async def test_after_one_failure_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            raise plyvel.IOError(b"No space left on device")

    database = Database.open(tmp_path)
    await database.write([(b"before", b"")], sync=True)
    level = database._level
    monkeypatch.setattr(database, "_level", Broken())
    with pytest.raises(StorageFault, match=": No space left on device") as first:
        await database.write([(b"lost", b"")], sync=True)
    monkeypatch.setattr(database, "_level", level)
    with pytest.raises(StorageFault) as second:
        await database.write([(b"after", b"")], sync=True)
    assert second.value is first.value is database.fault
    database.close()
    with Database.open(tmp_path) as again:
        assert [key for key, _ in again.iterate(b"")] == [b"before"]


def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    for number in range(200):
        database._enqueue(
            database_module._Write([(b"%d" % number, b"")], sync=False, done=lambda: None)
        )
    database.close()
    database.close()
    with pytest.raises(StorageFault, match="closed"):
        database.write_blocking([(b"x", b"")], sync=True)
    with Database.open(tmp_path) as again:
        assert len(list(again.iterate(b""))) == 200


def test_works_without_trio(tmp_path: Path) -> None:
    with Database.open(tmp_path) as database:
        database.write_blocking([(b"k", b"v")], sync=True)
        assert database.get(b"k") == b"v"


def test_a_folder_in_use_is_named(tmp_path: Path) -> None:
    with Database.open(tmp_path), pytest.raises(StorageFault, match="Another process"):
        Database.open(tmp_path)


def test_a_damaged_table_is_found_when_it_is_read(tmp_path: Path) -> None:
    with Database.open(tmp_path) as database:
        rows = [(b"%06d" % n, b"value %d" % n * 10) for n in range(5_000)]
        database.write_blocking(rows, sync=True)
        database._level.compact_range()
    table = max(tmp_path.glob("*.ldb"), key=lambda file: file.stat().st_size)
    image = bytearray(table.read_bytes())
    image[len(image) // 2] ^= 1
    table.write_bytes(image)
    with Database.open(tmp_path) as database, pytest.raises(StorageFault, match="omninode reset"):
        list(database.iterate(b""))


def test_a_full_disk_stops_writing_and_keeps_what_was_synced(tmp_path: Path) -> None:
    """A process whose files may not grow past 256 KiB stands for a full disk."""
    script = f"""
import resource
from pathlib import Path
from omninode.errors import StorageFault
from omninode.storage.database import Database
resource.setrlimit(resource.RLIMIT_FSIZE, (262144, 262144))
database = Database.open(Path({str(tmp_path / "db")!r}))
for number in range(10_000):
    try:
        database.write_blocking([(b"%06d" % number, bytes(1000))], sync=True)
    except StorageFault as fault:
        print(number, fault)
        break
database.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "can not be written" in done.stdout
    synced = int(done.stdout.split()[0])
    assert 100 < synced < 1_000
    with Database.open(tmp_path / "db") as database:
        keys = [key for key, _ in database.iterate(b"")]
        assert keys[:synced] == [b"%06d" % number for number in range(synced)]
        database.write_blocking([(b"room again", b"")], sync=True)
