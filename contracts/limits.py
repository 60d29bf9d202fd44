"""Bounds of what the settlement part holds, reads and asks; each says what happens beyond it."""

from __future__ import annotations

from typing import Final

REPLY_BYTES_MAX: Final = 32 * 1024 * 1024
"""A longer answer of an endpoint is cut off and counts as a failure; ranges are asked in halves."""

FORWARDED_REPLY_BYTES_MAX: Final = 8 * 1024 * 1024
"""The same of an answer that is passed on to a user: what the RPC interface answers at most."""

ENDPOINT_CALLS_MAX: Final = 8
"""Calls of our own to one endpoint at a time; more wait."""

FORWARDED_PLACES_MAX: Final = 8
"""Users' calls to one endpoint at a time; more wait."""

FORWARDED_CALLS_MAX: Final = 32
"""Calls of users that are passed on at a time; more wait for their turn or time out."""

ERROR_CHARS_MAX: Final = 300
"""An endpoint's error text is cut here before it is logged or shown."""

ERROR_DATA_BYTES_MAX: Final = 65_536
"""Larger error data of an endpoint is left out."""

STRETCH_BLOCKS_MAX: Final = 1_000
"""Blocks that are confirmed in one step while catching up."""

STRETCH_WIDENED_BLOCKS: Final = 64
"""By so much a stretch that had to be narrowed is widened again with each step."""

TIP_BLOCKS: Final = 16
"""Nearer to the newest confirmed block than this, blocks are read one by one, by hash."""

LOGS_MAX: Final = 10_000
"""Logs of the contract in one answer or stretch of several blocks: half a second's work. With more,
less is asked for."""

LOGS_OF_BLOCK_MAX: Final = 50_000
"""Logs of the contract in one block; an endpoint that tells more is refused: no block has room."""

LOG_DATA_BYTES_MAX: Final = 1_024
"""Data of one log; the contract's events have at most ten words."""

STRANGE_BLOCKS_MAX: Final = 4_096
"""Blocks remembered of an endpoint that is on another chain; the oldest are forgotten first."""

ANCHORS_KEPT: Final = 256
"""Confirmed blocks whose hashes are kept, to say how deep a reorganisation went."""

LOOK_BACK_S: Final = 20.0
"""Time to find out how deep a reorganisation went; what is known then is told."""

LOGS_DECODED_AT_ONCE: Final = 200
"""Logs decoded before other tasks get their turn: about 10 ms."""

SENDS_OF_ONE_NONCE_MAX: Final = 16
"""Times the fee of one transaction is raised; afterwards the last one is only sent again."""

ERRANDS_PASSED_OVER_MAX: Final = 256
"""Errands remembered that the contract was found to have; the oldest are forgotten, and asked for
again."""

STATEMENTS_OPEN_MAX: Final = 64
"""Transactions of this validator's own that wait for a block; more are not made meanwhile."""
