"""The signer guard refuses every contradiction by itself and survives a crash at any point."""

from pathlib import Path

import pytest

from omninode.consensus import guard as guard_module
from omninode.consensus.guard import SLOT_BYTES, SignerGuard
from omninode.consensus.limits import GUARD_VIEWS_MAX
from omninode.consensus.types import Vote, VoteKind
from omninode.crypto import ZERO_HASH
from omninode.errors import BrokenInvariant, ConfigError, StorageFault

A, B = b"\xaa" * 32, b"\xbb" * 32


def vote(kind: str, view: int, block_hash: bytes = A, *, epoch: int = 0) -> Vote:
    voted = ZERO_HASH if kind == "X" else block_hash
    return Vote(VoteKind(kind), epoch, view, voted, 3, bytes(65))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signer-guard"


def test_remembers_votes_across_a_restart(path: Path) -> None:
    guard = SignerGuard.create(path)
    cast = [vote("N", 1), vote("F", 1), vote("N", 2, B), vote("X", 2)]
    for each in cast:
        guard.check_and_record(each)
    guard.close()
    again = SignerGuard.open(path)
    assert again.votes == tuple(cast)
    again.close()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (vote("N", 5), vote("N", 5, B)),  # S1
        (vote("F", 5), vote("F", 5, B)),  # S1
        (vote("X", 5), vote("N", 5)),  # S2
        (vote("X", 5), vote("F", 5)),  # S3
        (vote("F", 5), vote("X", 5)),  # S3
        (vote("N", 5), vote("F", 5, B)),  # S4
        (vote("F", 5), vote("N", 5, B)),  # S4
    ],
    ids=lambda each: f"{each.kind.value}{each.block_hash.hex()[:2]}",
)
@pytest.mark.parametrize("restarted", [False, True])
def test_refuses_a_contradiction(path: Path, earlier: Vote, later: Vote, restarted: bool) -> None:
    guard = SignerGuard.create(path)
    guard.check_and_record(earlier)
    if restarted:
        guard.close()
        guard = SignerGuard.open(path)
    with pytest.raises(BrokenInvariant, match="already signed"):
        guard.check_and_record(later)
    assert guard.votes == (earlier,)
    guard.close()


def test_allows_what_does_not_contradict(path: Path) -> None:
    guard = SignerGuard.create(path)
    guard.check_and_record(vote("N", 5))
    guard.check_and_record(vote("N", 5))  # the very same again
    guard.check_and_record(vote("X", 5))  # gave up after notarizing
    guard.check_and_record(vote("N", 7))
    guard.check_and_record(vote("N", 6))
    guard.check_and_record(vote("F", 6))  # a view that was left already
    guard.check_and_record(vote("N", 5, B, epoch=1))  # views start again in an epoch
    guard.close()


def test_refuses_views_below_the_oldest_remembered(path: Path) -> None:
    guard = SignerGuard.create(path)
    for view in range(1, GUARD_VIEWS_MAX + 2):
        guard.check(vote("N", view))
        guard.check(vote("F", view))
    guard.sync()
    guard.close()
    guard = SignerGuard.open(path)
    assert guard.floor == (0, 2)
    with pytest.raises(BrokenInvariant, match="below view 2"):
        guard.check(vote("X", 1))
    guard.check(vote("F", 2))
    guard.close()


def test_refuses_a_nullify_vote_that_names_a_block(path: Path) -> None:
    guard = SignerGuard.create(path)
    with pytest.raises(BrokenInvariant):
        guard.check(Vote(VoteKind.NULLIFY, 0, 1, A, 0, bytes(65)))
    with pytest.raises(BrokenInvariant):
        guard.check(Vote(VoteKind.NOTARIZE, 0, 1, ZERO_HASH, 0, bytes(65)))
    guard.close()


def test_missing_guard_names_the_way_out(path: Path) -> None:
    with pytest.raises(ConfigError, match="missing") as caught:
        SignerGuard.open(path)
    assert "omninode keys rearm" in caught.value.hint
    assert not path.exists()


def test_damaged_guard_names_the_way_out(path: Path) -> None:
    SignerGuard.create(path).close()
    path.write_bytes(b"\0" * 2 * SLOT_BYTES)
    with pytest.raises(ConfigError, match="damaged") as caught:
        SignerGuard.open(path)
    assert "omninode keys rearm" in caught.value.hint


