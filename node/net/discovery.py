"""Finding peers: whom to dial, whom to ask, what to remember.

Rules
    Y1. This node dials until `outbound_peers` connections are its own choice (persistent peers, and
        a validator's fellow validators, count): who only waits to be dialled can be surrounded.
    Y2. It dials from the book: what answered lately first, then what the configuration names.
    Y3. A validator dials every validator whose address it knows, and asks for those it does not. It
        dials and probes no strangers, unless the configuration names them or they came by
        themselves: whom it dials learns where it is.
    Y4. Candidates are probed in the background: connect, let the peer prove its identity, hang up.
        What answers goes into the book. Probes are few, and rare for one address.
    Y5. Whoever this node has dialled is asked for peers at once, then some peer now and then, in
        the beginning more often.
    Y6. The book and the bans are written now and then, and at the end.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog
import trio

from omninode.errors import Malformed, PeerFault
from omninode.node.net.book import AddressBook
from omninode.node.net.book_file import encode_book, read_book, write_book
from omninode.node.net.exchange import Ask, PeerExchange
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    BOOK_SAVE_INTERVAL_MS,
    DISCOVERY_DIALS_MAX,
    DISCOVERY_INTERVAL_MS,
    PEERS_ASK_INTERVAL_MS,
    PEERS_ASK_SOON_MAX,
    PROBE_INTERVAL_MS,
    PROBE_SAME_ADDRESS_MS,
    PROBED_ADDRESSES_MAX,
    VALIDATORS_ASK_INTERVAL_MS,
)
from omninode.node.net.peers import PeerTable
from omninode.node.net.places import Reach, address_group, reach_of
from omninode.node.net.sessions import Sessions
from omninode.node.net.settings import NetworkSettings, TcpAddress


class DiscoveryPorts:
    """What finding peers needs of the network around it.

    Args:
        connect: Dials an address; returns when the session is open or has failed.
        probe: Lets the peer at an address prove its identity, hangs up; says whether it could.
        ask: Sends a request for peers.
        fault: Makes a peer pay.
        validators: The peers of the validator set now.
        now_ms: The clock.
    """

    def __init__(
        self,
        *,
        connect: Callable[[PeerId, TcpAddress], Awaitable[None]],
        probe: Callable[[TcpAddress], Awaitable[bool]],
        ask: Ask,
        fault: Callable[[PeerId, PeerFault], None],
        validators: Callable[[], frozenset[PeerId]],
        now_ms: Callable[[], int],
    ) -> None:
        self.connect = connect
        self.probe = probe
        self.ask = ask
        self.fault = fault
        self.validators = validators
        self.now_ms = now_ms


class Discovery:
    """Keeps a node among enough peers.

    Args:
        local: This node's id.
        settings: Whom it knows from the start, how many peers it wants.
        sessions: Who is connected.
        table: Who is banned or persistent.
        book: Where peers are.
        exchange: Asks and answers.
        ports: The network around it.
        log: Where to say what happened.
    """

    def __init__(
        self,
        local: PeerId,
        settings: NetworkSettings,
        *,
        sessions: Sessions,
        table: PeerTable,
        book: AddressBook,
        exchange: PeerExchange,
        ports: DiscoveryPorts,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._local = local
        self._settings = settings
        self._sessions = sessions
        self._table = table
        self._book = book
        self._exchange = exchange
        self._ports = ports
        self._log = log
        self._dialling: set[PeerId] = set()
        self._probing: set[TcpAddress] = set()
        self._probed_ms: dict[str, int] = {}
        self._to_ask, self._asking = trio.open_memory_channel[PeerId](DISCOVERY_DIALS_MAX)
        for text in settings.bootstrap:
            book.name(TcpAddress.parse(text))

    def connected(self, peer: PeerId, address: TcpAddress | None) -> None:
        """Note that a peer was let in, at `address` if this node dialled (Y5)."""
        if address is None:
            return
        self._book.reached(address, now_ms=self._ports.now_ms())
        try:
            self._to_ask.send_nowait(peer)
        except trio.WouldBlock:
            # Many came at once: one of the others tells as much.
            return

    def is_validator_missing(self) -> bool:
        """Say whether this node is a validator and does not know where some other one is (Y3)."""
        return any(
            self._sessions.ready(peer) is None and not self._knows_place_of(peer)
            for peer in self._fellow_validators()
        )

    async def run(self) -> None:
        """Find peers until cancelled; then write down what is known (Y6)."""
        await self._restore()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fill, nursery)
                nursery.start_soon(self._probe_all, nursery)
                nursery.start_soon(self._ask_dialled)
                nursery.start_soon(self._ask_now_and_then)
                await self._save_now_and_then()
        finally:
            with trio.CancelScope(shield=True):
                await self._save()

    # --- Dialling ---------------------------------------------------------------------------------

    async def _fill(self, nursery: trio.Nursery) -> NoReturn:
        while True:
            while len(self._dialling) < DISCOVERY_DIALS_MAX and (address := self._next_to_dial()):
                self._dialling.add(address.peer_id)
                nursery.start_soon(self._dial, address)
            await trio.sleep(DISCOVERY_INTERVAL_MS / 1000)

    def _next_to_dial(self) -> TcpAddress | None:
        """Return an address to dial now (Y1 to Y3)."""
        fellows, now_ms = self._fellow_validators(), self._ports.now_ms()

        def wants(peer: PeerId) -> bool:
            return (
                peer not in self._dialling
                and self._sessions.ready(peer) is None
                and not self._is_kept(peer)
                and not self._table.is_banned(peer, now_ms=now_ms)
            )

        validator = self._book.due(now_ms=now_ms, wants=lambda p: p in fellows and wants(p))
        if validator is not None or self._own_connections() >= self._settings.outbound_peers:
            return validator
        may_meet = self._book.is_named if self._is_validator() else lambda _peer: True
        return self._book.due(now_ms=now_ms, wants=lambda p: may_meet(p) and wants(p))

    async def _dial(self, address: TcpAddress) -> None:
        try:
            await self._ports.connect(address.peer_id, address)
            if self._sessions.ready(address.peer_id) is None:
                self._book.failed(address, now_ms=self._ports.now_ms())
        finally:
            self._dialling.discard(address.peer_id)

    def _own_connections(self) -> int:
        """Return how many connections, also coming ones, are this node's choice (Y1)."""
        fellows = self._fellow_validators()
        chosen = sum(
            session.is_ready
            and (
                session.direction == "outbound"
                or session.peer in fellows
                or self._is_kept(session.peer)
            )
            for session in self._sessions.all()
        )
        return chosen + len(self._dialling)

    def _fellow_validators(self) -> frozenset[PeerId]:
        return self._ports.validators() - {self._local} if self._is_validator() else frozenset()

    def _is_validator(self) -> bool:
        return self._local in self._ports.validators()

    def _is_kept(self, peer: PeerId) -> bool:
        """Say whether the dialler of persistent peers has a peer in its care."""
        record = self._table.get(peer)
        return record is not None and record.is_persistent

    def _knows_place_of(self, peer: PeerId) -> bool:
        return self._is_kept(peer) or bool(self._book.of(peer))

    # --- Probing ----------------------------------------------------------------------------------

    async def _probe_all(self, nursery: trio.Nursery) -> NoReturn:
        while True:
            has_room = len(self._probing) < DISCOVERY_DIALS_MAX
            candidate = self._book.take_candidate() if has_room else None
            if candidate is not None and self._may_probe(candidate):
                self._probing.add(candidate)
                nursery.start_soon(self._probe, candidate)
            await trio.sleep(PROBE_INTERVAL_MS / 1000)

    def _may_probe(self, candidate: TcpAddress) -> bool:
        """Say whether a candidate is worth a try, and no nuisance to who is there (Y4)."""
        now_ms, peer = self._ports.now_ms(), candidate.peer_id
        came_by_itself = self._sessions.ready(peer) is not None
        if self._is_validator() and not (came_by_itself or peer in self._fellow_validators()):
            return False
        is_known = any(entry.address == candidate for entry in self._book.of(candidate.peer_id))
        if (
            is_known
            or candidate in self._probing
            or self._table.is_banned(candidate.peer_id, now_ms=now_ms)
        ):
            return False
        if reach_of(candidate.host) is Reach.LOOPBACK:
            return True
        group = address_group(candidate.host)
        last_ms = self._probed_ms.pop(group, 0)
        is_rare = now_ms - last_ms >= PROBE_SAME_ADDRESS_MS
        if len(self._probed_ms) >= PROBED_ADDRESSES_MAX:
            del self._probed_ms[next(iter(self._probed_ms))]
        self._probed_ms[group] = now_ms if is_rare else last_ms
        return is_rare

    async def _probe(self, candidate: TcpAddress) -> None:
        try:
            if await self._ports.probe(candidate):
                self._book.reached(candidate, now_ms=self._ports.now_ms())
        finally:
            self._probing.discard(candidate)

    # --- Asking -----------------------------------------------------------------------------------

    async def _ask_dialled(self) -> None:
        async for peer in self._asking:
            await self._ask(peer)

    async def _ask_now_and_then(self) -> NoReturn:
        waited_ms = asked = 0
        while True:
            await trio.sleep(VALIDATORS_ASK_INTERVAL_MS / 1000)
            waited_ms += VALIDATORS_ASK_INTERVAL_MS
            peers, wanted = self._sessions.ready_peers(), self._settings.outbound_peers
            is_new = asked < PEERS_ASK_SOON_MAX and self._own_connections() < wanted
            is_time = wanted and (is_new or waited_ms >= PEERS_ASK_INTERVAL_MS)
            if peers and (is_time or self.is_validator_missing()):
                waited_ms = 0 if is_time else waited_ms
                asked += 1
                await self._ask(random.choice(peers))  # noqa: S311 - keeps no secret

    async def _ask(self, peer: PeerId) -> None:
        try:
            await self._exchange.ask(peer, self._ports.ask)
        except PeerFault as fault:
            self._ports.fault(peer, fault)

    # --- Remembering ------------------------------------------------------------------------------

    async def _restore(self) -> None:
        path = self._settings.book_path
        if path is None:
            return
        try:
            entries, bans = await trio.to_thread.run_sync(
                partial(read_book, path, self._settings.network_tag)
            )
        except Malformed as error:
            self._log.warning("address book put aside", path=str(path), error=str(error))
            return
        now_ms = self._ports.now_ms()
        for entry in entries:
            self._book.restore(entry, now_ms=now_ms)
        for ban in bans:
            self._table.restore_ban(ban, now_ms=now_ms)

    async def _save_now_and_then(self) -> NoReturn:
        while True:
            await trio.sleep(BOOK_SAVE_INTERVAL_MS / 1000)
            await self._save()

    async def _save(self) -> None:
        path: Path | None = self._settings.book_path
        if path is None or not (self._book.is_changed or self._table.is_changed):
            return
        self._book.is_changed = self._table.is_changed = False
        bans = self._table.bans(now_ms=self._ports.now_ms())
        content = encode_book(self._settings.network_tag, self._book.entries(), bans)
        try:
            await trio.to_thread.run_sync(partial(write_book, path, content))
        except OSError as error:
            self._log.warning("address book not written", path=str(path), error=error.strerror)
