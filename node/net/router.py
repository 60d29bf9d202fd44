"""libp2p's GossipSub router with bounds: on memory, on what a peer may ask of it, on who fills it.

Rules
    O1. Queues and caches are bounded in bytes. libp2p counts messages, which may be long.
    O2. Of a peer's control messages only what can concern this node is acted on: topics that it
        hears, ids once each, answers of bounded length. libp2p keeps a record for every topic that
        a peer invents, and sends a message as often as its id is repeated.
    O3. Strangers never take all places of a topic's mesh: some are left for validators.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

from libp2p.peer.id import ID
from libp2p.pubsub import pubsub as libp2p_pubsub
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.utils import safe_bytes_from_hex
from typing_extensions import override

from omninode.errors import PeerFault
from omninode.node.net.limits import (
    GOSSIP_ANSWER_BYTES_MAX,
    GOSSIP_CACHE_BYTES_MAX,
    GOSSIP_CONTROL_IDS_MAX,
    GOSSIP_DELIVERY_QUEUE_MAX,
    GOSSIP_PENDING_MAX,
    GOSSIP_SENDER_QUEUE_BYTES_MAX,
    GOSSIP_SENDER_QUEUE_MAX,
    GOSSIP_TOPICS_MAX,
    PENALTY_OVERSIZED,
)

DEGREE: Final = 6
DEGREE_LOW: Final = 4
DEGREE_HIGH: Final = 12
STRANGERS_MAX: Final = DEGREE_HIGH - DEGREE_LOW
"""Places in a topic's mesh that strangers may take (O3)."""
_HEARTBEAT_S: Final = 1
_WINDOW: Final = 3
_HISTORY: Final = 5


class BoundedQueue(RpcQueue):
    """What waits for one peer, bounded in bytes too (O1)."""

    def __init__(self) -> None:
        super().__init__(GOSSIP_SENDER_QUEUE_MAX)
        self._bytes = 0

    @override
    def push(self, rpc: rpc_pb2.RPC, priority: bool = False) -> bool:
        """Queue an RPC; False if there is no room."""
        size = rpc.ByteSize()
        if self._bytes + size > GOSSIP_SENDER_QUEUE_BYTES_MAX or not super().push(rpc, priority):
            return False
        self._bytes += size
        return True

    @override
    async def pop(self) -> rpc_pb2.RPC | None:
        """Wait for the next RPC; None at the end."""
        rpc = await super().pop()
        if rpc is not None:
            self._bytes -= rpc.ByteSize()
        return rpc


class BoundedCache(MessageCache):
    """The messages of the last heartbeats, for who missed them, bounded in bytes (O1)."""

    def __init__(self) -> None:
        super().__init__(_WINDOW, _HISTORY)
        self._bytes = 0

    @override
    def put(self, msg: rpc_pb2.Message) -> None:
        """Keep a message, unless there is too much already."""
        if self._bytes < GOSSIP_CACHE_BYTES_MAX:
            self._bytes += len(msg.data)
            super().put(msg)

    @override
    def shift(self) -> None:
        """Forget the oldest heartbeat's messages."""
        super().shift()
        self._bytes = sum(len(kept.data) for kept in self.msgs.values())


class BoundedRouter(GossipSub):
    """GossipSub 1.1 with O1 to O3.

    Args:
        is_favoured: Whether a peer is more than a stranger (O3).
    """

    def __init__(self, is_favoured: Callable[[ID], bool]) -> None:
        # What a pubsub makes for itself and takes no argument for.
        libp2p_pubsub.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_DELIVERY_QUEUE_MAX
        libp2p_pubsub.RpcQueue = BoundedQueue  # type: ignore[attr-defined, assignment]
        super().__init__(
            [PROTOCOL_ID_V11],
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            gossip_window=_WINDOW,
            gossip_history=_HISTORY,
            heartbeat_initial_delay=0.1,
            heartbeat_interval=_HEARTBEAT_S,
            max_pending_messages_per_peer=GOSSIP_PENDING_MAX,
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.mcache = BoundedCache()
        self._is_favoured = is_favoured

    @override
    async def handle_graft(self, graft_msg: rpc_pb2.ControlGraft, sender_peer_id: ID) -> None:
        """Take a peer into a mesh, unless it is a stranger and enough are in it (O3)."""
        members = self.mesh.get(graft_msg.topicID, set())
        if sender_peer_id not in members and not self._is_favoured(sender_peer_id):
            strangers = sum(not self._is_favoured(member) for member in members)
            if strangers >= STRANGERS_MAX:
                await self.emit_prune(
                    graft_msg.topicID, sender_peer_id, do_px=False, is_unsubscribe=False
                )
                return
        await super().handle_graft(graft_msg, sender_peer_id)

    @override
    def _select_peers_for_pruning(self, topic: str, num_to_prune: int) -> list[ID]:
        """Choose who leaves a mesh that is too large: strangers first, at random (O3)."""
        members = super()._select_peers_for_pruning(topic, len(self.mesh.get(topic, ())))
        return sorted(members, key=self._is_favoured)[:num_to_prune]

    def concerning(
        self, control: rpc_pb2.ControlMessage, topics: Container[str]
    ) -> rpc_pb2.ControlMessage:
        """Return what of a control message is to be acted on (O2).

        Raises:
            PeerFault: It is longer than any honest one.
        """
        ids = sum(len(one.messageIDs) for one in control.ihave)
        ids += sum(len(one.messageIDs) for one in control.iwant)
        entries = len(control.graft) + len(control.prune) + len(control.ihave)
        if ids > GOSSIP_CONTROL_IDS_MAX or entries > 3 * GOSSIP_TOPICS_MAX:
            raise PeerFault("bad_gossip", "control message too long", penalty=PENALTY_OVERSIZED)
        kept = rpc_pb2.ControlMessage()
        kept.graft.extend(one for one in control.graft if one.topicID in topics)
        kept.ihave.extend(one for one in control.ihave if one.topicID in topics)
        for prune in control.prune:
            if prune.topicID in topics:
                # Whom else to dial is not for this peer to say.
                kept.prune.add(topicID=prune.topicID, backoff=prune.backoff)
        wanted = self._wanted(control)
        if wanted:
            kept.iwant.add(messageIDs=wanted)
        return kept

    def _wanted(self, control: rpc_pb2.ControlMessage) -> list[bytes]:
        """Return the ids of messages that this node has, once each, up to a bound (O2)."""
        wanted: list[bytes] = []
        size = 0
        for wire_id in dict.fromkeys(
            wire_id for one in control.iwant for wire_id in one.messageIDs
        ):
            message = self.mcache.get(safe_bytes_from_hex(wire_id) or b"")
            if message is not None:
                size += len(message.data)
                if size > GOSSIP_ANSWER_BYTES_MAX:
                    break
                wanted.append(wire_id)
        return wanted
