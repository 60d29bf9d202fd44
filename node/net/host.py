"""Building the libp2p host: one key, TCP by our own hands, Noise only, Yamux only.

libp2p's defaults would also offer TLS, SECIO and plain text, dial by themselves, learn addresses
from whoever pushes them, and keep a resource manager beside our own bounds. None of it is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr
from typing_extensions import override

from omninode.errors import BrokenInvariant
from omninode.node.net import hardening
from omninode.node.net.identity import NodeIdentity
from omninode.node.net.limits import HANDSHAKE_TIMEOUT_MS, NEGOTIATION_TIMEOUT_MS

_ROOM: Final = 1 << 16
"""libp2p's own bound on connections: out of the way, the network's admission holds the real one."""


def build_host(identity: NodeIdentity, *, addresses: Callable[[], tuple[str, ...]]) -> BasicHost:
    """Return a host that serves identify and ping, and nothing else yet.

    Args:
        identity: The node's key.
        addresses: The multiaddresses to advertise, asked each time.

    Raises:
        BrokenInvariant: The libp2p found is not the one this was made for.
    """
    hardening.apply()
    keys = create_new_key_pair(identity.seed)
    peer = ID.from_pubkey(keys.public_key)
    if peer.to_base58() != identity.peer_id:
        raise BrokenInvariant(f"libp2p derives peer id {peer}, expected {identity.peer_id}")
    store = PeerStore()
    store.add_key_pair(peer, keys)
    noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader(
        secure_transports_by_protocol={TProtocol(NOISE_PROTOCOL): noise},
        muxer_transports_by_protocol={TProtocol(YAMUX_PROTOCOL): hardening.GuardedYamux},
    )
    swarm = _Swarm(peer, store, upgrader, transports=[], connection_config=_connection_config())
    swarm.auto_connector = _NoDialling(swarm)
    host = BasicHost(
        swarm,
        addrs_factory=lambda _candidates: [Multiaddr(text) for text in addresses()],
        disable_identify_address_discovery=True,
    )
    # A pushed identity would let anyone fill the address book.
    host.remove_stream_handler(ID_PUSH)
    # Asking every newcomer who it is would start system tasks, whose failure ends the program.
    # Our hello says what we need to know.
    swarm.notifees = [n for n in swarm.notifees if type(n).__name__ != "_IdentifyNotifee"]
    return host


class ConnectionNotices(INotifee):
    """Tells the network about every connection that libp2p has opened.

    Args:
        connected: Called with each.
    """

    def __init__(self, connected: Callable[[SwarmConn], None]) -> None:
        self._connected = connected

    @override
    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """Pass the connection on."""
        if not isinstance(conn, SwarmConn):
            raise BrokenInvariant(f"unknown connection {type(conn).__name__}")
        self._connected(conn)

    @override
    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """Do nothing: the session watches its connection."""

    @override
    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Do nothing."""

    @override
    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Do nothing."""

    @override
    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Do nothing."""

    @override
    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Do nothing."""


class _Swarm(Swarm):
    """A swarm that leaves dialling and admission to the network."""

    @override
    def _schedule_auto_connect(self) -> None:
        """Dial nobody."""

    @override
    def _schedule_prune(self) -> None:
        """Close nobody."""


class _NoDialling(AutoConnector):
    """Stands where libp2p would dial whom it likes and remember every peer that left."""

    @override
    async def start(self) -> None:
        """Do nothing."""

    @override
    async def run_background_task(self, nursery: Any) -> None:
        """Do nothing."""

    @override
    def record_disconnect(self, peer_id: ID) -> None:
        """Remember nothing."""


def _connection_config() -> ConnectionConfig:
    """Return a configuration in which libp2p neither dials nor prunes by itself."""
    return ConnectionConfig(
        min_connections=0,
        low_watermark=0,
        high_watermark=_ROOM,
        max_connections=_ROOM,
        max_connections_per_peer=_ROOM,
        inbound_upgrade_timeout=HANDSHAKE_TIMEOUT_MS / 1000,
        outbound_upgrade_timeout=HANDSHAKE_TIMEOUT_MS / 1000,
        inbound_stream_protocol_negotiation_timeout=NEGOTIATION_TIMEOUT_MS / 1000,
        outbound_stream_protocol_negotiation_timeout=NEGOTIATION_TIMEOUT_MS / 1000,
    )
