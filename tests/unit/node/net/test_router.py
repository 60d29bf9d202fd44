"""What a peer may make the gossip router keep, send and believe."""

from __future__ import annotations

import pytest
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from network_world import Net, Node, identity, until
from omninode.errors import Malformed, PeerFault
from omninode.node.net.limits import (
    GOSSIP_ANSWER_BYTES_MAX,
    GOSSIP_CACHE_BYTES_MAX,
    GOSSIP_CONTROL_IDS_MAX,
    GOSSIP_SENDER_QUEUE_BYTES_MAX,
    GOSSIP_SENDER_QUEUE_MAX,
)
from omninode.node.net.router import (
    DEGREE,
    DEGREE_HIGH,
    STRANGERS_MAX,
    BoundedCache,
    BoundedQueue,
    BoundedRouter,
)

TOPICS = {"t"}
FRIEND = ID.from_base58(identity(1).peer_id)


def _router() -> BoundedRouter:
    return BoundedRouter(lambda peer: peer == FRIEND)


def _message(number: int, data: bytes = b"x") -> rpc_pb2.Message:
    return rpc_pb2.Message(data=data, from_id=b"f", seqno=number.to_bytes(8, "big"), topicIDs=["t"])


def _id(message: rpc_pb2.Message) -> bytes:
    return bytes((message.from_id + message.seqno).hex().encode())


async def test_the_queue_to_a_peer_is_bounded_in_bytes() -> None:
    queue = BoundedQueue()
    rpc = rpc_pb2.RPC(publish=[_message(0, bytes(1_000_000))])
    taken = 0
    while queue.push(rpc):
        taken += 1
    assert taken == GOSSIP_SENDER_QUEUE_BYTES_MAX // rpc.ByteSize()
    assert await queue.pop() == rpc
    assert queue.push(rpc)
    assert not queue.push(rpc)


def test_the_queue_to_a_peer_is_bounded_in_number() -> None:
    queue = BoundedQueue()
    assert all(queue.push(rpc_pb2.RPC()) for _ in range(GOSSIP_SENDER_QUEUE_MAX))
    assert not queue.push(rpc_pb2.RPC())


def test_the_cache_of_messages_is_bounded_in_bytes_and_empties_with_time() -> None:
    cache = BoundedCache()
    for number in range(200):
        cache.put(_message(number, bytes(1_000_000)))
    kept = sum(len(message.data) for message in cache.msgs.values())
    assert GOSSIP_CACHE_BYTES_MAX <= kept < GOSSIP_CACHE_BYTES_MAX + 1_000_000
    for _ in range(5):
        cache.shift()
    assert not cache.msgs
    cache.put(_message(0))
    assert len(cache.msgs) == 1


def test_topics_that_nobody_here_hears_leave_no_trace() -> None:
    control = rpc_pb2.ControlMessage()
    for topic in ("t", "invented"):
        control.graft.add(topicID=topic)
        control.ihave.add(topicID=topic, messageIDs=[b"ab"])
        control.prune.add(topicID=topic, backoff=9).peers.add(peerID=b"dial me")
    control.idontwant.add().messageIDs.extend([b"ab"])
    kept = _router().concerning(control, TOPICS)
    assert [one.topicID for one in kept.graft] == ["t"]
    assert [one.topicID for one in kept.ihave] == ["t"]
    assert [(one.topicID, one.backoff, len(one.peers)) for one in kept.prune] == [("t", 9, 0)]
    assert not kept.idontwant


def test_an_id_asked_for_a_thousand_times_is_answered_once() -> None:
    router, message = _router(), _message(1)
    router.mcache.put(message)
    control = rpc_pb2.ControlMessage()
    for _ in range(10):
        control.iwant.add().messageIDs.extend([_id(message)] * 100 + [b"no such", b"\xff"])
    kept = router.concerning(control, TOPICS)
    assert [list(one.messageIDs) for one in kept.iwant] == [[_id(message)]]


