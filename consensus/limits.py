"""Bounds of the consensus core, each with what happens beyond it."""

from __future__ import annotations

from typing import Final

VIEWS_AHEAD_MAX: Final = 32
"""Proposals and votes for views further ahead are dropped; certificates bring us there (P2)."""

VIEWS_KEPT_BEHIND_FINAL: Final = 16
"""Final views whose votes and certificates are kept, for late evidence and for peers' memory
(P7)."""

VOTE_VIEWS_KEPT: Final = 64
"""Views behind the current one whose single votes and proposals are kept; older ones keep
certificates only."""

CERTIFIED_VIEWS_KEPT_MAX: Final = 16_384
"""Non-final views whose certificates are kept for stragglers; beyond it the oldest are dropped, and
we only remember that they were nullified. At 67 signers a certificate takes about 7 kB of
memory."""

OWN_VOTE_VIEWS: Final = 32
"""No vote in a view this far below the newest own vote; the signer guard remembers more views than
these."""

FINALIZE_CANDIDATES_MAX: Final = 8
"""Notarized views that wait for our finalize vote; the oldest is dropped."""

PAGE_VIEWS: Final = 256
"""Views asked for at once, and answered at once (P2); more is cut off, the asker asks again."""

BLOCKS_WANTED_MAX: Final = 64
"""Blocks asked for by hash at a time; beyond it the oldest question is forgotten, and asked again
when needed."""

HELP_CREDIT_MAX: Final = 16_384
"""Signatures, in certificates and votes, that a peer may get in a burst: about 1 MB."""

HELP_CREDIT_PER_SECOND: Final = 32_768
"""Signatures a second that a peer may get after that; what is asked for beyond is not answered."""

MAX_LAG: Final = 8
"""A block this far above the newest executed one must be empty (P3)."""

CLOCK_AHEAD_MS_MAX: Final = 500
"""A block further ahead of our clock waits (P2)."""

SYNC_GAP_BLOCKS: Final = 4
"""Missing blocks are fetched one by one up to this gap; a wider one is closed by block sync."""

HASTY_VIEWS_PER_DOUBLING: Final = 8
"""Views nullified although a block was proposed, before patience doubles."""

HASTY_DOUBLINGS_MAX: Final = 2
"""How often it doubles so; with the back-off it is 16 times the first patience at most."""

HASTY_VIEWS_MAX: Final = HASTY_VIEWS_PER_DOUBLING * (HASTY_DOUBLINGS_MAX + 1)
"""Such views that are remembered; as many steps of finality later all are forgotten."""

SILENT_VIEWS: Final = 3
"""Views in a row without a vote of a validator after which its turn to lead is skipped (liveness
only)."""

MISSED_TURNS: Final = 3
"""Turns in a row without a proposal after which a leader is skipped, though it votes (liveness
only)."""

SKIPS_MAX: Final = 16
"""Leaders are skipped in this many views after the newest final one; then patience is full again,
so that a network without any working leader does not race through views."""

MISSED_TURNS_CHANCE: Final = 8
"""Every so many missed turns such a leader gets its full patience again."""

MEMORY_VOTES_MAX: Final = 256
"""Votes in one answer about a restarted validator's memory (P7): the newest ones."""

BACKOFF_PERMILLE: Final = (1_000, 1_500, 2_250, 3_375, 4_000)
"""Factor on timeouts by views beyond the second without finality; the last one stays (consensus.md
T4)."""

WAL_SEGMENT_BYTES_MAX: Final = 8 * 2**20
"""A log segment that has grown past this is closed; the next record opens a new one."""

WAL_RECORD_BYTES_MAX: Final = 32 * 2**20
"""Longer log records are refused; a block's body limit in genesis lies far below."""

WAL_BUFFER_BYTES_MAX: Final = 64 * 2**20
"""Unsynced bytes of the log kept in memory; beyond it `append` syncs by itself."""

GUARD_VIEWS_MAX: Final = 48
"""Views whose votes the guard remembers, more than `OWN_VOTE_VIEWS`; older ones are refused."""
