"""Staying connected to the peers that the configuration names.

Rules
    D1. After a connection ends, or a dial fails, the next dial waits: at first `redial_min_ms`,
        doubling up to `redial_max_ms`, spread by a third. A good hello starts it anew.
    D2. An inbound connection from the peer ends the wait.
    D3. The peer with the higher id lets the other dial first, for `DIAL_PATIENCE_MS`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from omninode.errors import ConfigError
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import DIAL_PATIENCE_MS
from omninode.node.net.sessions import Sessions
from omninode.node.net.settings import NetworkSettings, TcpAddress


class Dialer:
    """Dials persistent peers for ever.

    Args:
        local: This node's id.
        sessions: Who is connected.
        settings: The back-off.
        connect: Dials one address; returns when the session is open or has failed.
    """

    def __init__(
        self,
        local: PeerId,
        sessions: Sessions,
        settings: NetworkSettings,
        *,
        connect: Callable[[PeerId, TcpAddress], Awaitable[None]],
    ) -> None:
        self._local = local
        self._sessions = sessions
        self._settings = settings
        self._connect = connect

    async def keep(self, peer: PeerId, addresses: tuple[TcpAddress, ...]) -> None:
        """Keep one peer connected, until cancelled."""

        def is_ready() -> bool:
            return self._sessions.ready(peer) is not None

        delay_ms = self._settings.redial_min_ms
        turn = 0
        while True:
            if self._local > peer:
                with trio.move_on_after(DIAL_PATIENCE_MS / 1000):  # D3
                    await self._sessions.until(is_ready)
            if not is_ready():
                await self._connect(peer, addresses[turn % len(addresses)])
                turn += 1
            if is_ready():
                delay_ms = self._settings.redial_min_ms
                await self._sessions.until(lambda: not is_ready())
            spread = random.uniform(0.67, 1.33)  # noqa: S311 - spreads dials, keeps no secret
            with trio.move_on_after(delay_ms * spread / 1000):
                await self._sessions.until(is_ready)  # D2
            delay_ms = min(delay_ms * 2, self._settings.redial_max_ms)


def read_persistent_peers(
    settings: NetworkSettings, *, local: PeerId
) -> dict[PeerId, tuple[TcpAddress, ...]]:
    """Return the addresses of each peer to stay connected with, without this node itself.

    Raises:
        ConfigError: An address is wrong or names no peer.
    """
    found: dict[PeerId, tuple[TcpAddress, ...]] = {}
    for text in settings.persistent_peers:
        address = TcpAddress.parse(text)
        if not address.peer_id:
            raise ConfigError(f"no peer id in {text}", hint="end it in /p2p/PEER_ID")
        if address.peer_id != local:
            found[address.peer_id] = (*found.get(address.peer_id, ()), address)
    return found
