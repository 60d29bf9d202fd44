"""Every bound of the sealed lane that genesis does not set, and what happens at the bound."""

from __future__ import annotations

from typing import Final

COMMITS_PER_ACCOUNT_MAX: Final = 64
"""Most commitments of one address that are not cleared; the next is `too_many_commits`."""

COMMITS_PER_MARKET_MAX: Final = 2_000
"""Most commitments of one market in one batch, and so most reveals; the next is `batch_full`."""

COMMITS_PER_BATCH_MAX: Final = 5_000
"""Most commitments of one batch, which one block clears; the next is `batch_full`."""

LEADERS_MAX: Final = 32
"""Most leaders that genesis may ask a window to have."""
