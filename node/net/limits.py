"""Every bound of the peer layer, with what happens when it is reached.

Bytes are memory: the comments say how much a stranger can make the node hold.
"""

from __future__ import annotations

from typing import Final

# --- Connections ---------------------------------------------------------------------------------

HANDSHAKES_MAX: Final = 64
"""Inbound connections that have not proven an identity yet. Overflow: the oldest one of the address
with most of them is closed."""

HANDSHAKES_PER_IP_MAX: Final = 16
"""The same for one IPv4 address or IPv6 /64. Overflow: its oldest is closed."""

HANDSHAKES_RESERVED: Final = 64
"""The same for addresses where validators and persistent peers are known to be."""

DOOR_FAILURES_MAX: Final = 60
"""Handshakes of one address that may fail before it is turned away."""

DOOR_FAILURES_PER_MINUTE: Final = 30
"""How many failed handshakes of an address are forgotten each minute."""

DOOR_CLOSED_MS: Final = 30_000
"""How long an address is turned away whose handshakes keep failing."""

DOOR_ADDRESSES_MAX: Final = 4_096
"""Addresses whose failed handshakes are remembered. Overflow: the one that failed longest ago."""

HANDSHAKE_TIMEOUT_MS: Final = 8_000
"""Noise and Yamux, inbound. Overflow: the socket is closed."""

DIAL_TIMEOUT_MS: Final = 5_000
"""TCP, Noise and Yamux, outbound. Overflow: the dial has failed, back-off."""

KEY_WARNING_INTERVAL_MS: Final = 10_000
"""How often it is said that somebody is no member of a private network. Overflow: not said."""

SOCKET_WRITE_TIMEOUT_MS: Final = 5_000
"""One write of at most 64 KiB into a socket. Overflow: the socket is closed; the peer hangs."""

SOCKET_READ_BYTES: Final = 128 * 1024
"""Most that one read takes out of a socket; held per connection until it is decrypted."""

SOCKET_TURN_READS: Final = 64
"""Reads out of one socket (a message takes two) before other connections have their turn."""

STRANGER_READS_PER_S: Final = 4_000
"""Reads out of a stranger's socket each second. Overflow: TCP slows the sender."""

STRANGER_READS_BURST: Final = 16_000
"""The same at once."""

DIAL_PATIENCE_MS: Final = 1_000
"""How long the higher id lets the lower dial first, so that one connection results."""

HELLO_TIMEOUT_MS: Final = 8_000
"""From a connection to a good hello. Overflow: disconnect."""

HELLO_BYTES_MAX: Final = 1_024
"""One hello message. Overflow: a fault."""

MONIKER_CHARACTERS_MAX: Final = 64
"""Length of a name in a hello. Overflow: a fault."""

REFUSAL_CHARACTERS_MAX: Final = 200
"""Text of a refusal in a hello or an answer. Overflow: cut when written, a fault when read."""

CLOSE_TIMEOUT_MS: Final = 2_000
"""Time for libp2p to take down what hangs on a closed socket. Overflow: go on without waiting."""

# --- Streams and windows -------------------------------------------------------------------------

STREAMS_PER_CONNECTION_MAX: Final = 32
"""Streams a peer may have open towards us. Overflow: the new stream is reset.

With `STREAM_WINDOW_BYTES` this bounds what a stranger can park here: 8 MiB a connection.
"""

STREAMS_PER_S: Final = 100
"""Streams of one connection that are served each second. Overflow: the next one waits."""

STREAMS_BURST: Final = 400
"""The same at once."""

STREAM_WINDOW_BYTES: Final = 256 * 1024
"""Unread bytes of one stream, and the largest Yamux frame. Overflow: the connection is closed."""

PLANE_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Unread bytes of one vote or data stream; only validators have these. Overflow: as above."""

RESPONSE_WINDOW_BYTES: Final = 2 * 1024 * 1024
"""Unread bytes of an answer that we asked for. Overflow: as above."""

STREAM_STALL_TIMEOUT_MS: Final = 5_000
"""How long a writer waits for window. Overflow: its stream has failed; a link ends the connection.
"""

STREAM_READ_BYTES: Final = 256 * 1024
"""Most that one read takes out of a stream."""

NEGOTIATION_TIMEOUT_MS: Final = 8_000
"""Naming the protocol of a new stream. Overflow: the stream is reset."""

NEGOTIATION_BYTES_MAX: Final = 1_024
"""One multistream-select message. Overflow: the stream is reset."""

# --- Planes --------------------------------------------------------------------------------------

FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
"""One frame on a vote or data stream. Overflow: refused by `send`; a fault when read."""

LINK_QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Frames that wait for one peer and plane. Overflow: `send` returns False, the frame is dropped.

What must arrive is asked for again by whoever misses it, so dropping is safe and keeps memory flat.
"""

