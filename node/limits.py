"""Bounds of the node's own services, each with what happens beyond it."""

from __future__ import annotations

from typing import Final

# --- Mempool -------------------------------------------------------------------------------------

POOL_TRANSACTIONS_MAX: Final = 50_000
"""Pending transactions held. Overflow: the newest is refused with `mempool_full`."""

POOL_BYTES_MAX: Final = 16 * 1024 * 1024
"""Signed bytes of pending transactions; decoded they take some six times as much memory.

Overflow: as above.
"""

POOL_PER_SIGNER_MAX: Final = 5_000
"""Pending transactions of one key. Overflow: its newest is refused with `mempool_full`."""

POOL_PER_VALIDATOR_MAX: Final = 128
"""Pending attestations and checkpoint signatures of one validator, whatever else is pending.

Overflow: as above.
"""

FIRST_PER_VALIDATOR_MAX: Final = 4
"""What one validator says that a block takes before all else. Overflow: it waits in line."""

VALIDATORS_SHARE: Final = 4
"""The part of a block, one in so many, that is for what validators say before all else is taken.

Overflow: as above; what they leave of it goes to all else.
"""

# --- Admission -----------------------------------------------------------------------------------

INLINE_SIGNATURES_MAX: Final = 16
"""Signatures checked in the event loop (about 1 ms); more go to worker threads.

A hop to a thread and back costs as much as two or three checks.
"""

SIGNATURE_CHUNK: Final = 64
"""Signatures checked by one visit to a worker thread."""

SIGNATURE_THREADS_MAX: Final = 2
"""Threads checking signatures at once; further chunks wait."""

FRAME_TRANSACTIONS_MAX: Final = 4_096
"""Transactions in one frame between peers. Overflow: refused whole, the peer's fault."""

FRAME_TRANSACTION_BYTES_MAX: Final = 256 * 1024
"""One frame of transactions between peers. Overflow: as above; ours are split before it."""

RECENTLY_FINAL_MAX: Final = 10_000
"""Executed transactions known by hash until storage has them. Overflow: the oldest goes."""

SUBMIT_TRANSACTIONS_MAX: Final = 1_000
"""Transactions in one call of `submit_many`. Overflow: the call is refused."""

PENALTY_BAD_TRANSACTION: Final = 25
"""Points for a transaction that an honest validator refuses at its own door."""
