"""Every bound of moving and checking funds, and what happens at it."""

from __future__ import annotations

from typing import Final

LOG_BLOCKS_MAX: Final = 2_000
"""Blocks asked for in one call of `eth_getLogs`; a longer range is asked for in pieces."""

RECEIPT_POLL_S: Final = 0.25
"""A transaction's receipt is asked for so often."""

RECEIPT_DEADLINE_S: Final = 180.0
"""A transaction in no block after this time is given up: it is named, and may still come."""

WITHDRAWAL_ID_MAX: Final = 2**53 - 1
"""The largest id that the RPC takes; a greater one is wrong usage."""

DEPOSIT_GAS: Final = 200_000
"""More than an approval and a deposit may use together; who can not pay it sends neither."""

STAKE_GAS: Final = 300_000
"""More than an approval and a request about a stake may use together."""

CLAIM_TRIES_MAX: Final = 3
"""Proofs asked for until one is accepted: a checkpoint may be replaced while a claim is made."""

REORGANISATIONS_MAX: Final = 3
"""How often the chain may change under a reading of its events before the reading is given up."""

COMPARISONS_MAX: Final = 12
"""How often both sides are read until neither is ahead of the other; then the last reading counts
as it is."""

COMPARISON_PAUSE_S: Final = 0.5
"""Between two of these readings; a node tells its supply anew after a few seconds at most."""

GAS_MARGIN_PERCENT: Final = 20
"""Gas beyond the estimate: the state may have changed when the transaction is executed."""

ERROR_TEXT_MAX: Final = 300
"""Characters of an endpoint's message that are passed on; the rest is cut off."""
