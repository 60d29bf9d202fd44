"""Every attack that we know of against a running daemon, which goes on and stays in sync."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import structlog
import trio

import peer_attacks
import peer_floods
from omninode.consensus.driver.questions import BLOCKS_PROTOCOL, BlocksRequest
from omninode.encoding import encode
from omninode.node.net.exchange import PEERS_PROTOCOL, PeerAddress, PeersReply
from omninode.node.net.identity import NodeIdentity
from omninode.node.net.service import Network
from omninode.node.net.settings import NetworkSettings, TcpAddress
from omninode.node.runtime import TRANSACTIONS_TOPIC
from peer_attacker import ATTACKS, TWO_GIGABYTES, attacker
from real_network import RealNetwork, RealNode, until

pytestmark = pytest.mark.slow

SYNC_S = 10.0
PROBE_S = 3.0
RESIDENT_BYTES_MAX = 300 << 20
OF_CRASH_PY = 19
KINDS = (peer_attacks, peer_floods)
"""Each of them adds to `ATTACKS`."""
SILENT_LOG = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))


class Daemon:
    """A process under attack."""

    ask = BLOCKS_PROTOCOL
    question = encode(BlocksRequest(1))
    news = b"\x91\x90"

    def __init__(self, network: RealNetwork, node: RealNode) -> None:
        self.node = node
        self.id = node.identity.peer_id
        self.tag = network.genesis.hash.hex()
        self.topic = f"/omninode/{TRANSACTIONS_TOPIC}/1/{self.tag}"

    @property
    def tcp(self) -> TcpAddress:
        return TcpAddress("127.0.0.1", self.node.p2p_port)

    def has_let_in(self, peer: str) -> bool:
        return bool(self._told(peer).get("connected"))

    def score_of(self, peer: str) -> int:
        return int(self._told(peer).get("score", 0))

    def _told(self, peer: str) -> dict[str, Any]:
        told = self.node.call("omni_getPeers")["peers"]
        return next((row for row in told if row["peer_id"] == peer), {})


def fresh_identity(name: str) -> NodeIdentity:
    """Return an identity for one attack, since bans outlive it."""
    return NodeIdentity.from_seed(hashlib.sha256(name.encode()).digest())


def assert_well(network: RealNetwork, victim: RealNode) -> None:
    """Check that a node goes on with the others, and nothing in it broke."""
    assert victim.is_running, victim.log_tail()
    network.wait_height(network.height() + 1, [victim], SYNC_S)
    until(lambda: victim.status()["peers"] >= 3, SYNC_S, why=network.describe)
    assert victim.resident_bytes() < RESIDENT_BYTES_MAX
    assert not victim.events("gossip failed, starting it again")
    assert "Traceback" not in victim.log(), victim.log_tail()


def test_the_first_attacks_are_all_here() -> None:
    assert len(ATTACKS) > 2 * OF_CRASH_PY
    homes = {one.__module__ for one in ATTACKS.values()}
    assert homes >= {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("name", sorted(ATTACKS))
async def test_the_daemon_goes_on(name: str, shared_network: RealNetwork) -> None:
    victim = shared_network.validators[0]
    async with attacker(Daemon(shared_network, victim), fresh_identity(name)) as mallory:
        with trio.move_on_after(30):
            await ATTACKS[name](mallory)
        await trio.to_thread.run_sync(assert_well, shared_network, victim)


# --- Who lies about others -----------------------------------------------------------------------


async def lying(network: RealNetwork, victim: RealNode, answer: bytes, *, task_status: Any) -> None:
    """Run a peer that victims dial, since it says where it is, and that tells them `answer`."""
    settings = NetworkSettings(
        listen=("/ip4/127.0.0.1/tcp/0",),
        network_tag=network.genesis.hash.hex(),
        moniker="mallory",
        outbound_peers=0,
    )
    liar = Network(settings, fresh_identity(answer.hex()), log=SILENT_LOG)
    asked = trio.Event()

    async def lie(peer: str, _request: bytes) -> bytes:
        if peer == victim.identity.peer_id:
            asked.set()
        return answer

    liar._protocols.pop(PEERS_PROTOCOL)
    liar.on_request(PEERS_PROTOCOL, lie, max_request_bytes=64, max_response_bytes=1 << 22)
    async with trio.open_nursery() as nursery:
        await nursery.start(liar.run)
        await liar._connect(victim.identity.peer_id, TcpAddress("127.0.0.1", victim.p2p_port))
        # It says where it listens, is tried, and leaves: so the victim will come back to it.
        await trio.sleep(PROBE_S)
        session = liar._sessions.ready(victim.identity.peer_id)
        assert session is not None
        await session.abort("gone")
        task_status.started((liar, asked))
        await trio.sleep_forever()


def poison(network: RealNetwork, victim: RealNode) -> list[PeerAddress]:
    """Return addresses that are wrong each in its own way."""
    port = network.validators[1].p2p_port
    dead = [PeerAddress(fresh_identity(f"dead {n}").peer_id, "127.0.0.1", 1 + n) for n in range(10)]
    others = [
        PeerAddress(fresh_identity(f"not there {n}").peer_id, "127.0.0.1", port) for n in range(10)
    ]
    itself = PeerAddress(victim.identity.peer_id, "127.0.0.1", port)
    validator = PeerAddress(network.validators[2].identity.peer_id, "127.0.0.1", port)
    return [*dead, *others, itself, validator]


@pytest.mark.parametrize("kind", ["poison", "huge", "rubbish"])
async def test_lies_about_peers_are_not_believed(kind: str, shared_network: RealNetwork) -> None:
    # A validator dials no strangers, so it is a node that only follows that meets the liar.
    with shared_network.full_node(kind) as victim:
        told = poison(shared_network, victim)
        answer = {
            "poison": encode(PeersReply(tuple(told))),
            "huge": encode(PeersReply(tuple(told * 2_000))),
            "rubbish": b"\xdd\xff\xff\xff\xff" + TWO_GIGABYTES,
        }[kind]
        async with trio.open_nursery() as nursery:
            start = nursery.start
            liar, asked = await start(
                lambda task_status: lying(shared_network, victim, answer, task_status=task_status)
            )
            with trio.fail_after(30):
                await asked.wait()
            if kind != "poison":
                daemon = Daemon(shared_network, victim)
                await trio.to_thread.run_sync(
                    lambda: until(lambda: daemon.score_of(liar.peer_id) < 0, 10)
                )
            await trio.sleep(2)
            await trio.to_thread.run_sync(assert_well, shared_network, victim)
            nursery.cancel_scope.cancel()
        known = {row["peer_id"] for row in victim.call("omni_getPeers")["peers"]}
        assert not known & {address.peer_id for address in told[:20]}
        assert not victim.home.address_book.exists() or not any(
            address.peer_id in victim.home.address_book.read_text() for address in told[:20]
        )
