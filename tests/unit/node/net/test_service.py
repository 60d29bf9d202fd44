"""Two or three real networks that talk over loopback."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from network_world import Net, Node, identity, until
from omninode.errors import BrokenInvariant, ConfigError, Malformed, PeerFault
from omninode.node.net import link, serving
from omninode.node.net.limits import FRAME_BYTES_MAX, REQUESTS_SERVED_PER_PEER_MAX
from omninode.node.net.requests import RequestFailed, RequestRefused
from omninode.node.net.settings import Plane

ECHO = "/omninode/echo/1"


async def _echo(_peer: str, request: bytes) -> bytes:
    return request[::-1]


def _on_echo(node: Node, handler: Any = _echo, *, most: int = 1000) -> None:
    node.network.on_request(ECHO, handler, max_request_bytes=1000, max_response_bytes=most)


# --- Connections ---------------------------------------------------------------------------------


async def test_two_validators_connect_and_see_each_other(net: Net) -> None:
    one, two = await net.pair()
    await until(lambda: len(two.info(one).planes) == len(one.info(two).planes) == 2)
    await until(lambda: one.info(two).rtt_ms is not None)
    seen = two.info(one)
    assert (seen.moniker, seen.direction, seen.is_validator) == ("node1", "outbound", True)
    assert seen.addresses == one.network.listen_addresses()
    assert seen.connected_since_ms > 0
    assert one.info(two).direction == "inbound"
    assert (one.came, two.came) == ([two.id], [one.id])


async def test_peers_that_dial_each_other_keep_one_connection(net: Net) -> None:
    one = net.make(1)
    two = net.make(2)
    await net.nursery.start(one.network.run)
    await net.nursery.start(two.network.run)
    first, second = sorted((one, two), key=lambda node: node.id)
    # Both dial at the same moment, around the patience that usually prevents it.
    async with trio.open_nursery() as nursery:
        for node, other in ((one, two), (two, one)):
            address = node.network._listener.addresses[0]
            nursery.start_soon(other.network._connect, node.id, address)
    await until(lambda: first.knows(second) and second.knows(first))
    await until(lambda: len(one.network._sessions) == len(two.network._sessions) == 1)
    assert first.info(second).direction == "outbound"
    assert second.info(first).direction == "inbound"


async def test_a_peer_of_another_network_is_refused_and_told_why(net: Net) -> None:
    one = await net.start(1)
    two = await net.start(2, dials=(one,), network_tag="cd" * 32)
    await until(lambda: "network" in two.info(one).last_error)
    assert "this node is on cdcd" not in two.info(one).last_error
    assert "refused: network cdcdcdcdcdcdcdcd…" in two.info(one).last_error
    await until(lambda: one.events("peer refused"))
    assert not one.came
    assert not two.came


async def test_a_peer_that_went_is_noticed_and_dialled_again(net: Net) -> None:
    one = await net.start(1)
    two = net.make(2, persistent_peers=(one.address,))
    async with net.running(two) as scope:
        await until(lambda: one.knows(two))
        scope.cancel()
    await until(lambda: one.went == [two.id])
    three = net.make(2, persistent_peers=(one.address,))
    async with net.running(three):
        await until(lambda: one.knows(three))
        assert one.came == [two.id, two.id]


async def test_a_persistent_peer_is_found_when_it_starts_later(net: Net) -> None:
    late = net.make(1)
    await late.network._listener.bind()
    address = late.address
    await late.network._listener.close()
    port = int(address.split("/")[4])
    early = net.make(2, persistent_peers=(address,))
    await net.nursery.start(early.network.run)
    await until(lambda: "dial" in early.info(late).last_error)
    late = net.make(1, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    await net.nursery.start(late.network.run)
    await until(lambda: early.knows(late))


async def test_a_port_that_is_taken_is_said_plainly(net: Net) -> None:
    one = await net.start(1)
    two = net.make(2, listen=one.network.listen_addresses())
    with pytest.raises(ConfigError, match="can not listen for peers on"):
        await two.network.run()


async def test_a_persistent_peer_needs_an_id(net: Net) -> None:
    with pytest.raises(ConfigError, match="no peer id"):
        net.make(1, persistent_peers=("/ip4/127.0.0.1/tcp/1",))


async def test_a_node_does_not_connect_to_itself(net: Net) -> None:
    one = await net.start(1)
    await one.network._connect(one.id, one.network._listener.addresses[0])
    assert not one.network.connected_peers()
    await until(lambda: not one.network._sessions.all())


async def test_strangers_find_no_room_but_persistent_peers_do(net: Net) -> None:
    friend = await net.start(9)
    full = await net.start(1, dials=(friend,), connections_max=2)
    await until(lambda: full.knows(friend))
    first = await net.start(2, dials=(full,))
    await until(lambda: full.knows(first))
    second = await net.start(3, dials=(full,))
    await until(lambda: full.events("peer turned away"))
    assert full.events("peer turned away")[0]["reason"] == "no room for strangers"
    assert not second.came
    assert full.knows(friend)


# --- Frames --------------------------------------------------------------------------------------


async def test_frames_arrive_whole_in_order_and_on_their_plane(net: Net) -> None:
    one, two = await net.pair()
    frames = [bytes([number % 256]) * (number * 37 % 5000) for number in range(500)]
    assert all(two.network.send(one.id, Plane.VOTE, frame) for frame in frames)
    assert two.network.send(one.id, Plane.DATA, b"body")
    await until(lambda: len(one.frames[Plane.VOTE]) == len(frames))
    await until(lambda: one.frames[Plane.DATA] == [(two.id, b"body")])
    assert one.frames[Plane.VOTE] == [(two.id, frame) for frame in frames]


async def test_the_largest_frame_passes_and_a_longer_one_is_not_sent(net: Net) -> None:
    one, two = await net.pair()
    assert two.network.send(one.id, Plane.DATA, b"x" * FRAME_BYTES_MAX)
    assert not two.network.send(one.id, Plane.DATA, b"x" * (FRAME_BYTES_MAX + 1))
    await until(lambda: one.frames[Plane.DATA])
    assert len(one.frames[Plane.DATA][0][1]) == FRAME_BYTES_MAX


async def test_a_vote_does_not_wait_behind_bodies(net: Net) -> None:
    one, two = await net.pair()
    await until(lambda: len(two.info(one).planes) == 2)
    order: list[Plane] = []

    async def note(plane: Plane) -> None:
        await until(lambda: one.frames[plane])
        order.append(plane)

    for _ in range(3):
        assert two.network.send(one.id, Plane.DATA, b"x" * FRAME_BYTES_MAX)
    assert two.network.send(one.id, Plane.VOTE, b"vote")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, Plane.VOTE)
        nursery.start_soon(note, Plane.DATA)
    assert order[0] is Plane.VOTE


async def test_broadcast_reaches_validators_only(net: Net) -> None:
    validators = frozenset(identity(number).peer_id for number in (1, 2, 3))
    one = await net.start(1, validator_peers=validators)
    others = [
        await net.start(number, dials=(one,), validator_peers=validators) for number in (2, 3)
    ]
    watcher = await net.start(4, dials=(one,), validator_peers=validators)
    await until(lambda: len(one.network.connected_peers()) == 3)
    assert one.network.broadcast(Plane.VOTE, b"vote") == 2
    for other in others:
        await until(lambda other=other: other.frames[Plane.VOTE] == [(one.id, b"vote")])
    assert not one.network.send(watcher.id, Plane.VOTE, b"vote")
    assert not watcher.network.send(one.id, Plane.VOTE, b"vote")


async def test_nothing_is_sent_to_who_is_not_connected(net: Net) -> None:
    one = await net.start(1)
    assert not one.network.send(identity(7).peer_id, Plane.VOTE, b"x")
    assert one.network.broadcast(Plane.VOTE, b"x") == 0


async def test_a_full_queue_refuses_the_new_frame(net: Net) -> None:
    one, two = await net.pair()
    frame = b"x" * FRAME_BYTES_MAX
    # No checkpoint in between: nothing is written meanwhile.
    answers = [two.network.send(one.id, Plane.DATA, frame) for _ in range(5)]
    assert answers == [True] * 3 + [False] * 2
    await until(lambda: len(one.frames[Plane.DATA]) == 3)
    assert two.network.send(one.id, Plane.DATA, b"again")
    await until(lambda: len(one.frames[Plane.DATA]) == 4)


async def test_a_peer_that_takes_no_frames_is_given_up(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Yamux waits 5 s for a window; the window here is what one stream gets at first.
    monkeypatch.setattr(serving, "PLANE_WINDOW_BYTES", 0)
    one, two = await net.pair()
    stuck = trio.Event()

    async def hang(_peer: str, _frame: bytes) -> None:
        await stuck.wait()

    one.network.on_frame(Plane.DATA, hang)
    session = two.network._sessions.ready(one.id)
    assert session is not None
    await session.links[Plane.DATA]._connection.socket.abort()
    await until(lambda: len(two.came) == 2)
    for _ in range(3):
        two.network.send(one.id, Plane.DATA, b"x" * 1_000_000)
    await until(lambda: two.went and "takes no data frames" in _reasons(two), within_s=15)
    stuck.set()


def _reasons(node: Node) -> str:
    return " ".join(entry["reason"] for entry in node.events("peer disconnected"))


async def test_a_plane_stream_that_breaks_is_opened_again(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LINK_REOPEN_DELAY_MS", 10)
    one, two = await net.pair()
    await until(lambda: len(two.info(one).planes) == 2)
    session = one.network._sessions.ready(two.id)
    assert session is not None
    await until(lambda: Plane.VOTE in session.readers)
    await session.readers[Plane.VOTE].reset()
    await until(lambda: Plane.VOTE not in two.info(one).planes)
    await until(lambda: Plane.VOTE in two.info(one).planes)
    two.network.send(one.id, Plane.VOTE, b"again")
    await until(lambda: (two.id, b"again") in one.frames[Plane.VOTE])


# --- Faults --------------------------------------------------------------------------------------


async def test_faults_of_a_handler_lower_the_score_then_disconnect_then_ban(net: Net) -> None:
    one, two = await net.pair(redial_min_ms=10, redial_max_ms=20)

    async def judge(_peer: str, frame: bytes) -> None:
        raise PeerFault("rubbish", penalty=int(frame))

    one.network.on_frame(Plane.VOTE, judge)
    two.network.send(one.id, Plane.VOTE, b"0")
    await _again(one, two, b"30")
    await until(lambda: one.info(two).score == -30)
    assert one.knows(two)
    await until(lambda: len(two.info(one).planes) == 2)
    await _again(one, two, b"30")
    await until(lambda: one.went)
    await until(lambda: one.knows(two))
    await _again(one, two, b"60")
    await until(lambda: one.info(two).banned_until_ms > 0)
    await until(lambda: not one.knows(two))
    await until(lambda: one.events("peer turned away"))
    assert one.events("peer turned away")[0]["reason"] == "banned"


async def _again(one: Node, two: Node, frame: bytes) -> None:
    """Send a frame on a plane whose stream the last fault may have ended."""
    score = one.info(two).score
    with trio.fail_after(10):
        while one.info(two).score == score:
            two.network.send(one.id, Plane.VOTE, frame)
            await trio.sleep(0.6)


async def test_a_banned_peer_gets_in_again_after_the_ban(net: Net) -> None:
    one, two = await net.pair(redial_min_ms=10, redial_max_ms=20)
    one.network.penalize(two.id, PeerFault("rubbish", penalty=200))
    await until(lambda: not one.knows(two))
    record = one.network._table.get(two.id)
    assert record is not None
    record.banned_until_ms = 1
    await until(lambda: one.knows(two))


async def test_malformed_frames_cost_the_peer(net: Net) -> None:
    one, two = await net.pair()

    async def decode(_peer: str, _frame: bytes) -> None:
        raise Malformed("not canonical")

    one.network.on_frame(Plane.VOTE, decode)
    await _again(one, two, b"x")
    assert "malformed: not canonical" in one.info(two).last_error


async def test_a_defect_in_a_handler_ends_the_stream_and_nothing_else(net: Net) -> None:
    one, two = await net.pair()

    async def broken(_peer: str, _frame: bytes) -> None:
        raise KeyError("our defect")

    one.network.on_frame(Plane.DATA, broken)
    await until(lambda: len(two.info(one).planes) == 2)
    session = two.network._sessions.ready(one.id)
    assert session is not None
    with trio.fail_after(10):
        while not one.events("a handler failed on a peer's input"):
            two.network.send(one.id, Plane.DATA, b"x")
            await trio.sleep(0.1)
            await session.connection.ping()
    two.network.send(one.id, Plane.VOTE, b"still here")
    await until(lambda: one.frames[Plane.VOTE])


@pytest.mark.parametrize("plane", [Plane.VOTE, Plane.DATA])
async def test_a_broken_invariant_stops_the_network(net: Net, plane: Plane) -> None:
    validators = frozenset({identity(1).peer_id, identity(2).peer_id})
    one = await net.start(1, validator_peers=validators)
    two = net.make(2, validator_peers=validators, persistent_peers=(one.address,))

    async def broken(_peer: str, _frame: bytes) -> None:
        raise BrokenInvariant("two blocks at one height")

    two.network.on_frame(plane, broken)

    async def provoke() -> None:
        await until(lambda: one.knows(two))
        one.network.send(two.id, plane, b"x")

    net.nursery.start_soon(provoke)
    with trio.fail_after(10), pytest.raises(BrokenInvariant, match="two blocks"):
        await two.network.run()


# --- Requests ------------------------------------------------------------------------------------


async def test_a_request_is_answered(net: Net) -> None:
    one, two = await net.pair()
    _on_echo(one)
    _on_echo(two)
    assert await two.network.request(one.id, ECHO, b"hello", timeout_ms=2000) == b"olleh"
    assert await one.network.request(two.id, ECHO, b"", timeout_ms=2000) == b""


async def test_a_long_answer_arrives_whole(net: Net) -> None:
    one, two = await net.pair()
    answer = bytes(range(256)) * 16384

    async def much(_peer: str, _request: bytes) -> bytes:
        return answer

    _on_echo(one, much, most=len(answer))
    _on_echo(two, most=len(answer))
    assert await two.network.request(one.id, ECHO, b"", timeout_ms=8000) == answer


async def test_many_requests_at_once_are_all_answered(net: Net) -> None:
    one, two = await net.pair()
    _on_echo(one)
    _on_echo(two)
    answers: list[bytes] = []

    async def ask(number: int) -> None:
        while True:
            try:
                got = await two.network.request(one.id, ECHO, b"%d" % number, timeout_ms=8000)
            except RequestFailed as error:
                if error.reason != "busy":
                    raise
                await trio.sleep(0.01)
            else:
                answers.append(got)
                return

    async with trio.open_nursery() as nursery:
        for number in range(100, 160):
            nursery.start_soon(ask, number)
    assert sorted(answers) == sorted((b"%d" % number)[::-1] for number in range(100, 160))


async def test_a_refusal_carries_its_reason(net: Net) -> None:
    one, two = await net.pair()

    async def refuse(_peer: str, _request: bytes) -> bytes:
        raise RequestRefused("pruned below 100")

    _on_echo(one, refuse)
    _on_echo(two)
    with pytest.raises(RequestFailed, match="pruned below 100") as caught:
        await two.network.request(one.id, ECHO, b"", timeout_ms=2000)
    assert caught.value.reason == "refused"
    assert one.info(two).score == 0


async def test_requests_that_can_not_be_answered_fail_with_a_reason(net: Net) -> None:
    one, two = await net.pair()
    _on_echo(two)
    with pytest.raises(RequestFailed) as caught:
        await two.network.request(one.id, ECHO, b"", timeout_ms=2000)
    assert caught.value.reason == "unsupported"
    with pytest.raises(RequestFailed) as caught:
        await two.network.request(identity(7).peer_id, ECHO, b"", timeout_ms=2000)
    assert caught.value.reason == "not_connected"
    with pytest.raises(BrokenInvariant):
        await two.network.request(one.id, ECHO, b"x" * 1001, timeout_ms=2000)
    with pytest.raises(BrokenInvariant):
        await two.network.request(one.id, "/omninode/unknown/1", b"", timeout_ms=2000)


async def test_a_slow_answer_times_out_and_the_connection_lives(net: Net) -> None:
    one, two = await net.pair()

    async def hang(_peer: str, _request: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    _on_echo(one, hang)
    _on_echo(two)
    with pytest.raises(RequestFailed) as caught:
        await two.network.request(one.id, ECHO, b"", timeout_ms=100)
    assert caught.value.reason == "timeout"
    two.network.send(one.id, Plane.VOTE, b"still here")
    await until(lambda: one.frames[Plane.VOTE])


async def test_a_peer_with_too_many_requests_in_work_is_told_busy(net: Net) -> None:
    one, two = await net.pair()
    working = trio.Event()
    reasons: list[str] = []

    async def work(_peer: str, _request: bytes) -> bytes:
        await working.wait()
        return b"done"

    _on_echo(one, work)
    _on_echo(two)
    session = one.network._sessions.ready(two.id)
    assert session is not None
    await until(lambda: session.told_peers_ms and not one.network._server._served._by_peer)

    async def ask() -> None:
        try:
            await two.network.request(one.id, ECHO, b"", timeout_ms=8000)
            reasons.append("done")
        except RequestFailed as error:
            reasons.append(error.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(REQUESTS_SERVED_PER_PEER_MAX + 3):
            nursery.start_soon(ask)
        await until(lambda: reasons.count("busy") == 3)
        working.set()
    assert reasons.count("done") == REQUESTS_SERVED_PER_PEER_MAX


async def test_an_answer_beyond_the_bound_costs_who_gave_it(net: Net) -> None:
    one, two = await net.pair()

    async def much(_peer: str, _request: bytes) -> bytes:
        return b"x" * 5000

    _on_echo(one, much, most=5000)
    _on_echo(two, most=1000)
    with pytest.raises(PeerFault) as caught:
        await two.network.request(one.id, ECHO, b"", timeout_ms=2000)
    assert caught.value.reason == "oversized_frame"
    assert two.info(one).score == -50


# --- Gossip --------------------------------------------------------------------------------------


async def test_gossip_reaches_who_is_not_connected_directly(net: Net) -> None:
    heard: list[tuple[str, bytes]] = []

    async def hear(origin: str, data: bytes) -> None:
        heard.append((origin, data))

    async def pass_on(_origin: str, _data: bytes) -> None:
        pass

    one = await net.start(1)
    middle = await net.start(2, dials=(one,))
    three = await net.start(3, dials=(middle,))
    one.network.subscribe("orders", pass_on)
    middle.network.subscribe("orders", pass_on)
    three.network.subscribe("orders", hear)
    await until(lambda: middle.network._gossip.mesh_size("orders") == 2)
    for number in range(20):
        assert one.network.publish("orders", b"%d" % number)
    await until(lambda: len(heard) == 20)
    assert sorted(heard) == sorted((one.id, b"%d" % number) for number in range(20))


async def test_what_a_check_refuses_is_not_passed_on_and_costs_the_forwarder(net: Net) -> None:
    heard: list[bytes] = []

    async def hear(_origin: str, data: bytes) -> None:
        heard.append(data)

    one = await net.start(1)
    middle = await net.start(2, dials=(one,))
    three = await net.start(3, dials=(middle,))
    one.network.subscribe("orders", hear)
    middle.network.subscribe("orders", hear, check=lambda _peer, data: data != b"bad")
    three.network.subscribe("orders", hear)
    await until(lambda: middle.network._gossip.mesh_size("orders") == 2)
    one.network.publish("orders", b"bad")
    await until(lambda: middle.info(one).score < 0)
    assert three.info(middle).score == 0
    assert heard == [b"bad"]  # by its own author only


async def test_a_restarted_node_is_heard_at_once(net: Net) -> None:
    heard: list[bytes] = []

    async def hear(_origin: str, data: bytes) -> None:
        heard.append(data)

    one = await net.start(1)
    one.network.subscribe("orders", hear)
    for life in (b"first", b"second"):
        two = net.make(2, persistent_peers=(one.address,))
        two.network.subscribe("orders", hear)
        async with net.running(two):
            await until(lambda: one.network._gossip.mesh_size("orders") == 1)
            await until(lambda two=two: two.network._gossip.mesh_size("orders") == 1)
            for _ in range(5):
                two.network.publish("orders", life)
            await until(lambda life=life: heard.count(life) == 10)
        await until(lambda: one.network._gossip.mesh_size("orders") == 0)


async def test_gossip_that_failed_is_started_again(net: Net) -> None:
    heard: list[str] = []

    async def hear(origin: str, _data: bytes) -> None:
        heard.append(origin)

    async def ignore(_origin: str, _data: bytes) -> None:
        pass

    one = await net.start(1)
    two = await net.start(2, dials=(one,))
    one.network.subscribe("orders", hear)
    two.network.subscribe("orders", ignore)
    await until(lambda: one.network._gossip.mesh_size("orders") == 1)
    pubsub = one.network._gossip._pubsub
    assert pubsub is not None

    async def fail() -> None:
        raise ValueError("inside libp2p")

    pubsub.manager.run_task(fail)
    await until(lambda: one.network._gossip.restarts == 1)
    assert one.knows(two)
    with trio.fail_after(10):
        while two.id not in heard:
            two.network.publish("orders", b"again")
            await trio.sleep(0.1)


async def test_a_message_too_long_is_not_published(net: Net) -> None:
    one = await net.start(1)
    assert not one.network.publish("orders", b"x" * (128 * 1024 + 1))


async def test_a_topic_and_a_protocol_are_taken_once(net: Net) -> None:
    one = net.make(1)

    async def hear(_origin: str, _data: bytes) -> None:
        pass

    one.network.subscribe("orders", hear)
    with pytest.raises(BrokenInvariant):
        one.network.subscribe("orders", hear)
    _on_echo(one)
    with pytest.raises(BrokenInvariant):
        _on_echo(one)
