"""GossipSub 1.1 for what everyone may hear: order flow outside the validator mesh, chat, news.

Rules
    G1. Gossip is lossy: a message may be dropped at any queue. What must arrive is asked for.
    G2. Topic names carry the network's tag, so two networks never share a topic.
    G3. A message is judged before it is passed on: size, signature, then the topic's own check. The
        peer that forwarded a bad one pays.
    G4. One peer's messages are handled in order and at a bounded rate; beyond it the stream is read
        more slowly, so TCP slows the sender.
    G5. If libp2p's pubsub fails, it is started again; the connections stay.

Settings that matter (libp2p 0.8.1): sequence numbers start at the clock in nanoseconds, or a
restarted node repeats itself and is ignored; its spam protection would drop beyond 10 messages a
second; the default heartbeat is two minutes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.pubsub import pubsub as libp2p_pubsub
from libp2p.pubsub import rpc_queue
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator
from libp2p.tools.anyio_service import background_trio_service
from typing_extensions import override

from omninode.errors import BrokenInvariant, PeerFault
from omninode.node.net.framing import VarintFrameDecoder
from omninode.node.net.hardening import reset_quietly
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    GOSSIP_DELIVERY_QUEUE_MAX,
    GOSSIP_MESSAGE_BYTES_MAX,
    GOSSIP_MESSAGES_BURST,
    GOSSIP_MESSAGES_PER_S,
    GOSSIP_PUBLISH_QUEUE_MAX,
    GOSSIP_RESTART_DELAY_MS,
    GOSSIP_RPC_BYTES_MAX,
    GOSSIP_SENDER_QUEUE_MAX,
    GOSSIP_TOPICS_MAX,
    GOSSIP_WATCH_INTERVAL_MS,
    PENALTY_MALFORMED,
    PENALTY_OVERSIZED,
    STREAM_READ_BYTES,
)
from omninode.node.net.settings import FrameHandler, MessageCheck

_DEGREE: Final = 6
_DEGREE_LOW: Final = 4
_DEGREE_HIGH: Final = 12
_HEARTBEAT_S: Final = 1
_SEEN_S: Final = 120


class GossipNetwork:
    """What the relay needs of the network around it.

    Args:
        peer_of: Waits for a stream's peer to be let in; None if it is not.
        fault: Makes a peer pay.
        deliver: Calls a handler and makes the peer pay for what it raises.
        ready_peers: The peers that are let in now.
    """

    def __init__(
        self,
        *,
        peer_of: Callable[[INetStream], Awaitable[PeerId | None]],
        fault: Callable[[PeerId, PeerFault], None],
        deliver: Callable[[FrameHandler, PeerId, bytes], Awaitable[None]],
        ready_peers: Callable[[], tuple[PeerId, ...]],
    ) -> None:
        self.peer_of = peer_of
        self.fault = fault
        self.deliver = deliver
        self.ready_peers = ready_peers


@dataclass(frozen=True)
class Subscription:
    """A topic this node hears."""

    topic: str
    handler: FrameHandler
    check: MessageCheck


class GossipRelay:
    """Publishes, hears and passes on.

    Args:
        host: The libp2p host.
        network_tag: Goes into topic names (G2).
        network: What the relay needs of the network.
        log: Where to say what happened.
    """

    def __init__(
        self,
        host: BasicHost,
        *,
        network_tag: str,
        network: GossipNetwork,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._host = host
        self._tag = network_tag
        self._network = network
        self._log = log
        self._subscriptions: dict[str, Subscription] = {}
        self._outbox, self._outgoing = trio.open_memory_channel[tuple[str, bytes]](
            GOSSIP_PUBLISH_QUEUE_MAX
        )
        self._changed = trio.Event()
        self._pubsub: _Pubsub | None = None
        self.restarts = 0

    def topic_name(self, topic: str) -> str:
        """Return the name of a topic among peers (G2)."""
        return f"/omninode/{topic}/1/{self._tag}"

    def publish(self, topic: str, data: bytes) -> bool:
        """Queue a message for everyone; False if it is too long or the queue is full (G1)."""
        if len(data) > GOSSIP_MESSAGE_BYTES_MAX:
            return False
        try:
            self._outbox.send_nowait((self.topic_name(topic), data))
        except trio.WouldBlock:
            return False
        return True

    def subscribe(self, topic: str, handler: FrameHandler, check: MessageCheck) -> None:
        """Hear a topic from now on.

        Raises:
            BrokenInvariant: The topic is taken, or there are too many.
        """
        name = self.topic_name(topic)
        if name in self._subscriptions or len(self._subscriptions) >= GOSSIP_TOPICS_MAX:
            raise BrokenInvariant(f"can not subscribe to {name}")
        self._subscriptions[name] = Subscription(name, handler, check)
        self._changed.set()

    def mesh_size(self, topic: str) -> int:
        """Return how many peers this node exchanges a topic with."""
        router = self._pubsub.router if self._pubsub is not None else None
        return len(router.mesh.get(self.topic_name(topic), ())) if router is not None else 0

    def peer_ready(self) -> None:
        """Note that a peer was let in: it gets its gossip stream now."""
        self._changed.set()

    def peer_gone(self, peer: PeerId) -> None:
        """Note that a connection to a peer ended."""
        if self._pubsub is not None:
            self._pubsub.drop(ID.from_base58(peer))
        self._changed.set()

    async def run(self) -> None:
        """Keep the pubsub service alive until cancelled (G5)."""
        while True:
            try:
                await self._run_once()
            except* Exception as group:  # noqa: BLE001 - G5
                self.restarts += 1
                self._log.error("gossip failed, starting it again", error=_first_error(group))
            self._pubsub = None
            await trio.sleep(GOSSIP_RESTART_DELAY_MS / 1000)

    async def _run_once(self) -> None:
        router = _new_router()
        pubsub = _Pubsub(self._host, router, self._network, self._subscriptions)
        async with (
            background_trio_service(pubsub),
            background_trio_service(router),
            trio.open_nursery() as nursery,
        ):
            await pubsub.wait_until_ready()
            self._pubsub = pubsub
            nursery.start_soon(self._publish_all, pubsub)
            try:
                await self._watch(pubsub, router, nursery)
            finally:
                await pubsub.end_streams()

    async def _publish_all(self, pubsub: _Pubsub) -> None:
        async for name, data in self._outgoing:
            await pubsub.publish(name, data)

    async def _watch(self, pubsub: _Pubsub, router: GossipSub, nursery: trio.Nursery) -> None:
        """Join new topics, and give every peer its stream; libp2p forgets some after flaps."""
        joined: set[str] = set()
        while True:
            self._changed = trio.Event()
            for subscription in tuple(self._subscriptions.values()):
                if subscription.topic not in joined:
                    joined.add(subscription.topic)
                    pubsub.allowed_topics = frozenset(joined)
                    nursery.start_soon(self._hear, pubsub, subscription)
            for peer in self._network.ready_peers():
                pubsub.begin_stream(ID.from_base58(peer), nursery)
            # The first grows by one entry a message for ever while adaptive gossip is off; the
            # second keeps whole messages, to notice what the cache of seen ids notices too.
            router.recent_message_deliveries.clear()
            router.equivocation_detection.clear()
            with trio.move_on_after(GOSSIP_WATCH_INTERVAL_MS / 1000):
                await self._changed.wait()

    async def _hear(self, pubsub: _Pubsub, subscription: Subscription) -> None:
        channel = await pubsub.subscribe(subscription.topic)
        while True:
            message = await channel.get()
            origin = ID(message.from_id).to_base58()
            await self._network.deliver(subscription.handler, origin, message.data)


class _Pubsub(Pubsub):
    """libp2p's pubsub with reading, judging and stream-keeping of our own (G3, G4)."""

    def __init__(
        self,
        host: BasicHost,
        router: GossipSub,
        network: GossipNetwork,
        subscriptions: dict[str, Subscription],
    ) -> None:
        swarm: Any = host.get_network()
        notifees = list(swarm.notifees)
        super().__init__(
            host,
            router,
            strict_signing=True,
            seen_ttl=_SEEN_S,
            max_inbound_rpc_size=GOSSIP_RPC_BYTES_MAX,
            max_subscriptions_per_peer=GOSSIP_TOPICS_MAX,
            max_subscriptions_per_rpc=GOSSIP_TOPICS_MAX,
            allowed_topics=frozenset(),
        )
        # The network says who came and went; libp2p's own notices do not know about the hello.
        swarm.notifees = notifees
        self.counter = time.time_ns()
        self._network = network
        self._subscriptions = subscriptions
        self._opening: set[ID] = set()
        self._inbound: set[INetStream] = set()

    def begin_stream(self, peer: ID, nursery: trio.Nursery) -> None:
        """Open the stream to a peer in the background, unless there is a living one."""
        stream: Any = self.peers.get(peer)
        if stream is not None and stream.muxed_stream.closed:
            # The peer reset it. libp2p would notice when it next writes, and lose what it wrote.
            self.drop(peer)
        if peer not in self.peers and peer not in self._opening:
            self._opening.add(peer)
            nursery.start_soon(self._open_stream, peer)

    async def _open_stream(self, peer: ID) -> None:
        try:
            await self.ensure_peer_stream(peer, GOSSIP_WATCH_INTERVAL_MS / 1000)
        finally:
            self._opening.discard(peer)

    async def end_streams(self) -> None:
        """Reset what peers opened towards this service, so that they begin anew with the next."""
        with trio.CancelScope(shield=True):
            for stream in tuple(self._inbound):
                await reset_quietly(stream)

    def drop(self, peer: ID) -> None:
        """Forget a peer whose connection ended."""
        self._handle_dead_peer(peer)

    @override
    def _schedule_peer_stream_retry(self, peer_id: ID) -> None:
        """Leave it to the watch, which also knows whether the peer is let in."""

    @override
    async def stream_handler(self, stream: INetStream) -> None:
        """Read what a peer gossips until its stream ends."""
        peer = await self._network.peer_of(stream)
        if peer is None:
            await reset_quietly(stream)
            return
        peer_id = ID.from_base58(peer)
        decoder = VarintFrameDecoder(GOSSIP_RPC_BYTES_MAX)
        allowance = _Allowance()
        muxed: Any = stream
        self._inbound.add(stream)
        try:
            while self.manager.is_running:
                data = await muxed.muxed_stream.read(STREAM_READ_BYTES)
                for raw in decoder.feed(data):
                    await self._take_rpc(peer_id, raw, allowance)
        except PeerFault as fault:
            await reset_quietly(stream)
            self._network.fault(peer, fault)
        except BaseLibp2pError:
            # The stream or its connection ended.
            return
        finally:
            self._inbound.discard(stream)

    async def _take_rpc(self, peer: ID, raw: bytes, allowance: _Allowance) -> None:
        """Handle one RPC of a peer.

        Raises:
            PeerFault: It is malformed, or a message in it is bad.
        """
        rpc = rpc_pb2.RPC()
        try:
            rpc.ParseFromString(raw)
        except DecodeError as error:
            raise PeerFault("bad_gossip", str(error), penalty=PENALTY_MALFORMED) from None
        # Signed address records: a fifth of the CPU to check, and nobody here reads them.
        rpc.ClearField("senderRecord")
        for message in rpc.publish:
            await allowance.spend()
            if self._is_subscribed_to_msg(message):
                await self.push_msg(peer, message)
        if len(rpc.subscriptions) > self.max_subscriptions_per_rpc:
            raise PeerFault("bad_gossip", "too many subscriptions", penalty=PENALTY_OVERSIZED)
        await allowance.spend()
        try:
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer, subscription)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer)
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            # libp2p reads ids and topics of strangers here; what it trips over is theirs.
            raise PeerFault("bad_gossip", repr(error), penalty=PENALTY_MALFORMED) from None

    @override
    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge a message and pass it on (G3)."""
        own = msg_forwarder == self.my_id
        if not own:
            if self._is_msg_seen(msg):
                return
            self._judge(msg_forwarder, msg)
        self._mark_msg_seen(msg)
        if not own and msg.from_id == self.my_id.to_bytes():
            return
        self.notify_subscriptions(msg)
        await self.router.publish(msg_forwarder, msg)

    def _judge(self, forwarder: ID, message: rpc_pb2.Message) -> None:
        if len(message.data) > GOSSIP_MESSAGE_BYTES_MAX:
            raise PeerFault("bad_gossip", "message too long", penalty=PENALTY_OVERSIZED)
        try:
            signed = len(message.seqno) == 8 and signature_validator(message)
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            # Keys and ids of strangers; libp2p raises whatever its decoders raise.
            raise PeerFault("bad_gossip", repr(error), penalty=PENALTY_MALFORMED) from None
        if not signed:
            raise PeerFault("bad_gossip", "bad signature", penalty=PENALTY_MALFORMED)
        peer = forwarder.to_base58()
        for topic in message.topicIDs:
            subscription = self._subscriptions.get(topic)
            if subscription is not None and not subscription.check(peer, message.data):
                raise PeerFault("bad_gossip", f"refused in {topic}", penalty=PENALTY_MALFORMED)


class _Allowance:
    """How many messages a peer may send before it has to wait (G4)."""

    def __init__(self) -> None:
        self._left = float(GOSSIP_MESSAGES_BURST)
        self._at = trio.current_time()

    async def spend(self) -> None:
        """Take one message from the allowance; sleep when there is none."""
        now = trio.current_time()
        self._left = min(
            GOSSIP_MESSAGES_BURST, self._left + (now - self._at) * GOSSIP_MESSAGES_PER_S
        )
        self._at = now
        self._left -= 1
        if self._left < 0:
            await trio.sleep(-self._left / GOSSIP_MESSAGES_PER_S)


def _new_router() -> GossipSub:
    """Return a router with queues that have room; must come before the pubsub that uses it."""
    libp2p_pubsub.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_DELIVERY_QUEUE_MAX
    rpc_queue.RpcQueue.__init__.__defaults__ = (
        GOSSIP_SENDER_QUEUE_MAX,
        rpc_queue.DefaultMaxMessageSize,
    )
    return GossipSub(
        [PROTOCOL_ID_V11],
        degree=_DEGREE,
        degree_low=_DEGREE_LOW,
        degree_high=_DEGREE_HIGH,
        heartbeat_initial_delay=0.1,
        heartbeat_interval=_HEARTBEAT_S,
        spam_protection_enabled=False,
        adaptive_gossip_enabled=False,
        eclipse_protection_enabled=False,
    )


def _first_error(group: BaseExceptionGroup[Any]) -> str:
    """Return one error of a group as text."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return repr(error)
