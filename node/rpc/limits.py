"""Every bound of the JSON-RPC server that `[rpc]` of the configuration does not set."""

from __future__ import annotations

from typing import Final

ID_BYTES_MAX: Final = 256
"""Longest request id as JSON text; a longer one is an invalid request."""

METHOD_CHARS_MAX: Final = 128
"""Longest method name; a longer one is an invalid request."""

RESPONSE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest result of one call, and of a batch together; what does not fit is answered
`response_too_large`."""

DRAIN_BYTES_MAX: Final = 16 * 1024 * 1024
"""How much of an oversized body is read and thrown away so that the sender gets to read the
refusal; then the connection is closed."""

BODY_TIMEOUT_S: Final = 15.0
"""A request body that takes longer to arrive is refused (408)."""

CALL_TIMEOUT_S: Final = 10.0
"""A call that takes longer is answered `timeout`; methods that wait have their own bound."""

SYNC_TIMEOUT_MS_MAX: Final = 30_000
"""Longest wait of `omni_sendTransactionSync`."""

FORWARDS_IN_FLIGHT_MAX: Final = 32
"""Calls passed to the settlement chain's endpoint at once; further ones wait, in order."""

FORWARDS_WAITING_MAX: Final = 1_000
"""Calls waiting to be passed on; the next one is refused (`busy`)."""

FORWARD_TIMEOUT_S: Final = 15.0
"""A call that was not passed on and answered within this time is answered `timeout`."""

EPOCH_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Proofs of one page of epochs, before they are written as text; the page ends there."""

SUPPLY_SHARE: Final = 0.05
"""Most of the time that goes into adding up all balances; meanwhile the sum before is given."""

TOKEN_BYTES: Final = 16 * 1024
"""A request costs as many tokens as it has calls, and at least one for each of these bytes it
starts: parsing is work too."""

CLIENTS_MAX: Final = 10_000
"""Token buckets kept; beyond it the client seen longest ago is forgotten (its bucket is most likely
full again)."""

CONNECTIONS_PER_CLIENT_DIVISOR: Final = 4
"""One client address may hold at most this fraction of `connections_max`; the next one is refused
(429)."""

HEADER_BYTES_MAX: Final = 16 * 1024
"""Largest request head; a larger one is refused (431)."""

HEADER_TIMEOUT_S: Final = 30.0
"""An open connection without a complete request head is closed after this time."""

SILENCE_TIMEOUT_S: Final = 60.0
"""A connection that sends nothing, not even the answer to a ping, is closed after this time."""

PING_INTERVAL_S: Final = 15.0
"""How often a WebSocket client is pinged."""

SEND_STALL_S: Final = 10.0
"""A client that takes nothing of what is sent for this time is cut off."""

SEND_CHUNK_BYTES: Final = 64 * 1024
"""`SEND_STALL_S` is counted anew for each of these bytes, so that a slow line may still fetch a
long answer."""

STOP_GRACE_S: Final = 1.5
"""After the order to stop, running requests and closing handshakes get this long."""

LINGER_S: Final = 0.5
"""After a client hung up, its running requests get this long to end."""

CALLS_IN_FLIGHT_MAX: Final = 256
"""Unfinished calls of one WebSocket; at the bound it is not read further until one ends
(back-pressure)."""

OUTBOX_MESSAGES_MAX: Final = 4_096
"""Messages waiting to be sent on one WebSocket. Responses: at the bound the socket is not read
further. Stream
messages: book updates merge, and beyond the bound the connection is closed with 4008."""

OUTBOX_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes waiting to be sent on one WebSocket; the same policy as `OUTBOX_MESSAGES_MAX`."""

OUTBOXES_BYTES_MAX: Final = 128 * 1024 * 1024
"""Bytes waiting to be sent on all WebSockets; beyond it `OUTBOX_FAIR_BYTES` bounds each of them."""

OUTBOX_FAIR_BYTES: Final = 64 * 1024
"""What one WebSocket may have waiting whatever the others do."""

SUBSCRIPTIONS_MAX: Final = 64
"""Subscriptions of one WebSocket; the next one is refused (`too_many_subscriptions`)."""

WAITERS_MAX: Final = 20_000
"""Calls waiting for a transaction to become final; the next one is refused (`busy`)."""

RECEIPTS_MAX: Final = 50_000
"""Acknowledged transactions remembered until they are final; beyond it the oldest is forgotten."""

BOOK_LEVELS_MAX: Final = 20_000
"""Most levels of a side in the snapshot of a book; a larger book is refused (`book_too_large`)."""

BLOCK_RANGE_MAX: Final = 100
"""Most blocks of one `omni_getBlocks`."""

BLOCK_ROWS_MAX: Final = 20_000
"""Most transactions and events together of one `omni_getBlocks`; beyond it `response_too_large`."""

METRICS_CONNECTIONS_MAX: Final = 16
"""Open connections to the metrics port; newcomers beyond it are refused."""
