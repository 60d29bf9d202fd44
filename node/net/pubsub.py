"""libp2p's GossipSub with reading, judging and stream-keeping of our own.

Rules
    J1. A message is judged before it is passed on: size, signature, then the topic's own check. The
        peer that forwarded a bad one pays.
    J2. One peer's messages are handled in order and at a bounded rate; beyond it the stream is read
        more slowly, so TCP slows the sender.
    J3. A peer gets its stream after the hello, and a new one when it has ended the old.

Settings that matter (libp2p 0.8.1): sequence numbers start at the clock in nanoseconds, or a
restarted node repeats itself and is ignored; its spam protection would drop beyond 10 messages a
second; the default heartbeat is two minutes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

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
from typing_extensions import override

from omninode.errors import PeerFault
from omninode.node.net.framing import VarintFrameDecoder
from omninode.node.net.hardening import reset_quietly
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    GOSSIP_DELIVERY_QUEUE_MAX,
    GOSSIP_MESSAGE_BYTES_MAX,
    GOSSIP_MESSAGES_BURST,
    GOSSIP_MESSAGES_PER_S,
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
    """What gossip needs of the network around it.

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


class JudgingPubsub(Pubsub):
    """libp2p's pubsub with reading, judging and stream-keeping of our own (J1 to J3)."""

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
        """Judge a message and pass it on (J1)."""
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
    """How many messages a peer may send before it has to wait (J2)."""

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


def new_router() -> GossipSub:
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
