"""Nothing a stranger sends may stop the node or take it from its peers.

Each attack runs against a real network with an honest peer connected; afterwards the honest peer
must still be connected or come back, its frames must arrive, and a newcomer must get in.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from libp2p.exceptions import BaseLibp2pError

import peer_attacks
import peer_floods
from network_world import Net, Node, identity, until
from omninode.errors import Malformed
from omninode.node.net import handshakes, hardening, serving, session
from omninode.node.net import requests as net_requests
from omninode.node.net.framing import encode_frame
from omninode.node.net.hello import HELLO_PROTOCOL
from omninode.node.net.limits import STREAMS_PER_CONNECTION_MAX
from omninode.node.net.settings import Plane
from peer_attacker import ASK, ATTACKS, TWO_GIGABYTES, Attacker, LocalVictim, attack, attacker

MALLORY = identity(15)
KINDS = (peer_attacks, peer_floods)
"""Each of them adds to `ATTACKS`."""


@attack
async def _request_that_breaks_the_handler(mallory: Attacker) -> None:
    await mallory.hello()
    await mallory.speak(ASK, encode_frame(b"break"))
    await mallory.has_paid()


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


async def _hear(_author: str, data: bytes) -> bool:
    if data != b"old":
        raise Malformed("no news")
    return False


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
        monkeypatch.setattr(module, constant, 1_500)
    victim, honest = await net.pair(ping_timeout_ms=5_000)
    _ask(victim)
    _ask(honest)
    victim.network.subscribe("orders", _hear)
    async with attacker(LocalVictim(victim), MALLORY) as mallory:
        await ATTACKS[name](mallory)
        # The same connection again: whatever is left of it may be used for more rubbish.
        for one in victim.network._sessions.all():
            assert one.connection.inbound_streams <= STREAMS_PER_CONNECTION_MAX
        honest.network.send(victim.id, Plane.VOTE, b"vote")
        await until(lambda: (honest.id, b"vote") in victim.frames[Plane.VOTE])
    assert await honest.network.request(victim.id, ASK, b"ok", timeout_ms=5000) == b"fine"
    assert not any(sender == MALLORY.peer_id for sender, _ in victim.frames[Plane.VOTE])
    assert victim.info(honest).score == 0
    assert victim.network._gossip.restarts == 0
    newcomer = await net.start(5, dials=(victim,))
    await until(lambda: victim.knows(newcomer))


async def test_rubbish_again_and_again_ends_in_a_ban(net: Net) -> None:
    victim = await net.start(1)
    for _ in range(10):
        with suppress(BaseLibp2pError, BaseExceptionGroup, OSError):
            async with attacker(LocalVictim(victim), MALLORY) as mallory:
                await mallory.speak(HELLO_PROTOCOL, TWO_GIGABYTES)
                await until(lambda mallory=mallory: mallory.is_cut_off)
        if victim.info(MALLORY.peer_id).banned_until_ms:
            break
    assert victim.info(MALLORY.peer_id).banned_until_ms > 0
    async with attacker(LocalVictim(victim), MALLORY) as mallory:
        await until(lambda: mallory.is_cut_off)


async def test_connections_that_come_and_go_use_nothing_up(net: Net) -> None:
    victim = await net.start(1, connections_max=8)
    for _ in range(40):
        async with attacker(LocalVictim(victim), MALLORY) as mallory:
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
