"""Bounds of the consensus shell, each with what happens beyond it."""

from __future__ import annotations

from typing import Final

VOTE_FRAME_BYTES_MAX: Final = 4 << 20
"""A longer vote-plane frame is refused and costs its sender: a proposal of 50,000 ids fits."""

PENDING_MESSAGE_BYTES_MAX: Final = 64 << 10
"""Pending transactions handed to a leader at once. The rest waits for the next view; a peer that
sends more pays for it."""

EVIDENCE_KEPT_MAX: Final = 1_000
"""Contradictory pairs kept for inclusion; the oldest is dropped."""

CERTIFICATES_UNSYNCED_MAX: Final = 256
"""Certificates appended to the log without a sync; the next one causes one, so that a node which
does not vote keeps a short log too."""

EPOCH_HINTS_PER_SECOND: Final = 1
EPOCH_HINTS_BURST: Final = 2
"""How often a peer in another epoch than ours is answered with a proof, or makes us look for newer
blocks; what it says beyond that is dropped."""

# --- What a peer may cost ------------------------------------------------------------------------

WORK_PER_SECOND: Final = 2_000
"""Vote-plane work a validator may cause each second, in units of about 60 microseconds (one
signature check). Beyond it its frames wait, and its own stream with them."""

WORK_BURST: Final = 4_000
"""The same at once. An honest validator causes some 500 a second at 80 blocks a second."""

WORK_SLICE: Final = 32
"""Units of work after which other tasks get their turn."""

SERVED_PER_SECOND_BYTES: Final = 8 << 20
"""What a peer may be served of blocks and transactions each second. Beyond it it gets empty
answers, and asks somebody else."""

SERVED_BURST_BYTES: Final = 32 << 20
"""The same at once."""

SERVED_BLOCK_BYTES: Final = 4 << 10
"""What reading one block costs beside its bytes, however small it is."""

BUDGET_PEERS_MAX: Final = 4_096
"""Peers whose spending is remembered; beyond it the one that spent longest ago is forgotten."""

# --- Blocks and their transactions ---------------------------------------------------------------

BODIES_HELD_MAX: Final = 4_096
"""Blocks held with bodies until executed; the oldest is dropped. The core gives proposals up after
some dozen views, so honest and dishonest leaders stay far below."""

FETCHES_MAX: Final = 64
"""Concurrent fetches of blocks or bodies; beyond it the newest waits for the core to ask again."""

FETCH_ROUNDS_MAX: Final = 20
"""Times that all peers are asked for one block; then the core's retry timer asks again."""

FETCH_VIEWS: Final = 2
"""Views after the core last asked for a block in which it is still looked for; the core asks again
in every view for what it needs."""

IDS_PER_REQUEST_MAX: Final = 4_096
"""Transactions asked for at once; more are asked for by further questions."""

REQUEST_BYTES_MAX: Final = 1 << 20
"""A question about transactions; a longer one is the peer's fault."""

REPLY_BYTES_MAX: Final = 16 << 20
"""A reply with a block or its transactions; a longer one is the peer's fault."""

TRANSACTIONS_REPLY_BYTES_MAX: Final = 8 << 20
"""Transaction bytes in one reply; the asker asks again for the rest."""

# --- Block sync ----------------------------------------------------------------------------------

SYNC_BLOCKS_MAX: Final = 256
"""Blocks in one run of block sync."""

SYNC_BYTES_MAX: Final = 4 << 20
"""Transaction bytes in one run of block sync; a run ends after the block that passes it."""

SYNC_REPLY_BYTES_MAX: Final = 24 << 20
"""A reply with a run; a longer one is not sent, and is the peer's fault."""
