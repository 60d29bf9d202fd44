"""Bounds of the consensus shell, each with what happens beyond it."""

from __future__ import annotations

from typing import Final

VOTE_FRAME_BYTES_MAX: Final = 4 << 20
"""A longer vote-plane frame is refused and costs its sender: a proposal of 50,000 ids fits."""

PENDING_MESSAGE_BYTES_MAX: Final = 64 << 10
"""Pending transactions handed to a leader at once; the rest waits for the next view."""

MEMORY_VOTES_MAX: Final = 1_000
"""Own votes in a peer's memory answer; more is the peer's fault."""

EVIDENCE_KEPT_MAX: Final = 1_000
"""Contradictory pairs kept for inclusion; the oldest is dropped."""

BODIES_HELD_MAX: Final = 4_096
"""Blocks held with bodies until executed; the oldest is dropped (honest peers stay far below)."""

FETCHES_MAX: Final = 64
"""Concurrent fetches of blocks or bodies; beyond it the newest waits for the core to ask again."""

BLOCK_FETCH_ATTEMPTS_MAX: Final = 20
"""Rounds of asking for one block; then the core's retry timer asks again."""

REPLY_BYTES_MAX: Final = 16 << 20
"""A reply with a block or its transactions; a longer one is the peer's fault."""

SYNC_BLOCKS_MAX: Final = 256
"""Blocks in one run of block sync."""

SYNC_BYTES_MAX: Final = 4 << 20
"""Transaction bytes in one run of block sync; a run ends after the block that passes it."""

SYNC_REPLY_BYTES_MAX: Final = 24 << 20
"""A reply with a run; a longer one is the peer's fault."""
