"""GossipSub 1.1 for what everyone may hear: order flow outside the validator mesh, chat, news.

Rules
    G1. Gossip is lossy: a message may be dropped at any queue. What must arrive is asked for.
    G2. Topic names carry the network's tag, so two networks never share a topic.
    G3. If libp2p's pubsub fails, it is started again; the connections stay.

How messages of peers are read and judged is in `pubsub.py`.
"""

from __future__ import annotations

from contextlib import suppress

import structlog
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service

from omninode.errors import BrokenInvariant, PeerFault
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    GOSSIP_MESSAGE_BYTES_MAX,
    GOSSIP_PUBLISH_QUEUE_MAX,
    GOSSIP_RESTART_DELAY_MS,
    GOSSIP_TOPICS_MAX,
    GOSSIP_WATCH_INTERVAL_MS,
)
from omninode.node.net.pubsub import GossipNetwork, JudgingPubsub, Subscription
from omninode.node.net.router import BoundedRouter
from omninode.node.net.session import first_of
from omninode.node.net.settings import FrameHandler, MessageCheck


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
        self._spoken: set[str] = set()
        self._outbox, self._outgoing = trio.open_memory_channel[tuple[str, bytes]](
            GOSSIP_PUBLISH_QUEUE_MAX
        )
        self._changed = trio.Event()
        self._pubsub: JudgingPubsub | None = None
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

    def speak(self, topic: str) -> None:
        """Learn from now on who hears a topic, to which this node only publishes."""
        self._spoken.add(self.topic_name(topic))

    def has_listeners(self, topic: str) -> bool:
        """Say whether a connected peer hears a topic."""
        if self._pubsub is None:
            return False
        return bool(self._pubsub.peer_topics.get(self.topic_name(topic)))

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
        """Keep the pubsub service alive until cancelled (G3)."""
        while True:
            try:
                await self._run_once()
            except* Exception as group:  # noqa: BLE001 - G3
                self.restarts += 1
                self._log.error("gossip failed, starting it again", error=repr(first_of(group)))
            self._pubsub = None
            await trio.sleep(GOSSIP_RESTART_DELAY_MS / 1000)

    async def _run_once(self) -> None:
        router = BoundedRouter(lambda peer: self._network.is_favoured(peer.to_base58()))
        pubsub = JudgingPubsub(self._host, router, self._network, self._subscriptions)
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

    async def _publish_all(self, pubsub: JudgingPubsub) -> None:
        async for name, data in self._outgoing:
            await pubsub.publish(name, data)

    async def _watch(
        self, pubsub: JudgingPubsub, router: BoundedRouter, nursery: trio.Nursery
    ) -> None:
        """Join new topics, and give every peer its stream; libp2p forgets some after flaps."""
        joined: set[str] = set()
        pubsub.allowed_topics = frozenset(self._spoken)
        while True:
            self._changed = trio.Event()
            for subscription in tuple(self._subscriptions.values()):
                if subscription.topic not in joined:
                    joined.add(subscription.topic)
                    pubsub.allowed_topics = frozenset(joined | self._spoken)
                    nursery.start_soon(self._hear, pubsub, subscription)
            for peer in self._network.ready_peers():
                pubsub.begin_stream(ID.from_base58(peer), nursery)
            # The first grows by one entry a message for ever while adaptive gossip is off; the
            # second keeps whole messages, to notice what the cache of seen ids notices too.
            router.recent_message_deliveries.clear()
            router.equivocation_detection.clear()
            with trio.move_on_after(GOSSIP_WATCH_INTERVAL_MS / 1000):
                await self._changed.wait()

    async def _hear(self, pubsub: JudgingPubsub, subscription: Subscription) -> None:
        """Join a topic, and have this node's own messages handled; those of others were (J1)."""
        channel = await pubsub.subscribe(subscription.topic)
        while True:
            message = await channel.get()
            author = ID(message.from_id).to_base58()
            with suppress(PeerFault):
                await self._network.call(subscription.handler, author, message.data)
