"""What a stranger may send to a node at its worst: the first attacks, and those next to them."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from network_world import until
from omninode.encoding import encode
from omninode.node.net.framing import encode_frame
from omninode.node.net.hello import HELLO_PROTOCOL, Hello, encode_hello
from omninode.node.net.negotiation import opening
from omninode.node.net.settings import Plane
from omninode.node.net.transport import dial
from peer_attacker import (
    MESH,
    TWO_GIGABYTES,
    Attacker,
    attack,
    message,
    rpc,
)

# --- GossipSub -----------------------------------------------------------------------------------


@attack
async def _mesh_malformed_protobuf(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, encode_varint_prefixed(b"\xff" * 200))
    await mallory.has_paid()


@attack
async def _mesh_bad_varint(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, b"\xff" * 20)
    await mallory.has_paid()


@attack
async def _mesh_length_of_two_gigabytes(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, b"\xff\xff\xff\xff\x07")
    await mallory.has_paid()


@attack
async def _mesh_message_with_garbage_key(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, message(mallory, key=b"garbage"))
    await mallory.has_paid()


@attack
async def _mesh_message_with_garbage_origin(mallory: Attacker) -> None:
    await mallory.hello()
    ids = (b"", b"\x00", os.urandom(5), b"\x00\x24\x08\x01\x12\x20" + b"\xff" * 32)
    for origin in ids:
        with suppress(BaseLibp2pError):
            await mallory.speak(MESH, message(mallory, from_id=origin))
    await until(lambda: mallory.score < 0 or mallory.is_cut_off)


@attack
async def _mesh_message_too_long(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, message(mallory, data=b"x" * 300_000))
    await mallory.has_paid()


@attack
async def _mesh_garbage_sender_record(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, rpc(senderRecord=b"junk"))


@attack
async def _mesh_garbage_control(mallory: Attacker) -> None:
    await mallory.hello()
    bad = rpc_pb2.RPC()
    bad.control.ihave.add(topicID="t").messageIDs.extend([b"zz", b"\xff\xfe"])
    bad.control.iwant.add().messageIDs.extend([b"q"])
    bad.control.graft.add(topicID="nope")
    bad.control.prune.add(topicID="t").peers.add(peerID=b"junk", signedPeerRecord=b"junk")
    bad.control.idontwant.add().messageIDs.extend([b"\xff"])
    await mallory.speak(MESH, encode_varint_prefixed(bad.SerializeToString()))


@attack
async def _mesh_thousands_of_subscriptions(mallory: Attacker) -> None:
    await mallory.hello()
    many = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{n}") for n in range(5000)]
    await mallory.speak(MESH, rpc(subscriptions=many))
    await mallory.has_paid()


@attack
async def _mesh_before_the_hello(mallory: Attacker) -> None:
    await mallory.speak(MESH, b"\xff" * 20)


@attack
async def _mesh_half_open(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, b"\x7f")


# --- The layers below ----------------------------------------------------------------------------


@attack
async def _raw_bytes_into_the_port(mallory: Attacker) -> None:
    for data in (os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", b"", b"\x13/multistream/1.0.0\n"):
        socket = await dial(mallory.victim.tcp)
        with suppress(BaseLibp2pError):
            await socket.write(data)
        await socket.abort()


@attack
async def _raw_multistream_of_two_gigabytes(mallory: Attacker) -> None:
    socket = await dial(mallory.victim.tcp)
    await socket.write(b"\xff\xff\xff\xff\x07" + b"x" * 100_000)
    with suppress(BaseLibp2pError):
        while await socket.read(1000):
            pass
    await socket.abort()


@attack
async def _garbage_instead_of_noise(mallory: Attacker) -> None:
    socket = await dial(mallory.victim.tcp)
    await socket.write(opening("/noise") + struct.pack("!H", 100) + os.urandom(100))
    with suppress(BaseLibp2pError):
        while await socket.read(1000):
            pass
    await socket.abort()


@attack
async def _random_bytes_inside_noise(mallory: Attacker) -> None:
    await mallory.frame(os.urandom(500))


@attack
async def _broken_noise_message(mallory: Attacker) -> None:
    await mallory.connection.socket.write(struct.pack("!H", 64) + os.urandom(64))
    await until(lambda: mallory.is_cut_off)


@attack
async def _yamux_frame_of_two_gigabytes(mallory: Attacker) -> None:
    header = struct.pack("!BBHII", 0, 0, 1, 99, 0x7FFFFFFF)
    await mallory.frame(header)
    await until(lambda: mallory.is_cut_off)


@attack
async def _yamux_data_beyond_the_window(mallory: Attacker) -> None:
    stream = await mallory.stream(b"")
    stream.send_window = 1 << 30
    with suppress(BaseLibp2pError):
        for _ in range(100):
            await stream.write(b"x" * 60_000)
    await until(lambda: mallory.is_cut_off)


@attack
async def _yamux_unknown_types_and_flags(mallory: Attacker) -> None:
    for kind in range(4, 20):
        header = struct.pack("!BBHII", 255, kind, 0xFFFF, kind, 0)
        with suppress(BaseLibp2pError):
            await mallory.frame(header)


@attack
async def _fifty_half_open_streams(mallory: Attacker) -> None:
    await mallory.hello()
    for _ in range(50):
        await mallory.connection.open_stream()


@attack
async def _a_thousand_streams(mallory: Attacker) -> None:
    await mallory.hello()
    with suppress(BaseLibp2pError, trio.TooSlowError), trio.fail_after(5):
        for _ in range(1000):
            stream = await mallory.stream(opening("/ipfs/ping/1.0.0"))
            stream.conn.stream_backlog_semaphore.release()


# --- Naming protocols ----------------------------------------------------------------------------


@attack
async def _unknown_protocol(mallory: Attacker) -> None:
    await mallory.speak("/no/such", b"")


@attack
async def _unknown_version(mallory: Attacker) -> None:
    await mallory.hello()
    for name in (HELLO_PROTOCOL, Plane.VOTE.value, Plane.DATA.value, mallory.victim.ask):
        stream = await mallory.speak(f"{name[:-1]}2", encode_frame(b"x"))
        heard = b""
        with suppress(BaseLibp2pError), trio.fail_after(5):
            while b"na\n" not in heard:
                heard += await stream.read(100)
        assert b"na\n" in heard


@attack
async def _multistream_garbage(mallory: Attacker) -> None:
    await mallory.stream(os.urandom(100))


@attack
async def _multistream_that_is_no_text(mallory: Attacker) -> None:
    await mallory.stream(encode_varint_prefixed(b"\xff\xfe\n"))


@attack
async def _multistream_of_two_gigabytes(mallory: Attacker) -> None:
    stream = await mallory.stream(b"\xff\xff\xff\xff\x07")
    with suppress(BaseLibp2pError), trio.fail_after(5):
        while True:
            await stream.write(b"x" * 60_000)


@attack
async def _identify_garbage(mallory: Attacker) -> None:
    for protocol in ("/ipfs/id/push/1.0.0", "/ipfs/id/1.0.0"):
        with suppress(BaseLibp2pError):
            await mallory.speak(protocol, encode_varint_prefixed(os.urandom(80)), end=True)


@attack
async def _ping_garbage(mallory: Attacker) -> None:
    stream = await mallory.speak("/ipfs/ping/1.0.0", b"x" * 7)
    await stream.reset()


# --- Our own protocols ---------------------------------------------------------------------------


@attack
async def _hello_garbage(mallory: Attacker) -> None:
    await mallory.speak(HELLO_PROTOCOL, encode_frame(os.urandom(50)))
    await mallory.has_paid()


@attack
async def _hello_of_two_gigabytes(mallory: Attacker) -> None:
    await mallory.speak(HELLO_PROTOCOL, TWO_GIGABYTES)
    await mallory.has_paid()


@attack
async def _hello_with_an_unknown_field_or_version(mallory: Attacker) -> None:
    stream = await mallory.speak(
        HELLO_PROTOCOL, encode_frame(encode([0, 1, mallory.victim.tag, "m", 5]))
    )
    await mallory.has_paid()
    await stream.reset()
    bad = encode_hello(Hello(2, mallory.victim.tag, "m"))
    await mallory.speak(HELLO_PROTOCOL, encode_frame(bad))


@attack
async def _hello_twice(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(
        HELLO_PROTOCOL, encode_frame(encode_hello(Hello(1, mallory.victim.tag, "again")))
    )
    await mallory.has_paid()


@attack
async def _hello_half_open(mallory: Attacker) -> None:
    await mallory.speak(HELLO_PROTOCOL, b"\x00\x00")
    await until(lambda: mallory.is_cut_off)


@attack
async def _no_hello_at_all(mallory: Attacker) -> None:
    await until(lambda: mallory.is_cut_off)


@attack
async def _planes_of_a_stranger(mallory: Attacker) -> None:
    await mallory.hello()
    for plane in Plane:
        before = mallory.score
        await mallory.speak(plane.value, encode_frame(b"vote"))
        await until(lambda before=before: mallory.score < before)


@attack
async def _planes_before_the_hello(mallory: Attacker) -> None:
    for plane in Plane:
        await mallory.speak(plane.value, encode_frame(b"vote"))


@attack
async def _request_of_two_gigabytes(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(mallory.victim.ask, TWO_GIGABYTES)
    await mallory.has_paid()


@attack
async def _request_garbage(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(mallory.victim.ask, encode_frame(os.urandom(100)))
    await mallory.has_paid()


@attack
async def _request_twice_on_a_stream(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(mallory.victim.ask, encode_frame(b"ok") * 2)
    await mallory.has_paid()


@attack
async def _request_half_open(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(mallory.victim.ask, b"\x00\x00\x00\x09half")
    await mallory.has_paid()
