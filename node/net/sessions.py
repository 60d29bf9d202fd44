"""The sessions that are open, at most one per peer.

Rules
    R1. Of two connections to a peer, the one dialled by the lower id stays; of two dialled by the
        same side, the newer. Both ends decide alike, so they keep the same one.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from omninode.node.net.hardening import GuardedYamux
from omninode.node.net.identity import PeerId
from omninode.node.net.session import Session


class Sessions:
    """Who is connected.

    Args:
        local: This node's id.
    """

    def __init__(self, local: PeerId) -> None:
        self._local = local
        self._by_peer: dict[PeerId, Session] = {}
        self._by_connection: dict[GuardedYamux, Session] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._by_connection)

    def all(self) -> tuple[Session, ...]:
        """Return every session, also those that are about to end."""
        return tuple(self._by_connection.values())

    def of_connection(self, connection: GuardedYamux) -> Session | None:
        """Return the session on a connection."""
        return self._by_connection.get(connection)

    def ready(self, peer: PeerId) -> Session | None:
        """Return the session with a peer if its hello is done."""
        session = self._by_peer.get(peer)
        return session if session is not None and session.is_ready else None

    def ready_peers(self) -> tuple[PeerId, ...]:
        """Return the peers whose hello is done."""
        return tuple(peer for peer, session in self._by_peer.items() if session.is_ready)

    def is_current(self, session: Session) -> bool:
        """Say whether a session is the one with its peer."""
        return self._by_peer.get(session.peer) is session

    def add(self, session: Session) -> Session | None:
        """Take a session in; return the one that must go for it (R1), perhaps itself."""
        self._by_connection[session.connection] = session
        older = self._by_peer.get(session.peer)
        if older is not None and not self._replaces(session, older):
            return session
        self._by_peer[session.peer] = session
        self.notify()
        return older

    def remove(self, session: Session) -> None:
        """Forget a session that ended."""
        self._by_connection.pop(session.connection, None)
        if self.is_current(session):
            del self._by_peer[session.peer]
        self.notify()

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the sessions holds."""
        while not condition():
            await self._changed.wait()

    def _replaces(self, newer: Session, older: Session) -> bool:
        if newer.direction == older.direction:
            return True
        lower_dials = "outbound" if self._local < newer.peer else "inbound"
        return newer.direction == lower_dials
