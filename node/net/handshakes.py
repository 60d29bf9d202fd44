"""From a socket to a connection whose other end has proven who it is, both ways round."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

import structlog
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from omninode.errors import BrokenInvariant
from omninode.node.net.admission import Admission
from omninode.node.net.hardening import GuardedYamux, guarded
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    DIAL_TIMEOUT_MS,
    HANDSHAKE_TIMEOUT_MS,
    KEY_WARNING_INTERVAL_MS,
)
from omninode.node.net.private_network import NONCE_BYTES
from omninode.node.net.settings import TcpAddress
from omninode.node.net.transport import PeerSocket, dial


class DialFailed(Exception):
    """Nobody answers at an address, or not who was expected."""


class Handshakes:
    """Accepts and dials; what comes out of it, libp2p announces as a connection.

    Args:
        host: The libp2p host.
        admission: Room for those who have not proven who they are.
        is_known: Whether a validator or persistent peer is known to be at an IP address.
        now_ms: The clock.
        private_key: The key of a private network; None for a public one.
        log: Where to say what happened.
    """

    def __init__(
        self,
        host: BasicHost,
        admission: Admission,
        *,
        is_known: Callable[[str], bool],
        now_ms: Callable[[], int],
        private_key: bytes | None,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._host = host
        self._admission = admission
        self._is_known = is_known
        self._now_ms = now_ms
        self._private_key = private_key
        self._log = log
        self._told_ms = 0
        self._sockets: WeakSet[PeerSocket] = WeakSet()

    async def accept(self, socket: PeerSocket) -> None:
        """Let the other end of an inbound connection prove who it is."""
        self._sockets.add(socket)
        ip, now_ms = socket.remote.host, self._now_ms()
        is_known = self._is_known(ip)
        if self._admission.turns_away(ip, is_known=is_known, now_ms=now_ms):
            await socket.abort()
            return
        with self._admission.handshake(ip, is_known=is_known, now_ms=now_ms) as own, own.scope:
            try:
                with trio.fail_after(HANDSHAKE_TIMEOUT_MS / 1000):
                    # Who dials speaks first. Most who only hold connections never do, and so
                    # cost no more than the socket.
                    if await socket.has_data():
                        await self._host.get_network().upgrade_inbound_raw_conn(
                            RawConnection(socket, False), Multiaddr(socket.remote.text())
                        )
                        return
                    own.failed = True
            except Exception as error:  # noqa: BLE001 - the boundary to a peer
                own.failed = True
                self._log.debug("handshake failed", ip=ip, error=repr(error))
        self._tell_of_key(socket)
        await socket.abort()

    async def connect(self, peer: PeerId, address: TcpAddress) -> GuardedYamux:
        """Dial a peer.

        Raises:
            DialFailed: It did not work out; the text says why.
        """
        socket: PeerSocket | None = None
        try:
            with trio.fail_after(DIAL_TIMEOUT_MS / 1000):
                socket = await self._open(address)
                connection = await self._host.get_network().upgrade_outbound_raw_conn(
                    RawConnection(socket, True), ID.from_base58(peer)
                )
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            self._log.debug("dial failed", peer=peer, address=address.text(), error=repr(error))
            if socket is not None:
                self._tell_of_key(socket)
                await socket.abort()
            raise DialFailed(self._reason(socket, error)) from None
        return guarded(connection)

    async def probe(self, address: TcpAddress) -> bool:
        """Say whether the peer of an address proves its identity there; then hang up."""
        swarm = self._host.get_network()
        if not isinstance(swarm, Swarm):
            raise BrokenInvariant(f"unknown network {type(swarm).__name__}")
        socket: PeerSocket | None = None
        try:
            with trio.fail_after(DIAL_TIMEOUT_MS / 1000):
                socket = await self._open(address)
                await swarm.upgrader.upgrade_security(
                    RawConnection(socket, True), True, ID.from_base58(address.peer_id)
                )
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            self._log.debug("probe failed", address=address.text(), error=repr(error))
            return False
        finally:
            if socket is not None:
                with trio.CancelScope(shield=True):
                    await socket.abort()
        return True

    def _reason(self, socket: PeerSocket | None, error: Exception) -> str:
        if socket is not None and self._is_no_member(socket):
            return "no member of this private network (p2p.psk_file)"
        if isinstance(error, trio.TooSlowError):
            return f"no answer in {DIAL_TIMEOUT_MS} ms"
        return str(error) or type(error).__name__

    def _is_no_member(self, socket: PeerSocket) -> bool:
        """Say whether the other end has another key, or none: then it says too little."""
        is_silent = self._private_key is not None and socket.bytes_read < NONCE_BYTES
        return socket.has_other_key or is_silent

    def _tell_of_key(self, socket: PeerSocket) -> None:
        """Warn, now and then, of a peer that is no member of the private network."""
        now_ms = self._now_ms()
        if self._is_no_member(socket) and now_ms - self._told_ms > KEY_WARNING_INTERVAL_MS:
            self._told_ms = now_ms
            self._log.warning(
                "no member of this private network",
                address=socket.remote.text(),
                hint="compare p2p.psk_file on both nodes: they need the same key",
            )

    async def close(self) -> None:
        """Close every socket that is still open."""
        for socket in tuple(self._sockets):
            await socket.abort()

    async def _open(self, address: TcpAddress) -> PeerSocket:
        socket = await dial(address, self._private_key)
        self._sockets.add(socket)
        return socket