LINK_WRITE_BYTES_MAX: Final = 256 * 1024
"""Frames joined into one write; more wait for the next one."""

LINK_REOPEN_DELAY_MS: Final = 500
"""Pause before a plane stream that broke on a living connection is opened again, at first."""

LINK_REOPEN_DELAY_MAX_MS: Final = 10_000
"""The same after several that broke soon: the peer may not know yet that we are a validator."""

LINK_STEADY_MS: Final = 5_000
"""A plane stream that lived so long was wanted: the pause is the first one again."""

PLANE_WAIT_MS: Final = 4_000
"""How long a plane stream waits for its peer to become a validator. Overflow: reset, a small fault.

Shorter than `STREAM_STALL_TIMEOUT_MS`, so that its sender does not take us for hung.
"""

# --- Requests ------------------------------------------------------------------------------------

REQUEST_READ_TIMEOUT_MS: Final = 5_000
"""Reading a request that a peer began. Overflow: a fault, the stream is reset."""

REQUEST_ANSWER_TIMEOUT_MS: Final = 10_000
"""Making and writing the answer. Overflow: the stream is reset."""

REQUESTS_SERVED_MAX: Final = 64
"""Requests in work for all peers. Overflow: answered `busy`."""

REQUESTS_SERVED_PER_PEER_MAX: Final = 8
"""Requests in work for one peer. Overflow: answered `busy`."""

REQUESTS_SENT_PER_PEER_MAX: Final = 16
"""Our own open requests to one peer. Overflow: wait, within the timeout of the request."""

# --- Gossip --------------------------------------------------------------------------------------

GOSSIP_MESSAGE_BYTES_MAX: Final = 128 * 1024
"""Data of one message. Overflow: refused by `publish`; a fault when received."""

GOSSIP_RPC_BYTES_MAX: Final = 1024 * 1024
"""One GossipSub RPC with all its messages. Overflow: a fault, the stream is reset."""

GOSSIP_SENDER_QUEUE_MAX: Final = 256
"""RPCs that wait for one peer. Overflow: the newest is dropped; gossip is lossy by contract."""

GOSSIP_SENDER_QUEUE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes that wait for one peer. Overflow: as above."""

GOSSIP_PENDING_MAX: Final = 8
"""Messages kept for a peer that has not said yet what it hears. Overflow: the oldest is dropped."""

GOSSIP_CACHE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Messages of the last heartbeats, for peers that missed them. Overflow: the newest is not kept."""

GOSSIP_ANSWER_BYTES_MAX: Final = 512 * 1024
"""Messages sent again in answer to one RPC. Overflow: the rest is not sent."""

GOSSIP_CONTROL_IDS_MAX: Final = 8_192
"""Message ids in the control part of one RPC. Overflow: a fault."""

GOSSIP_PUBLISH_QUEUE_MAX: Final = 1_024
"""Own messages that wait for the router. Overflow: `publish` returns False."""

GOSSIP_DELIVERY_QUEUE_MAX: Final = 4_096
"""Received messages that wait for one topic's handler. Overflow: the newest is dropped."""

GOSSIP_MESSAGES_PER_S: Final = 200
"""Messages read from one peer. Overflow: its stream is read more slowly."""

GOSSIP_MESSAGES_BURST: Final = 400
"""Messages a peer may send at once before `GOSSIP_MESSAGES_PER_S` holds."""

GOSSIP_MESSAGE_UNIT_BYTES: Final = 16 * 1024
"""A message counts once for each such piece of it that has begun."""

GOSSIP_STRANGERS_PER_S: Final = 1_000
"""Messages read from all strangers together, counted alike. Overflow: they are read more slowly."""

GOSSIP_TOPICS_MAX: Final = 256
"""Topics this node subscribes to. Overflow: `subscribe` raises."""

GOSSIP_RESTART_DELAY_MS: Final = 500
"""Pause before a gossip service that failed is started again."""

GOSSIP_WATCH_INTERVAL_MS: Final = 2_000
"""How often lost gossip streams to connected peers are repaired."""

# --- Peer table ----------------------------------------------------------------------------------

PEERS_REMEMBERED_MAX: Final = 1_024
"""Peers in the table. Overflow: the strangers seen longest ago that are not banned go first."""

ADDRESSES_PER_PEER_MAX: Final = 8
"""Addresses kept of one peer. Overflow: later ones are not taken."""

SCORE_DISCONNECT: Final = -50
"""A peer that falls to this score is disconnected."""

SCORE_BAN: Final = -100
"""A peer that falls to this score is disconnected and banned."""

SCORE_RECOVERY_PER_MINUTE: Final = 10
"""Points that come back each minute, up to 0."""

BAN_MS: Final = 10 * 60 * 1000
"""How long a stranger stays banned, the first time."""

BAN_STEP: Final = 6
"""How many times longer each further ban of a stranger is."""

