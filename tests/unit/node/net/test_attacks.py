"""Nothing a stranger sends may stop the node or take it from its peers.

Each attack runs against a real network with an honest peer connected; afterwards the honest peer
must still be connected or come back, its frames must arrive, and a newcomer must get in.
"""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from network_world import TAG, Net, Node, identity, until
from omninode.encoding import encode
from omninode.errors import Malformed
from omninode.node.net import handshakes, hardening, serving, session
from omninode.node.net import requests as net_requests
from omninode.node.net.framing import encode_frame
from omninode.node.net.hello import HELLO_PROTOCOL, Hello, encode_hello
from omninode.node.net.host import build_host
from omninode.node.net.negotiation import opening
from omninode.node.net.settings import Plane
from omninode.node.net.transport import dial

MESH = "/meshsub/1.1.0"
ASK = "/omninode/ask/1"
TWO_GIGABYTES = (1 << 31).to_bytes(4, "big")


class Attacker:
    """A libp2p host that may write whatever it likes."""

    def __init__(self, connection: Any, victim: Node) -> None:
        self.connection = connection
        self.victim = victim

    async def stream(self, data: bytes, *, end: bool = False) -> Any:
        """Open a stream and write raw bytes into it."""
        stream = await self.connection.open_stream()
        await stream.write(data)
        if end:
            await stream.close()
        return stream

    async def speak(self, protocol: str, data: bytes, *, end: bool = False) -> Any:
        return await self.stream(opening(protocol) + data, end=end)

    async def hello(self, **changes: Any) -> None:
        words = {"version": 1, "network_tag": TAG, "moniker": "mallory"} | changes
        await self.speak(HELLO_PROTOCOL, encode_frame(encode_hello(Hello(**words))))
        await until(lambda: self.id in self.victim.network.connected_peers())

    @property
    def id(self) -> str:
        return identity(15).peer_id

    @property
    def score(self) -> int:
        return int(self.victim.info(self.id).score)

    @property
    def is_cut_off(self) -> bool:
        return bool(self.connection.event_shutting_down.is_set())


@asynccontextmanager
async def attacker(victim: Node, number: int = 15) -> AsyncIterator[Attacker]:
    """Connect a stranger to the victim without saying hello."""
    host = build_host(identity(number), addresses=tuple)
    swarm = host.get_network()
    async with background_trio_service(swarm):
        socket = await dial(victim.network._listener.addresses[0])
        opened = await swarm.upgrade_outbound_raw_conn(
            RawConnection(socket, True), ID.from_base58(victim.id)
        )
        yield Attacker(opened.muxed_conn, victim)
        await socket.abort()


Attack = Callable[[Attacker], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.strip("_")] = function
    return function


def rpc(**fields: Any) -> bytes:
    return encode_varint_prefixed(rpc_pb2.RPC(**fields).SerializeToString())


