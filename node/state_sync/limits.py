"""Every bound of state sync, and what happens at the bound."""

from __future__ import annotations

from typing import Final

EPOCHS_REPLY_BYTES_MAX: Final = 2 * 2**20
"""One page of epoch proofs; the rest is asked for again."""

EPOCHS_PAGE_BYTES: Final = 2**20
"""After so many bytes of proofs the serving side ends a page."""

EPOCHS_FOLLOWED_MAX: Final = 200_000
"""Proofs followed at one start: four years of epochs of ten minutes; what is newer comes by
blocks."""

SNAPSHOT_REPLY_BYTES_MAX: Final = 8 * 2**20
"""A manifest and the headers up to the sealing block."""

HEADERS_MAX: Final = 4_096
"""Headers from the cut to the sealing block; a longer way is not served."""

CHUNK_REPLY_BYTES_MAX: Final = 4 * 2**20
"""One chunk."""

CHUNKS_AT_ONCE: Final = 4
"""Chunks on their way; each is held in memory once."""

CHUNK_ATTEMPTS_MAX: Final = 12
"""Peers asked for one chunk before the snapshot is given up."""

REQUEST_TIMEOUT_MS: Final = 10_000
SEARCH_S: Final = 15.0
"""How long a new node looks for a snapshot before it takes the blocks instead."""

PAUSE_S: Final = 0.25
"""Between two rounds of asking."""

SERVED_BYTES_PER_SECOND: Final = 16 * 2**20
"""What one peer is served each second; beyond it the answer is empty, and it asks another one."""

SERVED_BURST_BYTES: Final = 64 * 2**20
"""The same at once."""