def test_an_answer_is_bounded_in_bytes() -> None:
    router = _router()
    messages = [_message(number, bytes(100_000)) for number in range(20)]
    control = rpc_pb2.ControlMessage()
    for message in messages:
        router.mcache.put(message)
        control.iwant.add().messageIDs.append(_id(message))
    (kept,) = router.concerning(control, TOPICS).iwant
    assert len(kept.messageIDs) == GOSSIP_ANSWER_BYTES_MAX // 100_000


def test_a_control_message_beyond_all_measure_is_a_fault() -> None:
    control = rpc_pb2.ControlMessage()
    control.iwant.add().messageIDs.extend([b"ab"] * (GOSSIP_CONTROL_IDS_MAX + 1))
    with pytest.raises(PeerFault):
        _router().concerning(control, TOPICS)
    control = rpc_pb2.ControlMessage()
    for number in range(1_000):
        control.graft.add(topicID=str(number))
    with pytest.raises(PeerFault):
        _router().concerning(control, TOPICS)


async def test_strangers_leave_places_in_a_mesh_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    router = _router()
    pruned: list[ID] = []

    async def note(_topic: str, peer: ID, **_rest: bool) -> None:
        pruned.append(peer)

    monkeypatch.setattr(router, "emit_prune", note)
    monkeypatch.setattr(router, "_notify_mesh_peer_added", lambda _peer, _topic: None)
    router.mesh["t"] = set()
    strangers = [ID.from_base58(identity(number).peer_id) for number in range(2, 14)]
    for stranger in strangers:
        await router.handle_graft(rpc_pb2.ControlGraft(topicID="t"), stranger)
    assert router.mesh["t"] == set(strangers[:STRANGERS_MAX])
    assert pruned == strangers[STRANGERS_MAX:]
    await router.handle_graft(rpc_pb2.ControlGraft(topicID="t"), FRIEND)
    assert FRIEND in router.mesh["t"]


def test_a_mesh_that_is_too_large_loses_strangers_first() -> None:
    router = _router()
    strangers = [ID.from_base58(identity(number).peer_id) for number in range(2, 15)]
    router.mesh["t"] = {FRIEND, *strangers}
    for _ in range(20):
        leaving = router._select_peers_for_pruning("t", len(router.mesh["t"]) - DEGREE)
        assert len(leaving) == len(router.mesh["t"]) - DEGREE
        assert FRIEND not in leaving
    assert len(router.mesh["t"]) > DEGREE_HIGH


# --- Who pays for what is passed on --------------------------------------------------------------


async def _chain(net: Net, handler: object) -> tuple[Node, Node, Node]:
    """Three in a row; the middle one hears with a handler of its own."""

    async def hear(_author: str, _data: bytes) -> None:
        return None

    one = await net.start(1, outbound_peers=0)
    middle = await net.start(2, dials=(one,), outbound_peers=0)
    three = await net.start(3, dials=(middle,), outbound_peers=0)
    one.network.subscribe("orders", hear)
    middle.network.subscribe("orders", handler)  # type: ignore[arg-type]
    three.network.subscribe("orders", hear)
    await until(lambda: middle.network._gossip.mesh_size("orders") == 2)
    return one, middle, three


async def test_what_a_handler_finds_bad_is_not_passed_on_and_costs_who_passed_it(net: Net) -> None:
    async def judge(_author: str, data: bytes) -> None:
        if data == b"bad":
            raise Malformed("no order")

    one, middle, three = await _chain(net, judge)
    assert one.network.publish("orders", b"bad")
    await until(lambda: middle.info(one).score < 0)
    assert "no order" in middle.info(one).last_error
    assert three.info(middle).score == 0


async def test_what_is_nothing_new_is_not_passed_on_and_costs_nobody(net: Net) -> None:
    heard: list[bytes] = []

    async def judge(_author: str, data: bytes) -> bool:
        return data != b"old"

    async def hear(_author: str, data: bytes) -> None:
        heard.append(data)

    one, middle, three = await _chain(net, judge)
    three.network._gossip._subscriptions.clear()
    three.network.subscribe("orders", hear)
    for data in (b"old", b"new"):
        assert one.network.publish("orders", data)
    await until(lambda: heard)
    assert heard == [b"new"]
    assert middle.info(one).score == 0