def message(**fields: Any) -> bytes:
    honest = {
        "data": b"x",
        "topicIDs": [f"/omninode/orders/1/{TAG}"],
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
    await until(lambda: mallory.score < 0)


@attack
async def _mesh_bad_varint(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, b"\xff" * 20)
    await until(lambda: mallory.score < 0)


@attack
async def _mesh_length_of_two_gigabytes(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, b"\xff\xff\xff\xff\x07")
    await until(lambda: mallory.score < 0)


@attack
async def _mesh_message_with_garbage_key(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, message(key=b"garbage"))
    await until(lambda: mallory.score < 0)


@attack
async def _mesh_message_with_garbage_origin(mallory: Attacker) -> None:
    await mallory.hello()
    ids = (b"", b"\x00", os.urandom(5), b"\x00\x24\x08\x01\x12\x20" + b"\xff" * 32)
    for origin in ids:
        with suppress(BaseLibp2pError):
            await mallory.speak(MESH, message(from_id=origin))
    await until(lambda: mallory.score < 0 or mallory.is_cut_off)


@attack
async def _mesh_message_too_long(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(MESH, message(data=b"x" * 300_000))
    await until(lambda: mallory.score < 0)


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
    await until(lambda: mallory.score < 0)


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
        socket = await dial(mallory.victim.network._listener.addresses[0])
        with suppress(BaseLibp2pError):
            await socket.write(data)
        await socket.abort()


@attack
async def _raw_multistream_of_two_gigabytes(mallory: Attacker) -> None:
    socket = await dial(mallory.victim.network._listener.addresses[0])
    await socket.write(b"\xff\xff\xff\xff\x07" + b"x" * 100_000)
    with suppress(BaseLibp2pError):
        while await socket.read(1000):
            pass
    await socket.abort()


@attack
async def _garbage_instead_of_noise(mallory: Attacker) -> None:
    socket = await dial(mallory.victim.network._listener.addresses[0])
    await socket.write(opening("/noise") + struct.pack("!H", 100) + os.urandom(100))
    with suppress(BaseLibp2pError):
        while await socket.read(1000):
            pass
    await socket.abort()


@attack
async def _random_bytes_inside_noise(mallory: Attacker) -> None:
    await mallory.connection.secured_conn.write(os.urandom(500))


@attack
async def _broken_noise_message(mallory: Attacker) -> None:
    await mallory.connection.socket.write(struct.pack("!H", 64) + os.urandom(64))
    await until(lambda: mallory.is_cut_off)


@attack
async def _yamux_frame_of_two_gigabytes(mallory: Attacker) -> None:
    header = struct.pack("!BBHII", 0, 0, 1, 99, 0x7FFFFFFF)
    await mallory.connection.secured_conn.write(header)
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
            await mallory.connection.secured_conn.write(header)


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
    server = mallory.victim.network._sessions.of_connection
    for one in mallory.victim.network._sessions.all():
        assert server(one.connection) is one
        assert one.connection.inbound_streams <= 32


# --- Naming protocols ----------------------------------------------------------------------------


@attack
async def _unknown_protocol(mallory: Attacker) -> None:
    await mallory.speak("/no/such", b"")


@attack
async def _unknown_version(mallory: Attacker) -> None:
    await mallory.hello()
    for name in ("hello", "vote", "data", "ask"):
        stream = await mallory.speak(f"/omninode/{name}/2", encode_frame(b"x"))
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
    await until(lambda: mallory.score < 0)


@attack
async def _hello_of_two_gigabytes(mallory: Attacker) -> None:
    await mallory.speak(HELLO_PROTOCOL, TWO_GIGABYTES)
    await until(lambda: mallory.score < 0)


@attack
async def _hello_with_an_unknown_field_or_version(mallory: Attacker) -> None:
    stream = await mallory.speak(HELLO_PROTOCOL, encode_frame(encode([0, 1, TAG, "m", 5])))
    await until(lambda: mallory.score < 0)
    await stream.reset()
    bad = encode_hello(Hello(2, TAG, "m"))
    await mallory.speak(HELLO_PROTOCOL, encode_frame(bad))


@attack
async def _hello_twice(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(HELLO_PROTOCOL, encode_frame(encode_hello(Hello(1, TAG, "again"))))
    await until(lambda: mallory.score < 0)


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
    assert not any(sender == mallory.id for sender, _ in mallory.victim.frames[Plane.VOTE])


@attack
async def _planes_before_the_hello(mallory: Attacker) -> None:
    for plane in Plane:
        await mallory.speak(plane.value, encode_frame(b"vote"))


@attack
async def _request_of_two_gigabytes(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(ASK, TWO_GIGABYTES)
    await until(lambda: mallory.score < 0)


@attack
async def _request_garbage(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(ASK, encode_frame(os.urandom(100)))
    await until(lambda: mallory.score < 0)


@attack
async def _request_twice_on_a_stream(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(ASK, encode_frame(b"ok") * 2)
    await until(lambda: mallory.score < 0)


@attack
async def _request_half_open(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(ASK, b"\x00\x00\x00\x09half")
    await until(lambda: mallory.score < 0)


@attack
async def _request_that_breaks_the_handler(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(ASK, encode_frame(b"break"))
    await until(lambda: mallory.score < 0)


@attack
async def _request_whose_answer_is_never_read(mallory: Attacker) -> None:
    await mallory.hello()
    for _ in range(20):
        with suppress(BaseLibp2pError):
            await mallory.speak(ASK, encode_frame(b"much"))


async def _handle(_peer: str, request: bytes) -> bytes:
    if request == b"break":
        raise ZeroDivisionError
    if request == b"much":
        return b"x" * 1_000_000
    if request != b"ok":
        raise Malformed("no request")
    return b"fine"


async def _hear(_origin: str, _data: bytes) -> None:
    pass


def _ask(node: Node) -> None:
    node.network.on_request(ASK, _handle, max_request_bytes=1000, max_response_bytes=1_000_000)


@pytest.mark.parametrize("name", sorted(ATTACKS))
async def test_the_node_survives(name: str, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, constant in (
        (handshakes, "HANDSHAKE_TIMEOUT_MS"),
        (session, "HELLO_TIMEOUT_MS"),
        (serving, "HELLO_TIMEOUT_MS"),
        (net_requests, "REQUEST_READ_TIMEOUT_MS"),
        (serving, "REQUEST_ANSWER_TIMEOUT_MS"),
        (serving, "PLANE_WAIT_MS"),
    ):
        monkeypatch.setattr(module, constant, 500)
    victim, honest = await net.pair()
    _ask(victim)
    _ask(honest)
    victim.network.subscribe("orders", _hear)
    async with attacker(victim) as mallory:
        await ATTACKS[name](mallory)
        # The same connection again: whatever is left of it may be used for more rubbish.
        honest.network.send(victim.id, Plane.VOTE, b"vote")
        await until(lambda: (honest.id, b"vote") in victim.frames[Plane.VOTE])
    assert await honest.network.request(victim.id, ASK, b"ok", timeout_ms=5000) == b"fine"
    assert victim.info(honest).score == 0
    assert victim.network._gossip.restarts == 0
    newcomer = await net.start(5, dials=(victim,))
    await until(lambda: victim.knows(newcomer))


async def test_rubbish_again_and_again_ends_in_a_ban(net: Net) -> None:
    victim = await net.start(1)
    for _ in range(10):
        with suppress(BaseLibp2pError, BaseExceptionGroup, OSError):
            async with attacker(victim) as mallory:
                await mallory.speak(HELLO_PROTOCOL, TWO_GIGABYTES)
                await until(lambda mallory=mallory: mallory.is_cut_off)
        if victim.info(identity(15).peer_id).banned_until_ms:
            break
    assert victim.info(identity(15).peer_id).banned_until_ms > 0
    async with attacker(victim) as mallory:
        await until(lambda: mallory.is_cut_off)


async def test_connections_that_come_and_go_use_nothing_up(net: Net) -> None:
    victim = await net.start(1, connections_max=8)
    for _ in range(40):
        async with attacker(victim) as mallory:
            await mallory.hello()
        await until(lambda: not victim.network._sessions.all())
    assert not victim.network._admission._strangers
    assert not victim.network._admission._handshakes
    swarm: Any = victim.network._host.get_network()
    await until(lambda: not swarm.connections)


async def test_a_frame_beyond_the_window_ends_the_connection_not_the_memory() -> None:
    class Connection:
        stream_buffers: dict[int, bytearray] = {}  # noqa: RUF012 - as Yamux has it

    connection: Any = Connection()
    stream = hardening.GuardedYamuxStream(1, connection, False)
    stream.recv_window -= hardening.STREAM_WINDOW_BYTES
    with pytest.raises(hardening.WindowExceeded):
        stream.recv_window -= 1


def test_another_version_of_libp2p_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from omninode.errors import BrokenInvariant

    monkeypatch.setattr(hardening, "LIBP2P_VERSION", "0.9.0")
    with pytest.raises(BrokenInvariant, match=r"tested with 0\.9\.0 only"):
        hardening.apply()
