"""What a stranger sends may not slow down what validators send each other."""

from __future__ import annotations

import struct

import pytest
import trio

from network_world import Net, identity, until
from omninode.node.net import service
from omninode.node.net.limits import SOCKET_TURN_READS
from omninode.node.net.settings import Plane
from peer_attacker import LocalVictim, attacker

PER_S = 200
BURST = 400


async def test_a_flood_of_tiny_frames_is_read_slowly_and_votes_are_not(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STRANGER_READS_PER_S", PER_S)
    monkeypatch.setattr(service, "STRANGER_READS_BURST", BURST)
    victim, honest = await net.pair(ping_timeout_ms=5_000)
    async with attacker(LocalVictim(victim), identity(15)) as mallory:
        await mallory.hello()

        async def flood() -> None:
            while True:
                await mallory.frame(struct.pack("!BBHII", 0, 2, 2, 0, 0))

        stranger = victim.network._sessions.ready(mallory.id)
        validator = victim.network._sessions.ready(honest.id)
        assert stranger is not None
        assert validator is not None
        started, before = trio.current_time(), stranger.socket._reads
        votes_before = validator.socket._reads
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await until(lambda: stranger.socket._reads - before > BURST)
            for number in range(500):
                honest.network.send(victim.id, Plane.VOTE, b"%d" % number)
                await until(lambda number=number: len(victim.frames[Plane.VOTE]) > number)
            nursery.cancel_scope.cancel()
        most = BURST + PER_S * (trio.current_time() - started) + 2 * SOCKET_TURN_READS
        assert stranger.socket._reads - before <= most
        assert validator.socket._reads - votes_before >= 2 * 500


async def test_who_joins_the_validators_is_read_as_fast_as_it_comes(net: Net) -> None:
    one, two = await net.pair(validator_peers=frozenset({identity(1).peer_id}))
    session = one.network._sessions.ready(two.id)
    assert session is not None
    assert session.socket.pace is not None
    one.network.set_validator_peers(frozenset({identity(1).peer_id, identity(2).peer_id}))
    assert session.socket.pace is None
    one.network.set_validator_peers(frozenset({identity(1).peer_id}))
    assert session.socket.pace is not None
