"""libp2p's GossipSub with reading, judging and stream-keeping of our own.

Rules
    J1. A message is judged before it is passed on: size, signature, the topic's own check, and then
        its handler. The peer that forwarded a bad one pays, since it should have noticed: the name
        of an author costs nothing. So what is judged must not depend on what a node knows.
    J2. One peer's messages are handled in order and at a bounded rate, those of all strangers
        together too; beyond it streams are read more slowly, so TCP slows the senders.
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
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator
from typing_extensions import override

from omninode.errors import PeerFault
from omninode.node.net.allowance import Allowance
from omninode.node.net.framing import VarintFrameDecoder
from omninode.node.net.hardening import reset_quietly
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    GOSSIP_MESSAGE_BYTES_MAX,
    GOSSIP_MESSAGE_UNIT_BYTES,
    GOSSIP_MESSAGES_BURST,
    GOSSIP_MESSAGES_PER_S,
    GOSSIP_RPC_BYTES_MAX,
    GOSSIP_STRANGERS_PER_S,
    GOSSIP_TOPICS_MAX,
    GOSSIP_WATCH_INTERVAL_MS,
    PENALTY_MALFORMED,
    PENALTY_OVERSIZED,
    STREAM_READ_BYTES,
)
from omninode.node.net.router import BoundedRouter
from omninode.node.net.settings import FrameHandler, MessageCheck

_SEEN_S: Final = 120


class GossipNetwork:
    """What gossip needs of the network around it.

    Args:
        peer_of: Waits for a stream's peer to be let in; None if it is not.
        fault: Makes a peer pay.
        call: Calls a handler; what it raises is a `PeerFault` then.
        is_favoured: Whether a peer is more than a stranger.
        ready_peers: The peers that are let in now.
    """

    def __init__(
        self,
        *,
        peer_of: Callable[[INetStream], Awaitable[PeerId | None]],
        fault: Callable[[PeerId, PeerFault], None],
        call: Callable[[FrameHandler, PeerId, bytes], Awaitable[object]],
        is_favoured: Callable[[PeerId], bool],
        ready_peers: Callable[[], tuple[PeerId, ...]],
    ) -> None:
        self.peer_of = peer_of
        self.fault = fault
        self.call = call
        self.is_favoured = is_favoured
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
        router: BoundedRouter,
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
        self._bounded = router
        self._network = network
        self._strangers = Allowance(GOSSIP_STRANGERS_PER_S, burst=GOSSIP_STRANGERS_PER_S)
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
        allowance = Allowance(GOSSIP_MESSAGES_PER_S, burst=GOSSIP_MESSAGES_BURST)
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

    async def _take_rpc(self, peer: ID, raw: bytes, allowance: Allowance) -> None:
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
            await self._spend(peer, allowance, 1 + len(message.data) // GOSSIP_MESSAGE_UNIT_BYTES)
            if self._is_subscribed_to_msg(message):
                await self.push_msg(peer, message)
        if len(rpc.subscriptions) > self.max_subscriptions_per_rpc:
            raise PeerFault("bad_gossip", "too many subscriptions", penalty=PENALTY_OVERSIZED)
        await self._spend(peer, allowance, 1)
        try:
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer, subscription)
            if rpc.HasField("control"):
                rpc.control.CopyFrom(self._bounded.concerning(rpc.control, self._subscriptions))
                await self.router.handle_rpc(rpc, peer)
        except PeerFault:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            # libp2p reads ids and topics of strangers here; what it trips over is theirs.
            raise PeerFault("bad_gossip", repr(error), penalty=PENALTY_MALFORMED) from None

    async def _spend(self, peer: ID, allowance: Allowance, count: int) -> None:
        """Wait until a peer may send so many messages (J2)."""
        await allowance.spend(count)
        if not self._network.is_favoured(peer.to_base58()):
            await self._strangers.spend(count)

    @override
    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge a message and pass it on (J1)."""
        own = msg_forwarder == self.my_id
        if not own:
            if self._is_msg_seen(msg):
                return
            self._judge(msg_forwarder, msg)
        self._mark_msg_seen(msg)
        if own:
            self.notify_subscriptions(msg)
        elif msg.from_id == self.my_id.to_bytes() or not await self._is_good(msg):
            return
        await self.router.publish(msg_forwarder, msg)

    async def _is_good(self, message: rpc_pb2.Message) -> bool:
        """Have a message handled; say whether to pass it on (J1)."""
        subscription = self._subscriptions.get(message.topicIDs[0])
        if subscription is None:
            return False
        author = ID(message.from_id).to_base58()
        return await self._network.call(subscription.handler, author, message.data) is not False

    def _judge(self, forwarder: ID, message: rpc_pb2.Message) -> None:
        if len(message.data) > GOSSIP_MESSAGE_BYTES_MAX:
            raise PeerFault("bad_gossip", "message too long", penalty=PENALTY_OVERSIZED)
        if len(message.topicIDs) != 1:
            # libp2p keeps a record for every topic, also for those that a peer invents.
            raise PeerFault("bad_gossip", "not one topic", penalty=PENALTY_MALFORMED)
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
