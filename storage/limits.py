"""Every bound of storage, and what happens at the bound."""

from __future__ import annotations

from typing import Final

WRITES_WAITING_MAX: Final = 4_096
"""Batches queued for the writer thread; a further writer waits, in order of arrival."""

WRITE_BYTES_WAITING_MAX: Final = 64 * 2**20
"""Bytes queued for the writer thread; a further writer waits. One larger batch passes alone."""

GROUP_BYTES_MAX: Final = 8 * 2**20
"""Batches committed with one sync, in bytes; what comes after goes into the next group."""

READ_CACHE_BYTES: Final = 24 * 2**20
"""LevelDB's cache of uncompressed blocks; the least used leave it."""

WRITE_BUFFER_BYTES: Final = 8 * 2**20
"""LevelDB's memory table; a full one is written out while the next one fills."""

OPEN_FILES_MAX: Final = 256
"""Table files that LevelDB keeps open; the least used are closed."""

RECORD_BYTES_MAX: Final = 64 * 2**20
"""Largest record of our own; a larger one in the database means damage."""

CONTIGUOUS_CHECK_BLOCKS: Final = 8_192
"""Newest blocks that are looked for when the chain is opened: more than LevelDB's own log can hold,
so a batch that it lost while it kept a later one is found."""

SYNC_BLOCKS_MAX: Final = 4_096
"""Longest run of blocks that is read to reach a certificate; beyond it the run is not served."""

SYNC_BYTES_MAX: Final = 64 * 2**20
"""Most bytes read to reach a certificate; beyond it the run is not served."""

PAGE_ROWS_MAX: Final = 1_000
"""Most rows of one page of a history; asking for more is refused."""

PAGE_SCANNED_MAX: Final = 2_000
"""Most rows looked at for one page of some of them only; the page ends there, and the next one goes
on."""

PRUNE_BLOCKS_PER_STEP: Final = 200
"""Blocks removed by one call of pruning; the rest waits for the next call."""

PRUNE_KEYS_PER_STEP: Final = 4_000
"""Removed keys after which a step ends, whatever its number of blocks: some 10 ms of work."""

BLOCKS_KEPT_MIN: Final = 1_024
"""Newest blocks that are never pruned: peers that were away for minutes fetch them."""

CHUNK_BYTES_MAX: Final = 2**20
"""Records of one chunk of a snapshot; a part of the protocol, since the snapshot root depends on
it. One larger record is a chunk by itself."""

SNAPSHOT_CHUNKS_MAX: Final = 65_536
"""Chunks that a peer's manifest may name: a state of 64 GiB."""

SNAPSHOTS_KEPT: Final = 2
"""Newest snapshots kept; a peer that copies the older one has an epoch's time to finish."""

RESTORE_BATCH_BYTES: Final = 4 * 2**20
"""Records written at once while a snapshot is restored."""
