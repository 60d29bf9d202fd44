"""Log and guard together: what one lost, the other brings back to the core."""

from pathlib import Path

import pytest

from omninode.consensus.guard import SignerGuard
from omninode.consensus.records import WalVote
from omninode.consensus.types import Vote, VoteKind
from omninode.consensus.vote_log import VoteLog, measure_sync_ms
from omninode.consensus.wal import Wal
from omninode.crypto import ZERO_HASH
from omninode.errors import BrokenInvariant, ConfigError

A, B = b"\xaa" * 32, b"\xbb" * 32


def vote(kind: str, view: int, block_hash: bytes = A) -> Vote:
    return Vote(VoteKind(kind), 0, view, ZERO_HASH if kind == "X" else block_hash, 0, bytes(65))


@pytest.fixture
def guard_path(tmp_path: Path) -> Path:
    SignerGuard.create(tmp_path / "guard").close()
    return tmp_path / "guard"


def test_one_sync_makes_both_durable(tmp_path: Path, guard_path: Path) -> None:
    log, records = VoteLog.open(tmp_path / "wal", guard_path)
    assert records == []
    log.guard(vote("N", 1))
    log.append(WalVote(vote("N", 1)))
    log.sync()
    with pytest.raises(BrokenInvariant):
        log.guard(vote("N", 1, B))
    log.close()
    log, records = VoteLog.open(tmp_path / "wal", guard_path)
    assert records == [WalVote(vote("N", 1))]
    log.close()


def test_a_vote_that_only_the_guard_knows_is_replayed(tmp_path: Path, guard_path: Path) -> None:
    log, _ = VoteLog.open(tmp_path / "wal", guard_path)
    log.guard(vote("N", 1))
    log.append(WalVote(vote("N", 1)))
    log.sync()
    log.close()
    guard = SignerGuard.open(guard_path)
    guard.check_and_record(vote("F", 1))  # and then the power went, before the log's sync
    guard.close()
    log, records = VoteLog.open(tmp_path / "wal", guard_path)
    assert records == [WalVote(vote("N", 1)), WalVote(vote("F", 1))]
    log.close()


def test_a_lost_log_takes_nothing_from_the_guard(tmp_path: Path, guard_path: Path) -> None:
    log, _ = VoteLog.open(tmp_path / "wal", guard_path)
    log.guard(vote("X", 4))
    log.append(WalVote(vote("X", 4)))
    log.sync()
    log.close()
    log, records = VoteLog.open(tmp_path / "another", guard_path)
    assert records == [WalVote(vote("X", 4))]
    with pytest.raises(BrokenInvariant):
        log.guard(vote("N", 4))
    log.close()


def test_an_older_guard_learns_from_the_log(tmp_path: Path, guard_path: Path) -> None:
    wal, _ = Wal.open(tmp_path / "wal")
    wal.append(WalVote(vote("N", 2)))
    wal.close()
    log, _ = VoteLog.open(tmp_path / "wal", guard_path)
    log.close()
    guard = SignerGuard.open(guard_path)
    with pytest.raises(BrokenInvariant):
        guard.check(vote("N", 2, B))
    guard.close()


def test_contradicting_files_stop_the_start(tmp_path: Path, guard_path: Path) -> None:
    guard = SignerGuard.open(guard_path)
    guard.check_and_record(vote("N", 2, B))
    guard.close()
    wal, _ = Wal.open(tmp_path / "wal")
    wal.append(WalVote(vote("N", 2)))
    wal.close()
    with pytest.raises(ConfigError, match="different histories"):
        VoteLog.open(tmp_path / "wal", guard_path)
    SignerGuard.open(guard_path).close()


def test_an_observer_needs_no_guard_and_can_not_vote(tmp_path: Path) -> None:
    log, _ = VoteLog.open(tmp_path / "wal", None)
    with pytest.raises(BrokenInvariant):
        log.guard(vote("N", 1))
    log.sync()
    log.close()


def test_a_missing_guard_stops_the_start_and_makes_no_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        VoteLog.open(tmp_path / "wal", tmp_path / "nowhere")
    assert not (tmp_path / "wal").exists()


def test_measures_the_disk(tmp_path: Path) -> None:
    assert 0 < measure_sync_ms(tmp_path) < 10_000
    assert list(tmp_path.iterdir()) == []


def test_the_floor_is_of_an_epoch(tmp_path: Path, guard_path: Path) -> None:
    """Views go on over epochs, but fillers may have come further than the next epoch begins."""
    SignerGuard.rearm(guard_path, floor_epoch=3, floor_view=40).close()
    log, _ = VoteLog.open(tmp_path / "wal", guard_path)
    assert log.floor_view(3) == 40
    assert log.floor_view(4) == 0
    assert log.floor_view(2) > 2**62, "nothing at all in epochs before"
    log.close()
    log, _ = VoteLog.open(tmp_path / "wal", None)
    assert log.floor_view(3) == 0
    log.close()