BAN_MAX_MS: Final = 24 * 3600 * 1000
"""The longest ban."""

BAN_MEMORY_MS: Final = 24 * 3600 * 1000
"""A peer that was good for so long after a ban is as if it never had been banned."""

BAN_VALIDATOR_MS: Final = 30 * 1000
"""How long a validator stays banned: its votes are needed, and evidence is the chain's matter."""

# --- Penalties (points of score) -----------------------------------------------------------------

PENALTY_MALFORMED: Final = 25
"""Bytes that do not decode."""

PENALTY_OVERSIZED: Final = 50
"""A length beyond the bound of its protocol."""

PENALTY_FORBIDDEN: Final = 1
"""A stream that this peer may not open. A validator of an epoch that one side has not reached yet
does it several times a minute, which `SCORE_RECOVERY_PER_MINUTE` forgives."""

PENALTY_STALLED: Final = 5
"""A stream opened and left half done; a slow line does this too."""

PENALTY_BROKEN_STREAM: Final = 5
"""A stream that failed inside libp2p."""

# --- Finding peers -------------------------------------------------------------------------------

BOOK_PEERS_MAX: Final = 1_024
"""Peers in the address book. Overflow: the one that failed most, then was reached longest ago."""

BOOK_PER_GROUP_MAX: Final = 16
"""Addresses in the book with one public IPv4 address or IPv6 /64. Overflow: the new one is not
taken."""

BOOK_ADDRESSES_PER_PEER_MAX: Final = 4
"""Addresses of one peer in the book. Overflow: the one reached longest ago goes."""

BOOK_FAILURES_MAX: Final = 8
"""Failed dials in a row after which an address is forgotten if it was not reached for
`BOOK_FORGET_MS`."""

BOOK_FORGET_MS: Final = 24 * 3600 * 1000
"""See `BOOK_FAILURES_MAX`."""

BOOK_STALE_MS: Final = 7 * 24 * 3600 * 1000
"""An address that was not reached for so long is not told to others."""

BOOK_RETRY_MS: Final = 30_000
"""First pause before an address that failed is dialled again; doubles up to
`BOOK_RETRY_MAX_MS`."""

BOOK_RETRY_MAX_MS: Final = 6 * 3600 * 1000
"""See `BOOK_RETRY_MS`."""

BOOTSTRAP_RETRY_MS: Final = 1_000
"""The same for addresses that the configuration names, up to `BOOTSTRAP_RETRY_MAX_MS`."""

BOOTSTRAP_RETRY_MAX_MS: Final = 60_000
"""See `BOOTSTRAP_RETRY_MS`."""

BOOK_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""The address book on disk. Overflow: it is not read; the node begins with an empty one."""

BOOK_SAVE_INTERVAL_MS: Final = 15_000
"""How often a changed address book is written."""

CANDIDATES_PER_SOURCE_MAX: Final = 32
"""Addresses told by one IP address that were not tried yet. Overflow: the oldest goes."""

CANDIDATE_SOURCES_MAX: Final = 64
"""IP addresses whose hearsay is kept. Overflow: what the one that spoke first said goes."""

OUTBOUND_SHARE: Final = 4
"""At most one in so many connections is kept free for whom this node dials by itself."""

PEERS_TOLD_MAX: Final = 32
"""Addresses in one answer to a request for peers. Overflow: fewer are told; a fault when read."""

PEERS_REQUEST_BYTES_MAX: Final = 64
"""One request for peers. Overflow: a fault."""

PEERS_REPLY_BYTES_MAX: Final = 8 * 1024
"""One answer to it. Overflow: a fault."""

PEERS_TELL_INTERVAL_MS: Final = 2_000
"""A peer is told addresses this often. Overflow: refused."""

PEERS_ASK_INTERVAL_MS: Final = 30_000
"""How often some connected peer is asked for addresses."""

VALIDATORS_ASK_INTERVAL_MS: Final = 3_000
"""The same for a validator that does not know where another one is, and for a node that begins."""

PEERS_ASK_SOON_MAX: Final = 10
"""How often a node that begins asks at that pace, as long as it has too few connections."""

PEERS_ASK_TIMEOUT_MS: Final = 5_000
"""How long an answer may take. Overflow: no answer."""

DISCOVERY_INTERVAL_MS: Final = 500
"""How often it is considered whom to dial."""

DISCOVERY_DIALS_MAX: Final = 4
"""Dials and probes at a time, each. Overflow: the next one waits."""

PROBE_INTERVAL_MS: Final = 250
"""Pause between two probes of addresses that strangers told."""

PROBE_SAME_ADDRESS_MS: Final = 10_000
"""The same for one public address, so that nobody can aim a node at it. Overflow: that candidate
is dropped."""

PROBED_ADDRESSES_MAX: Final = 256
"""Addresses whose last probe is remembered. Overflow: the oldest is forgotten."""