def test_create_never_overwrites(path: Path) -> None:
    guard = SignerGuard.create(path)
    guard.check_and_record(vote("N", 9))
    guard.close()
    with pytest.raises(ConfigError):
        SignerGuard.create(path)
    again = SignerGuard.open(path)
    assert again.votes == (vote("N", 9),)
    again.close()


def test_two_processes_can_not_share_a_guard(path: Path) -> None:
    guard = SignerGuard.create(path)
    with pytest.raises(ConfigError, match="in use"):
        SignerGuard.open(path)
    with pytest.raises(ConfigError, match="in use"):
        SignerGuard.rearm(path, floor_epoch=0, floor_view=1)
    guard.close()


def test_rearm_makes_a_guard_that_refuses_the_past(path: Path) -> None:
    guard = SignerGuard.rearm(path, floor_epoch=0, floor_view=100)
    with pytest.raises(BrokenInvariant):
        guard.check(vote("N", 99))
    guard.check_and_record(vote("N", 100))
    guard.close()
    # A readable guard keeps what it knows, and its floor never sinks.
    guard = SignerGuard.rearm(path, floor_epoch=0, floor_view=50)
    assert guard.floor == (0, 100)
    assert guard.votes == (vote("N", 100),)
    guard.close()


def test_rearm_keeps_a_damaged_guard_beside_the_new_one(path: Path) -> None:
    path.write_bytes(b"rubbish")
    SignerGuard.rearm(path, floor_epoch=1, floor_view=0).close()
    assert path.with_name(path.name + ".damaged").read_bytes() == b"rubbish"
    assert SignerGuard.open(path).floor == (1, 0)


def test_every_torn_slot_write_leaves_the_votes_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut each slot write at every byte; the file always shows the state before or after it."""
    guard = SignerGuard.create(path)
    writes: list[tuple[bytes, int]] = []
    monkeypatch.setattr(
        guard_module, "_write_at", lambda _file, data, offset: writes.append((data, offset))
    )
    images = [path.read_bytes()]
    cast = [vote("N", 1), vote("X", 1), vote("N", 2), vote("F", 2), vote("N", 3, B)]
    for each in cast:
        guard.check_and_record(each)
    guard.close()
    for number, (data, offset) in enumerate(writes):
        before = images[-1]
        for cut in range(len(data) + 1):
            path.write_bytes(before[:offset] + data[:cut] + before[offset + cut :])
            opened = SignerGuard.open(path)
            # The last bytes of a slot may happen to be there already from an older write.
            assert opened.votes in (tuple(cast[:number]), tuple(cast[: number + 1])), (number, cut)
            if cut == len(data):
                assert opened.votes == tuple(cast[: number + 1])
            opened.close()
        images.append(before[:offset] + data + before[offset + len(data) :])


def test_torn_pages_in_any_order_leave_a_readable_guard(path: Path) -> None:
    """A disk may write the halves of a slot in either order before the power goes."""
    guard = SignerGuard.create(path)
    image = path.read_bytes()
    for view in range(1, 12):
        guard.check_and_record(vote("N", view))
        after = path.read_bytes()
        other = path.with_name("torn")
        for middle in range(0, len(after), 512):
            other.write_bytes(image[:middle] + after[middle:])
            opened = SignerGuard.open(other)
            assert len(opened.votes) in (view - 1, view)
            opened.close()
        image = after
    guard.close()


def test_a_failing_disk_is_final(path: Path) -> None:
    guard = SignerGuard.create(path)
    guard.check(vote("N", 1))
    file = guard._file
    guard._file = -1  # every write fails from here on
    with pytest.raises(StorageFault, match="can not be written"):
        guard.sync()
    guard._file = file
    with pytest.raises(StorageFault, match="can not be written"):
        guard.check(vote("N", 2))
    with pytest.raises(StorageFault, match="can not be written"):
        guard.sync()
    guard.close()


def test_a_full_memory_fits_a_slot(path: Path) -> None:
    guard = SignerGuard.create(path)
    high = 2**63 - 1 - 2 * GUARD_VIEWS_MAX
    for offset in range(2 * GUARD_VIEWS_MAX):
        for kind in ("N", "F"):
            voted = Vote(VoteKind(kind), 2**63 - 1, high + offset, A, 2**63 - 1, b"\xff" * 65)
            guard.check(voted)
        guard.sync()
    assert len(guard.votes) == 2 * GUARD_VIEWS_MAX
    guard.close()
