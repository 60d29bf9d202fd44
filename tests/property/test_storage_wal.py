"""Whatever a crash leaves of the write-ahead log, no synced record is lost and none is invented."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from omninode.consensus import wal as wal_module
from omninode.consensus.records import WalBlock, WalCertificate, WalRecord, WalVote
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    Vote,
    VoteKind,
    body_root,
    genesis_header,
)
from omninode.consensus.wal import Wal
from omninode.crypto import ZERO_HASH, keccak256

GENESIS = genesis_header(b"\1" * 32, time_ms=0, app_hash=ZERO_HASH, valset_hash=ZERO_HASH)
HEADER_BYTES = 24
POOL = [bytes((number,)) * (number * 3 + 1) for number in range(1, 30)]

views = st.integers(0, 60)
hashes = st.integers(0, 250).map(lambda n: bytes((n,)) * 32)


@st.composite
def blocks(draw: Any) -> WalBlock:
    transactions = tuple(draw(st.lists(st.sampled_from(POOL), max_size=5, unique=True)))
    ids = tuple(keccak256(raw) for raw in transactions)
    values = {name: getattr(GENESIS, name) for name in GENESIS.__struct_fields__}
    values |= {"view": draw(views), "height": draw(st.integers(1, 20)), "body_root": body_root(ids)}
    return WalBlock(Block(Header(**values), ids), transactions)


records = st.one_of(
    st.builds(
        lambda kind, view, voted: WalVote(Vote(kind, 0, view, voted, 1, bytes(65))),
        st.sampled_from(VoteKind),
        views,
        hashes,
    ),
    st.builds(
        lambda view, voted: WalCertificate(
            Certificate(VoteKind.NOTARIZE, 0, view, voted, (0, 1), (bytes(65),) * 2)
        ),
        views,
        hashes,
    ),
    blocks(),
)
# `None` stands for a sync.
scripts = st.lists(st.one_of(records, records, st.none()), max_size=40)


def once(written: list[WalRecord]) -> list[WalRecord]:
    """Return what the log stores: a block that it holds is not written again."""
    held: set[bytes] = set()
    kept = []
    for record in written:
        if isinstance(record, WalBlock):
            if record.block.hash in held:
                continue
            held.add(record.block.hash)
        kept.append(record)
    return kept


def write(path: Path, script: list[WalRecord | None]) -> tuple[list[WalRecord], int, int]:
    """Run a script; return what the log then holds, and how much of it was synced."""
    wal, _ = Wal.open(path)
    written: list[WalRecord] = []
    sure_records = sure_bytes = 0
    for step in script:
        if step is None:
            wal.sync()
            sure_records = len(once(written))
            sure_bytes = last_file(path).stat().st_size if last_file(path) else 0
        else:
            wal.append(step)
            written.append(step)
    wal.sync()  # its bytes are what a crash may tear
    if wal._file is not None:
        os.close(wal._file)  # the process dies here
    return once(written), sure_records, sure_bytes


def last_file(path: Path) -> Path | None:
    return max(path.glob("*.wal"), default=None)


@given(script=scripts, cut=st.integers(0, 10**9), garbage=st.binary(max_size=40))
@settings(max_examples=80)
def test_a_crash_at_any_byte_keeps_what_was_synced(
    script: list[WalRecord | None], cut: int, garbage: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        written, sure_records, sure_bytes = write(path, script)
        file = last_file(path)
        if file is not None:
            image = file.read_bytes()
            # A segment's header is synced by itself before anything follows it.
            sure_bytes = max(sure_bytes, HEADER_BYTES)
            kept = sure_bytes + cut % (len(image) - sure_bytes + 1)
            file.write_bytes(image[:kept] + garbage)
        wal, found = Wal.open(path)
        assert found == written[: len(found)], "invented or reordered"
        assert len(found) >= sure_records, "lost"
        more = WalVote(Vote(VoteKind.FINALIZE, 0, 99, b"\xfe" * 32, 1, bytes(65)))
        wal.append(more)
        wal.sync()
        wal.close()
        wal, again = Wal.open(path)
        wal.close()
        assert again == [*found, more]


@given(
    script=scripts,
    segment_bytes=st.integers(1, 3_000),
    final_view=views,
    committed_height=st.integers(0, 20),
    tail=scripts,
)
@settings(max_examples=60)
def test_pruning_keeps_everything_that_is_not_final(
    script: list[WalRecord | None],
    segment_bytes: int,
    final_view: int,
    committed_height: int,
    tail: list[WalRecord | None],
) -> None:
    before = wal_module.WAL_SEGMENT_BYTES_MAX
    wal_module.WAL_SEGMENT_BYTES_MAX = segment_bytes
    try:
        with tempfile.TemporaryDirectory() as folder:
            wal, _ = Wal.open(Path(folder))
            written: list[WalRecord] = []
            for number, step in enumerate([*script, None, *tail]):
                if number == len(script) + 1:
                    wal.prune(
                        final_epoch=0, final_view=final_view, committed_height=committed_height
                    )
                if step is None:
                    wal.sync()
                else:
                    wal.append(step)
                    written.append(step)
            wal.close()
            wal, found = Wal.open(Path(folder))
            wal.close()
    finally:
        wal_module.WAL_SEGMENT_BYTES_MAX = before
    for record in once(written):
        match record:
            case WalVote(vote):
                needed = vote.view > final_view
            case WalCertificate(certificate):
                needed = certificate.view > final_view
            case WalBlock(block, _):
                needed = block.header.height > committed_height
        assert record in found or not needed
    rest = iter(written)
    assert all(record in rest for record in found), "invented or reordered"
