"""Every bound of the exchange that genesis does not set, and what happens at the bound."""

from __future__ import annotations

from typing import Final

PRICE_TICKS_MAX: Final = 2**53 - 1
"""Highest price in ticks; more is rejected as `price_out_of_range`. JSON keeps it exact."""

SIZE_LOTS_MAX: Final = 2**63 - 1
"""Largest size in lots; more is rejected as `size_out_of_range`."""

NOTIONAL_MAX: Final = 2**104 - 1
"""Largest price x size in ticks x lots; more is rejected as `notional_out_of_range`.

Times one million (ppm) it stays below 2**128, so every intermediate of a fee fits a fixed-width
integer.
"""

GENESIS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest genesis file; more is refused before it is parsed."""

RECORD_BYTES_MAX: Final = 1024 * 1024
"""Largest state record; a larger one in a database means damage."""

INVARIANT_SCAN_BLOCKS: Final = 10_000
"""Every so many blocks a full scan of balances and books checks conservation (P4)."""

BOOK_DEPTH_MAX: Final = 1_000
"""Most levels per side in one read of an order book; asking for more is refused."""

TEXT_HASHES_CACHED: Final = 16_384
"""Keccak hashes of repeated words, sizes and prices kept for EIP-712; the least used is dropped."""

AGENTS_PER_ACCOUNT_MAX: Final = 64
"""Most session keys of one account; the next approval is rejected as `too_many_agents`."""

NUMBERS_CACHED: Final = 65_536
"""Decimal texts of sizes and prices kept with their value; the least used is dropped."""
