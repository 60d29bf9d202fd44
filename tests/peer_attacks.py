"""What a stranger may send to a node at its worst, for tests in one process and on daemons."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from network_world import until
from omninode.encoding import encode
from omninode.node.net.exchange import PEERS_PROTOCOL, PeersRequest
from omninode.node.net.framing import encode_frame
from omninode.node.net.hello import HELLO_PROTOCOL, Hello, encode_hello
from omninode.node.net.host import build_host
from omninode.node.net.identity import NodeIdentity
from omninode.node.net.negotiation import opening
from omninode.node.net.settings import Plane, TcpAddress
from omninode.node.net.transport import dial

MESH = "/meshsub/1.1.0"
BATCH = 50
RUBBISH = b"\xc1 rubbish"
TWO_GIGABYTES = (1 << 31).to_bytes(4, "big")


class Victim(Protocol):
    """A node under attack, in this process or another."""

    id: str
    tag: str
    """Hex of its network's genesis hash."""
    topic: str
    """The name among peers of a gossip topic that it hears."""
    ask: str
    """A request protocol that it answers."""
    question: bytes
    """A good request of it."""
    news: bytes
    """Good gossip in which there is nothing new."""

    @property
    def tcp(self) -> TcpAddress:
        """Where it listens."""
        ...

    def has_let_in(self, peer: str) -> bool:
        """Say whether a peer's hello is done."""
        ...

    def score_of(self, peer: str) -> int:
        """Return the score of a peer."""
        ...


class Attacker:
    """A libp2p host that may write whatever it likes."""

    def __init__(self, connection: Any, victim: Victim, identity: NodeIdentity) -> None:
        self.connection = connection
        self.victim = victim
        self.identity = identity

    async def stream(self, data: bytes, *, end: bool = False) -> Any:
        """Open a stream and write raw bytes into it."""
        stream = await self.connection.open_stream()
        await stream.write(data)
        if end:
            await stream.close()
        return stream

    async def speak(self, protocol: str, data: bytes, *, end: bool = False) -> Any:
        return await self.stream(opening(protocol) + data, end=end)

    async def frame(self, data: bytes) -> None:
        """Write raw bytes beneath all streams."""
        await self.connection._write_frame(data)

    async def hello(self, **changes: Any) -> None:
        """Be let in."""
        words = {"version": 1, "network_tag": self.victim.tag, "moniker": "mallory"} | changes
        await self.speak(HELLO_PROTOCOL, encode_frame(encode_hello(Hello(**words))))
        await until(lambda: self.victim.has_let_in(self.id))

    async def has_paid(self) -> None:
        """Wait until the victim has lowered this peer's score."""
        await until(lambda: self.score < 0)

    @property
    def id(self) -> str:
        return self.identity.peer_id

    @property
    def score(self) -> int:
        return self.victim.score_of(self.id)

    @property
    def is_cut_off(self) -> bool:
        return bool(self.connection.event_shutting_down.is_set())


@asynccontextmanager
async def attacker(victim: Victim, identity: NodeIdentity) -> AsyncIterator[Attacker]:
    """Connect a stranger to the victim without saying hello."""
    host = build_host(identity, addresses=tuple)
    swarm = host.get_network()
    async with background_trio_service(swarm):
        socket = await dial(victim.tcp)
        opened = await swarm.upgrade_outbound_raw_conn(
            RawConnection(socket, True), ID.from_base58(victim.id)
        )
        yield Attacker(opened.muxed_conn, victim, identity)
        await socket.abort()


Attack = Callable[[Attacker], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.strip("_")] = function
    return function


def rpc(**fields: Any) -> bytes:
    return encode_varint_prefixed(rpc_pb2.RPC(**fields).SerializeToString())


def message(mallory: Attacker, **fields: Any) -> bytes:
    """Return a GossipSub RPC with one message, good in form and badly signed."""
    honest = {
        "data": b"x",
        "topicIDs": [mallory.victim.topic],
        "from_id": b"\x12\x20" + bytes(32),
        "seqno": b"1" * 8,
        "key": b"",
        "signature": b"s" * 64,
    }
    return rpc(publish=[rpc_pb2.Message(**(honest | fields))])


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
