"""A peer that writes whatever it likes to a node, in this process or another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from network_world import TAG, Node, until
from omninode.node.net.framing import encode_frame
from omninode.node.net.hello import HELLO_PROTOCOL, Hello, encode_hello
from omninode.node.net.host import build_host
from omninode.node.net.identity import NodeIdentity
from omninode.node.net.negotiation import opening
from omninode.node.net.settings import TcpAddress
from omninode.node.net.transport import dial

MESH = "/meshsub/1.1.0"
ASK = "/omninode/ask/1"
"""A request protocol for tests within one process."""
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


class LocalVictim:
    """A network of this process under attack."""

    tag = TAG
    topic = f"/omninode/orders/1/{TAG}"
    ask = ASK
    question = b"ok"
    news = b"old"

    def __init__(self, node: Node) -> None:
        self.node = node
        self.id = node.id

    @property
    def tcp(self) -> TcpAddress:
        return self.node.network._listener.addresses[0]

    def has_let_in(self, peer: str) -> bool:
        return peer in self.node.network.connected_peers()

    def score_of(self, peer: str) -> int:
        return int(self.node.info(peer).score)


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
