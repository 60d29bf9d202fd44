"""Every bound of the dev chain, and what happens at the bound."""

from __future__ import annotations

from typing import Final

# --- Requests -------------------------------------------------------------------------------------

BODY_BYTES_MAX: Final = 2 * 2**20
"""Largest request body; a larger one is refused (413) and the connection closed."""

NESTING_MAX: Final = 16
"""Deepest nesting of a request; a deeper one is an invalid request."""

BATCH_MAX: Final = 200
"""Most calls of a batch; a longer one is refused whole."""

ID_BYTES_MAX: Final = 256
"""Longest request id as JSON text; a longer one is an invalid request."""

RESPONSE_BYTES_MAX: Final = 16 * 2**20
"""Largest response; a call whose result does not fit is answered with an error."""

CONNECTIONS_MAX: Final = 256
"""Open connections; a newcomer beyond it is closed at once."""

HEAD_BYTES_MAX: Final = 16 * 1024
"""Largest request head; a larger one is refused and the connection closed."""

IDLE_TIMEOUT_S: Final = 75.0
"""An open connection without a new request is closed after this time."""

BODY_TIMEOUT_S: Final = 15.0
"""A request whose body has not arrived after this time is dropped with its connection."""

SEND_TIMEOUT_S: Final = 20.0
"""A client that has not taken a response after this time is cut off."""

# --- Calls ----------------------------------------------------------------------------------------

CALL_GAS_MAX: Final = 30_000_000
"""Gas of `eth_call` and `eth_estimateGas`; asking for more gets this much, as with geth."""

CALL_TIME_S: Final = 5.0
"""Time of one `eth_call` or `eth_estimateGas` in the EVM; beyond it the call is refused."""

CALLS_WAITING_MAX: Final = 64
"""Calls waiting for their turn in the EVM; the next one is refused."""

LOG_BLOCKS_MAX: Final = 100_000
"""Longest range of `eth_getLogs`; a longer one is refused."""

LOGS_MAX: Final = 10_000
"""Most logs of one `eth_getLogs`; beyond it the call is refused."""

LOG_FILTER_MAX: Final = 1_000
"""Most addresses, and most alternatives of a topic, in one filter."""

FEE_HISTORY_BLOCKS_MAX: Final = 256
"""Most blocks of one `eth_feeHistory`; asking for more gets this many, the newest."""

FEE_PERCENTILES_MAX: Final = 100
"""Most percentiles of one `eth_feeHistory`; asking for more is refused."""

# --- Transactions ---------------------------------------------------------------------------------

TRANSACTION_BYTES_MAX: Final = 128 * 1024
"""Largest transaction; a larger one is refused."""

INIT_CODE_BYTES_MAX: Final = 49_152
"""Largest init code of a contract (EIP-3860)."""

ACCESS_LIST_MAX: Final = 1_000
"""Most addresses, and most slots of one, in the access list of a call."""

POOL_ACCOUNT_MAX: Final = 64
"""Transactions of one account that wait; the next one is refused."""

POOL_TRANSACTIONS_MAX: Final = 4_096
"""Transactions that wait altogether; the next one is refused."""

POOL_BYTES_MAX: Final = 16 * 2**20
"""Bytes of transactions that wait; the next one is refused."""

REPLACEMENT_PERCENT: Final = 110
"""A transaction replaces another of its nonce when both its fees are at least this much of the
other's."""

TRANSACTION_TIME_S: Final = 10.0
"""Time of one transaction in the EVM; one that takes longer is thrown out of the pool, since
it would stop the chain for everybody. The one way for an acknowledged transaction to vanish."""

BLOCK_TIME_S: Final = 2.0
"""Time after which a block takes in no further transaction; the rest waits for the next block."""

# --- Blocks ---------------------------------------------------------------------------------------

REORGANISATION_DEPTH_MAX: Final = 63
"""Deepest reorganisation on demand: one less than the distance of `finalized`."""

SAFE_DEPTH: Final = 32
"""How far below the head the block is that the tag `safe` names; never below the first."""

FINALIZED_DEPTH: Final = 64
"""How far below the head the block is that the tag `finalized` names; never below the first."""

MINE_BLOCKS_MAX: Final = 256
"""Most blocks of one `dev_mine`; asking for more is refused."""

BLOCKS_CACHED: Final = 256
"""Blocks kept decoded; the one unused longest leaves."""

STATE_READS_MAX: Final = 1_000
"""Reads of the newest state before it is opened anew, which empties py-evm's own notes."""

# --- LevelDB --------------------------------------------------------------------------------------

READ_CACHE_BYTES: Final = 8 * 2**20
"""LevelDB's cache of uncompressed blocks; the least used leave it."""

WRITE_BUFFER_BYTES: Final = 4 * 2**20
"""LevelDB's memory table; a full one is written out while the next one fills."""

OPEN_FILES_MAX: Final = 128
"""Table files that LevelDB keeps open; the least used are closed."""
