"""Whatever a crash leaves of LevelDB's own log, the database is a prefix of what was written."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings

from omninode.storage.database import Database

keys = st.integers(0, 20).map(lambda number: b"k%d" % number)
batches = st.lists(
    st.lists(
        st.tuples(keys, st.one_of(st.none(), st.binary(max_size=200))), min_size=1, max_size=6
    ),
    min_size=1,
    max_size=12,
)


def states(written: list[list[tuple[bytes, bytes | None]]]) -> list[dict[bytes, bytes]]:
    """Return the content after each batch, the empty database first."""
    content: dict[bytes, bytes] = {}
    found = [dict(content)]
    for batch in written:
        for key, value in batch:
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        found.append(dict(content))
    return found


@given(written=batches, cut=st.integers(0, 10**9))
@settings(max_examples=40)
def test_a_crash_at_any_byte_leaves_whole_batches_in_order(
    written: list[list[tuple[bytes, bytes | None]]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live, crashed = Path(folder) / "live", Path(folder) / "crashed"
        sure = [0]
        with Database.open(live) as database:
            (log,) = live.glob("*.log")
            for batch in written:
                database.write_blocking(batch, sync=True)
                sure.append(log.stat().st_size)
            # Copied while it is open: what a killed process leaves behind.
            shutil.copytree(live, crashed, ignore=shutil.ignore_patterns("LOCK"))
        torn = crashed / log.name
        kept = cut % (sure[-1] + 1)
        torn.write_bytes(torn.read_bytes()[:kept])
        with Database.open(crashed) as database:
            content = dict(database.iterate(b""))
        survived = sum(size <= kept for size in sure) - 1
        assert content == states(written)[survived]
