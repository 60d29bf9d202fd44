"""What a stranger may send to a node, by the thousand or with good signatures."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from network_world import until
from omninode.encoding import encode
from omninode.node.net.exchange import PEERS_PROTOCOL, PeersRequest
from omninode.node.net.framing import encode_frame
from omninode.node.net.hello import HELLO_PROTOCOL, Hello, encode_hello
from omninode.node.net.identity import NodeIdentity
from omninode.node.net.settings import Plane
from peer_attacker import (
    MESH,
    RUBBISH,
    TWO_GIGABYTES,
    Attacker,
    attack,
    rpc,
)

BATCH = 50


# --- Before anybody has said who it is -----------------------------------------------------------


@asynccontextmanager
async def sockets(mallory: Attacker, count: int, first: bytes) -> AsyncIterator[list[Any]]:
    """Hold many connections, each of which has said `first`."""
    held: list[Any] = []

    async def connect() -> None:
        with suppress(OSError, trio.BrokenResourceError):
            stream = await trio.open_tcp_stream(mallory.victim.tcp.host, mallory.victim.tcp.port)
            held.append(stream)
            await stream.send_all(first)

    for _ in range(0, count, BATCH):
        async with trio.open_nursery() as nursery:
            for _ in range(BATCH):
                nursery.start_soon(connect)
    try:
        yield held
    finally:
        for stream in held:
            await trio.aclose_forcefully(stream)


@attack
async def _handshakes_a_byte_at_a_time(mallory: Attacker) -> None:
    slowly = b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x20"
    async with sockets(mallory, 60, slowly[:1]) as held:
        for byte in slowly[1:]:
            for stream in held:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(bytes([byte]))
            await trio.sleep(0.02)


@attack
async def _handshakes_left_half_way(mallory: Attacker) -> None:
    async with sockets(mallory, 200, b"\x13/multistream/1.0.0\n\x07/noise\n"):
        await trio.sleep(0.5)


@attack
async def _two_thousand_silent_connections(mallory: Attacker) -> None:
    async with sockets(mallory, 2_000, b""):
        await trio.sleep(0.5)


@attack
async def _connections_that_come_and_go(mallory: Attacker) -> None:
    for _ in range(10):
        async with sockets(mallory, 50, b"\x13/multistream/1.0.0\n"):
            pass


# --- Yamux ---------------------------------------------------------------------------------------


@attack
async def _yamux_windows_that_overflow(mallory: Attacker) -> None:
    stream = await mallory.stream(b"")
    for _ in range(5):
        header = struct.pack("!BBHII", 0, 1, 0, stream.stream_id, 0xFFFF_FFFF)
        await mallory.frame(header)


@attack
async def _yamux_pings_without_end(mallory: Attacker) -> None:
    with suppress(BaseLibp2pError), trio.move_on_after(5):
        for number in range(3_000):
            header = struct.pack("!BBHII", 0, 2, 1, 0, number)
            await mallory.frame(header)


@attack
async def _yamux_streams_of_the_wrong_side(mallory: Attacker) -> None:
    for stream_id in (0, 2, 4, 4, 0xFFFF_FFFE):
        for flags in (1, 1, 2, 4, 8):
            with suppress(BaseLibp2pError):
                header = struct.pack("!BBHII", 0, 1, flags, stream_id, 0)
                await mallory.frame(header)


@attack
async def _yamux_streams_reset_as_soon_as_opened(mallory: Attacker) -> None:
    await mallory.hello()
    with suppress(BaseLibp2pError), trio.move_on_after(5):
        for stream_id in range(1_001, 5_001, 2):
            for flags in (1, 8):
                header = struct.pack("!BBHII", 0, 1, flags, stream_id, 0)
                await mallory.frame(header)


@attack
async def _yamux_goes_away_and_goes_on(mallory: Attacker) -> None:
    with suppress(BaseLibp2pError):
        await mallory.frame(struct.pack("!BBHII", 0, 3, 0, 0, 0))
        await mallory.speak("/ipfs/ping/1.0.0", b"x" * 32)


# --- Our protocols, again ------------------------------------------------------------------------


@attack
async def _two_gigabytes_on_every_protocol(mallory: Attacker) -> None:
    await mallory.hello()
    planes = [plane.value for plane in Plane]
    for protocol in (mallory.victim.ask, PEERS_PROTOCOL, HELLO_PROTOCOL, *planes):
        with suppress(BaseLibp2pError):
            await mallory.speak(protocol, TWO_GIGABYTES + b"x" * 1_000)
    await until(lambda: mallory.is_cut_off)


@attack
async def _streams_without_data(mallory: Attacker) -> None:
    await mallory.hello()
    protocols = (mallory.victim.ask, PEERS_PROTOCOL, MESH, Plane.VOTE.value, Plane.DATA.value)
    with suppress(BaseLibp2pError):
        for number in range(30):
            await mallory.speak(protocols[number % len(protocols)], b"")
    await mallory.has_paid()


@attack
async def _a_flood_of_requests(mallory: Attacker) -> None:
    await mallory.hello()
    with suppress(BaseLibp2pError, trio.TooSlowError), trio.fail_after(5):
        for _ in range(400):
            stream = await mallory.speak(
                mallory.victim.ask, encode_frame(mallory.victim.question), end=True
            )
            stream.conn.stream_backlog_semaphore.release()


@attack
async def _a_flood_of_requests_for_peers(mallory: Attacker) -> None:
    await mallory.hello()
    with suppress(BaseLibp2pError, trio.TooSlowError), trio.fail_after(5):
        for port in range(1, 300):
            request = encode_frame(encode(PeersRequest(port)))
            stream = await mallory.speak(PEERS_PROTOCOL, request, end=True)
            stream.conn.stream_backlog_semaphore.release()


@attack
async def _requests_for_peers_in_bad_form(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(PEERS_PROTOCOL, encode_frame(encode(PeersRequest(1 << 40))))
    await mallory.has_paid()


@attack
async def _hello_of_another_network(mallory: Attacker) -> None:
    foreign = encode_hello(Hello(1, "cd" * 32, "mallory"))
    await mallory.speak(HELLO_PROTOCOL, encode_frame(foreign))
    await mallory.speak(mallory.victim.ask, encode_frame(mallory.victim.question))


@attack
async def _hello_with_a_name_that_is_a_terminal_s_command(mallory: Attacker) -> None:
    evil = encode_hello(Hello(1, mallory.victim.tag, "\x1b]0;owned\x07"))
    await mallory.speak(HELLO_PROTOCOL, encode_frame(evil))
    await mallory.has_paid()


# --- Gossip with good signatures -----------------------------------------------------------------


def signed(identity: NodeIdentity, topics: list[str], data: bytes, number: int) -> Any:
    """Return a gossip message that its author has signed."""
    keys = create_new_key_pair(identity.seed)
    written = rpc_pb2.Message(
        from_id=ID.from_base58(identity.peer_id).to_bytes(),
        data=data,
        topicIDs=topics,
        seqno=number.to_bytes(8, "big"),
    )
    written.signature = keys.private_key.sign(b"libp2p-pubsub:" + written.SerializeToString())
    return written


@attack
async def _gossip_rubbish_with_a_good_signature(mallory: Attacker) -> None:
    await mallory.hello()
    rubbish = signed(mallory.identity, [mallory.victim.topic], RUBBISH, 1)
    await mallory.speak(MESH, rpc(publish=[rubbish]))
    await mallory.has_paid()


@attack
async def _gossip_rubbish_under_many_names(mallory: Attacker) -> None:
    await mallory.hello()
    many = [
        signed(NodeIdentity.from_seed(os.urandom(32)), [mallory.victim.topic], RUBBISH, number)
        for number in range(1, 20)
    ]
    for start in range(0, len(many), 5):
        with suppress(BaseLibp2pError):
            await mallory.speak(MESH, rpc(publish=many[start : start + 5]))
    await mallory.has_paid()


@attack
async def _gossip_of_a_thousand_topics(mallory: Attacker) -> None:
    await mallory.hello()
    topics = [mallory.victim.topic, *(f"invented {number}" for number in range(1_000))]
    wide = signed(mallory.identity, topics, mallory.victim.news, 1)
    await mallory.speak(MESH, rpc(publish=[wide]))
    await mallory.has_paid()


@attack
async def _gossip_a_flood_of_old_news(mallory: Attacker) -> None:
    await mallory.hello()
    flood = [
        signed(mallory.identity, [mallory.victim.topic], mallory.victim.news, number)
        for number in range(1, 601)
    ]
    with suppress(BaseLibp2pError), trio.move_on_after(6):
        stream = await mallory.speak(MESH, rpc(publish=flood[:100]))
        for start in range(100, len(flood), 50):
            await stream.write(rpc(publish=flood[start : start + 50]))


@attack
async def _gossip_asked_for_again_and_again(mallory: Attacker) -> None:
    await mallory.hello()
    one = signed(mallory.identity, [mallory.victim.topic], mallory.victim.news, 1)
    name = (one.from_id + one.seqno).hex().encode()
    stream = await mallory.speak(MESH, rpc(publish=[one]))
    for count in (100, 5_000):
        bomb = rpc_pb2.RPC()
        bomb.control.iwant.add().messageIDs.extend([name] * count)
        await stream.write(encode_varint_prefixed(bomb.SerializeToString()))


@attack
async def _gossip_control_without_measure(mallory: Attacker) -> None:
    await mallory.hello()
    bomb = rpc_pb2.RPC()
    for number in range(5_000):
        bomb.control.prune.add(topicID=f"invented {number}", backoff=1 << 62)
    await mallory.speak(MESH, encode_varint_prefixed(bomb.SerializeToString()))
    await mallory.has_paid()
