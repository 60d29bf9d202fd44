"""The network: who is connected, what they may do, and the ways to talk to them.

Rules
    W1. A peer is let in when it is not banned, there is room, and its hello names this network.
        Room for validators and persistent peers is never taken by strangers.
    W2. One connection per peer (R1). A persistent peer is dialled again for ever (D1).
    W3. Whoever breaks a rule pays: score, then disconnect, then a ban (T2).
    W4. `BrokenInvariant` and `StorageFault` out of a handler stop the network, and so the node.
    W5. The validator set may change at any time. Who leaves it becomes a peer like others, who
        comes gets its planes; connections stay.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NoReturn

import structlog
import trio
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.tools.anyio_service import background_trio_service

from omninode.errors import BrokenInvariant, PeerFault
from omninode.node.net.admission import Admission
from omninode.node.net.allowance import Allowance
from omninode.node.net.book import AddressBook
from omninode.node.net.dialer import Dialer, read_persistent_peers
from omninode.node.net.discovery import Discovery, DiscoveryPorts
from omninode.node.net.exchange import PEERS_PROTOCOL, PeerExchange
from omninode.node.net.gossip import GossipRelay
from omninode.node.net.handshakes import DialFailed, Handshakes
from omninode.node.net.hardening import GuardedYamux, guarded
from omninode.node.net.host import ConnectionNotices, build_host
from omninode.node.net.identity import NodeIdentity, PeerId
from omninode.node.net.limits import (
    CLOSE_TIMEOUT_MS,
    FRAME_BYTES_MAX,
    OUTBOUND_SHARE,
    PEERS_ASK_TIMEOUT_MS,
    PEERS_REPLY_BYTES_MAX,
    PEERS_REQUEST_BYTES_MAX,
    PENALTY_BROKEN_STREAM,
    STRANGER_READS_BURST,
    STRANGER_READS_PER_S,
)
from omninode.node.net.peers import PeerInfo, PeerRecord, PeerTable, Verdict
from omninode.node.net.places import address_group
from omninode.node.net.pubsub import GossipNetwork
from omninode.node.net.requests import RequestFailed, RequestProtocol, ask
from omninode.node.net.serving import StreamServer
from omninode.node.net.session import Session, SessionRefused
from omninode.node.net.sessions import Sessions
from omninode.node.net.settings import (
    FrameHandler,
    MessageCheck,
    NetworkSettings,
    Plane,
    RequestHandler,
    TcpAddress,
)
from omninode.node.net.transport import Listener

PeerHandler = Callable[[PeerId], None]


class Network:
    """The peer layer of one node.

    Args:
        settings: What it is told.
        identity: The node's key among peers.
        log: Where to say what happened.

    Raises:
        ConfigError: An address in the settings is wrong.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        identity: NodeIdentity,
        *,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.peer_id = identity.peer_id
        self._settings = settings
        self._log = log
        self._validators = settings.validator_peers
        self._table = PeerTable(self._validators)
        self._persistent = read_persistent_peers(settings, local=self.peer_id)
        for peer, addresses in self._persistent.items():
            for address in addresses:
                self._table.keep(peer, TcpAddress(address.host, address.port).text())
        self._admission = Admission(
            connections_max=settings.connections_max,
            connections_per_ip_max=settings.connections_per_ip_max,
            reserved=self._places_reserved(),
        )
        self._listener = Listener(
            tuple(TcpAddress.parse(text) for text in settings.listen), settings.private_key
        )
        self._host = build_host(identity, addresses=self.listen_addresses)
        self._sessions = Sessions(self.peer_id)
        self._server = StreamServer(
            self._host, self._sessions, pay=self.penalize, fail=self._fail, log=log
        )
        self._gossip = GossipRelay(
            self._host,
            network_tag=settings.network_tag,
            network=GossipNetwork(
                peer_of=self._server.peer_of,
                fault=self.penalize,
                call=self._server.call,
                is_favoured=self._table.is_guaranteed,
                ready_peers=self._sessions.ready_peers,
            ),
            log=log,
        )
        self._handshakes = Handshakes(
            self._host,
            self._admission,
            is_known=self._is_known_host,
            now_ms=_now_ms,
            private_key=settings.private_key,
            log=log,
        )
        self._dialer = Dialer(self.peer_id, self._sessions, settings, connect=self._connect)
        self._protocols: dict[str, RequestProtocol] = {}
        self._connect_handlers: list[PeerHandler] = []
        self._disconnect_handlers: list[PeerHandler] = []
        self._discovery = self._build_discovery()
        self._nursery: trio.Nursery | None = None
        self._failure: Exception | None = None
        self._stopping = trio.Event()

    def _build_discovery(self) -> Discovery:
        rng = random.Random()  # noqa: S311 - chooses among equals, keeps no secret
        book = AddressBook(self.peer_id, rng=rng)
        exchange = PeerExchange(
            book,
            self._sessions,
            validators=lambda: self._validators,
            own_port=self._listener.port_for,
            is_banned=lambda peer: self._table.is_banned(peer, now_ms=_now_ms()),
            now_ms=_now_ms,
        )
        self.on_request(
            PEERS_PROTOCOL,
            exchange.serve,
            max_request_bytes=PEERS_REQUEST_BYTES_MAX,
            max_response_bytes=PEERS_REPLY_BYTES_MAX,
        )
        ports = DiscoveryPorts(
            connect=self._connect,
            probe=self._handshakes.probe,
            ask=self._ask_for_peers,
            fault=self.penalize,
            validators=lambda: self._validators,
            now_ms=_now_ms,
        )
        return Discovery(
            self.peer_id,
            self._settings,
            sessions=self._sessions,
            table=self._table,
            book=book,
            exchange=exchange,
            ports=ports,
            log=self._log,
        )

    async def _ask_for_peers(self, peer: PeerId, payload: bytes) -> bytes:
        return await self.request(peer, PEERS_PROTOCOL, payload, timeout_ms=PEERS_ASK_TIMEOUT_MS)

    # --- Wiring, before or after the start --------------------------------------------------------

    def on_frame(self, plane: Plane, handler: FrameHandler) -> None:
        """Hand every frame of a plane to `handler`, one after the other for each peer."""
        self._server.serve_plane(plane, handler)

    def on_request(
        self,
        protocol: str,
        handler: RequestHandler,
        *,
        max_request_bytes: int,
        max_response_bytes: int,
    ) -> None:
        """Answer requests of `protocol`, and be able to ask them.

        Raises:
            BrokenInvariant: The name is taken or not of the form `/omninode/<name>/<version>`.
        """
        if not protocol.startswith("/omninode/") or protocol in self._protocols:
            raise BrokenInvariant(f"can not register {protocol}")
        registered = RequestProtocol(protocol, handler, max_request_bytes, max_response_bytes)
        self._protocols[protocol] = registered
        self._server.serve_requests(registered)

    def on_connect(self, handler: PeerHandler) -> None:
        """Call `handler` whenever a peer was let in."""
        self._connect_handlers.append(handler)

    def on_disconnect(self, handler: PeerHandler) -> None:
        """Call `handler` whenever a peer that was let in is gone."""
        self._disconnect_handlers.append(handler)

    def subscribe(
        self, topic: str, handler: FrameHandler, *, check: MessageCheck = lambda _peer, _data: True
    ) -> None:
        """Hear a gossip topic; the handler gets the id of who wrote the message.

        Args:
            topic: Its short name; the network's tag is added.
            handler: Takes the messages, one after the other.
            check: Whether a message may be passed on; called with who forwarded it.
        """
        self._gossip.subscribe(topic, handler, check)

    def set_validator_peers(self, validators: frozenset[PeerId]) -> None:
        """Take another validator set: open planes to who came, close them to who left (W5)."""
        self._validators = validators
        self._table.set_validators(validators)
        self._admission.reserve(self._places_reserved())
        for session in self._sessions.all():
            session.set_planes(open_now=self._has_planes(session.peer))
            self._set_pace(session)
            ip, is_guaranteed = session.socket.remote.host, self._table.is_guaranteed(session.peer)
            if is_guaranteed and session.holds_place:
                self._admission.leave(ip)
                session.holds_place = False
            elif not (is_guaranteed or session.holds_place) and session.direction == "inbound":
                self._admission.take(ip)
                session.holds_place = True

    # --- Talking ----------------------------------------------------------------------------------

    def send(self, peer: PeerId, plane: Plane, frame: bytes) -> bool:
        """Queue one frame for a validator; never waits.

        Returns:
            False if it is not connected, its queue is full, or the frame is too long.
        """
        session = self._sessions.ready(peer)
        link = session.links.get(plane) if session is not None else None
        if link is None:
            return False
        if len(frame) > FRAME_BYTES_MAX:
            self._log.error("frame too long to send", bytes=len(frame), plane=plane.name)
            return False
        return link.push(frame)

    def broadcast(self, plane: Plane, frame: bytes) -> int:
        """Queue one frame for every connected validator; return for how many."""
        return sum(self.send(peer, plane, frame) for peer in self._sessions.ready_peers())

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, timeout_ms: int
    ) -> bytes:
        """Ask a peer and return its answer.

        Raises:
            RequestFailed: No answer, for a reason that is nobody's fault.
            PeerFault: What came is no answer; the peer has paid for it already.
            BrokenInvariant: The protocol was not registered or the question is too long.
        """
        registered = self._protocols.get(protocol)
        if registered is None or len(payload) > registered.request_bytes_max:
            raise BrokenInvariant(f"can not ask {protocol} with {len(payload)} bytes")
        session = self._sessions.ready(peer)
        if session is None:
            raise RequestFailed("not_connected")
        try:
            with trio.fail_after(timeout_ms / 1000):
                async with session.requests:
                    return await ask(session.connection, registered, payload)
        except trio.TooSlowError:
            raise RequestFailed("timeout", f"no answer in {timeout_ms} ms") from None
        except PeerFault as fault:
            self.penalize(peer, fault)
            raise

    def publish(self, topic: str, data: bytes) -> bool:
        """Gossip a message; False if it is too long or too many wait. It may be lost on the way."""
        return self._gossip.publish(topic, data)

    def speak(self, topic: str) -> None:
        """Mean to publish to a topic without hearing it; before the start."""
        self._gossip.speak(topic)

    def has_listeners(self, topic: str) -> bool:
        """Say whether a connected peer hears a topic that this node hears or speaks to."""
        return self._gossip.has_listeners(topic)

    @property
    def validator_peers(self) -> frozenset[PeerId]:
        """The peers of the validator set, as `set_validator_peers` had it last."""
        return self._validators

    # --- Knowing ----------------------------------------------------------------------------------

    def peers(self) -> list[PeerInfo]:
        """Return what is known of every peer: the connected first, then the banned."""
        infos = [self._info(record) for record in self._table.records()]
        return sorted(
            infos,
            key=lambda i: (i.connected_since_ms is None, not i.banned_until_ms, i.id),
        )

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers that are let in now."""
        return self._sessions.ready_peers()

    def listen_addresses(self) -> tuple[str, ...]:
        """Return the multiaddresses where this node really listens."""
        return tuple(address.text() for address in self._listener.addresses)

    def penalize(self, peer: PeerId, fault: PeerFault) -> None:
        """Take a fault's penalty from a peer's score; disconnect or ban it when it is too low."""
        verdict = self._table.fault(peer, fault, now_ms=_now_ms())
        self._log.info(
            "peer fault",
            peer=peer,
            reason=fault.reason,
            detail=str(fault),
            score=self._table.score(peer, now_ms=_now_ms()),
            verdict=verdict.value,
        )
        if verdict is Verdict.KEEP or self._nursery is None:
            return
        for session in self._sessions.all():
            if session.peer == peer:
                self._nursery.start_soon(session.abort, f"{verdict.value}: {fault.reason}")

    # --- Running ----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, dial and serve until cancelled; never returns on its own.

        Raises:
            ConfigError: An address to listen on is taken.
            BrokenInvariant, StorageFault: From a handler (W4).
        """
        swarm = self._host.get_network()
        swarm.register_notifee(ConnectionNotices(self._take_in))
        await self._listener.bind()
        try:
            async with background_trio_service(swarm), trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._listener.serve, self._handshakes.accept)
                nursery.start_soon(self._gossip.run)
                nursery.start_soon(self._discovery.run)
                for peer, addresses in self._persistent.items():
                    nursery.start_soon(self._dialer.keep, peer, addresses)
                self._log.info("listening for peers", addresses=self.listen_addresses())
                task_status.started()
                await self._stopping.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_MS / 1000):
                await self._listener.close()
                await self._handshakes.close()
        self._raise_failure()

    def _raise_failure(self) -> NoReturn:
        if self._failure is not None:
            raise self._failure
        raise BrokenInvariant("the network stopped by itself")

    def _fail(self, error: Exception) -> None:
        """Stop the network with an error of ours (W4)."""
        self._failure = self._failure or error
        self._stopping.set()

    def _is_known_host(self, ip: str) -> bool:
        """Say whether a validator or persistent peer is known to be at an address (M3)."""
        group = address_group(ip)
        return any(
            address_group(TcpAddress.parse(text).host) == group
            for record in self._table.records()
            if record.is_validator or record.is_persistent
            for text in record.addresses
        ) or any(
            self._table.is_guaranteed(session.peer)
            and address_group(session.socket.remote.host) == group
            for session in self._sessions.all()
        )

    async def _connect(self, peer: PeerId, address: TcpAddress) -> None:
        """Dial a peer; return when its session is open or the attempt has failed."""
        record = self._table.see(peer, now_ms=_now_ms())
        if self._table.is_banned(peer, now_ms=_now_ms()):
            return
        try:
            connection = await self._handshakes.connect(peer, address)
        except DialFailed as failure:
            record.last_error = f"dial: {failure}"
            return
        session = self._sessions.of_connection(connection)
        if session is not None:
            await session.ready.wait()

    def _take_in(self, swarm_connection: SwarmConn) -> None:
        """Decide on a connection whose other end is proven (W1, W2)."""
        connection = guarded(swarm_connection)
        if self._nursery is None:
            raise BrokenInvariant("a connection before the start")
        peer = connection.peer_id.to_base58()
        session = Session(
            peer=peer,
            connection=connection,
            direction="outbound" if connection.is_initiator else "inbound",
            settings=self._settings,
            has_planes=self._has_planes(peer),
        )
        connection.on_stream_fault = self._on_stream_fault
        self._set_pace(session)
        refusal = self._why_not(session)
        if refusal:
            self._log.debug("peer turned away", peer=peer, reason=refusal)
            session.end_reason = refusal
            self._nursery.start_soon(session.abort, refusal)
        else:
            loser = self._sessions.add(session)
            if loser is not None:
                self._nursery.start_soon(loser.abort, "replaced by another connection")
            self._nursery.start_soon(self._run_session, session)
        connection.session_ready.set()

    def _why_not(self, session: Session) -> str:
        """Return why a peer is not let in, or an empty text; takes its place if it is (W1)."""
        if session.peer == self.peer_id:
            return "this is myself"
        if self._table.is_banned(session.peer, now_ms=_now_ms()):
            return "banned"
        if self._table.is_guaranteed(session.peer):
            return ""
        if session.direction == "outbound":
            return ""
        refusal = self._admission.enter(session.socket.remote.host)
        session.holds_place = not refusal
        return refusal

    async def _run_session(self, session: Session) -> None:
        record = self._table.see(session.peer, now_ms=_now_ms())
        if session.direction == "outbound":
            self._table.add_address(session.peer, session.socket.remote.text())
        was_ready = False

        def on_ready() -> None:
            nonlocal was_ready
            was_ready = True
            self._on_ready(session, record)

        try:
            await session.run(on_ready)
        except SessionRefused as refusal:
            session.end_reason = session.end_reason or str(refusal)
        except PeerFault as fault:
            session.end_reason = session.end_reason or fault.reason
            self.penalize(session.peer, fault)
        finally:
            self._forget(session, record, was_ready=was_ready)
        await session.abort("connection ended")

    def _set_pace(self, session: Session) -> None:
        """Have a stranger's connection read at a bounded rate, so that none slows votes down."""
        if self._table.is_guaranteed(session.peer):
            session.socket.pace = None
        elif session.socket.pace is None:
            session.socket.pace = Allowance(STRANGER_READS_PER_S, burst=STRANGER_READS_BURST)

    def _has_planes(self, peer: PeerId) -> bool:
        return {peer, self.peer_id} <= self._validators

    def _places_reserved(self) -> int:
        """Return how many connections are not for strangers that dial (W1)."""
        most = self._settings.connections_max
        own_choice = min(self._settings.outbound_peers, most // OUTBOUND_SHARE)
        return len(self._validators.union(self._persistent) - {self.peer_id}) + own_choice

    def _on_ready(self, session: Session, record: PeerRecord) -> None:
        if not self._sessions.is_current(session):
            return
        record.moniker = session.moniker
        record.connected_since_ms = _now_ms()
        record.last_error = ""
        self._log.info(
            "peer connected", peer=session.peer, moniker=session.moniker, way=session.direction
        )
        self._sessions.notify()
        self._gossip.peer_ready()
        remote = session.socket.remote
        dialled = TcpAddress(remote.host, remote.port, session.peer)
        self._discovery.connected(
            session.peer, dialled if session.direction == "outbound" else None
        )
        for handler in self._connect_handlers:
            handler(session.peer)

    def _forget(self, session: Session, record: PeerRecord, *, was_ready: bool) -> None:
        """Take an ended session out of the books."""
        was_current = self._sessions.is_current(session)
        session.is_ready = False
        session.ready.set()
        self._sessions.remove(session)
        if session.holds_place:
            self._admission.leave(session.socket.remote.host)
        self._gossip.peer_gone(session.peer)
        record.last_seen_ms = _now_ms()
        if not was_current:
            return
        record.last_error = session.end_reason
        record.connected_since_ms = None
        if was_ready:
            self._log.info("peer disconnected", peer=session.peer, reason=session.end_reason)
            for handler in self._disconnect_handlers:
                handler(session.peer)
        else:
            self._log.info("peer refused", peer=session.peer, reason=session.end_reason)

    def _on_stream_fault(self, connection: GuardedYamux, error: Exception) -> None:
        """Price a stream that failed inside libp2p, unless its connection was ending anyway."""
        if connection.event_shutting_down.is_set() or isinstance(error, MuxedStreamError):
            return
        fault = PeerFault("broken_stream", repr(error)[:200], penalty=PENALTY_BROKEN_STREAM)
        self.penalize(connection.peer_id.to_base58(), fault)

    def _info(self, record: PeerRecord) -> PeerInfo:
        session = self._sessions.ready(record.id)
        is_banned = self._table.is_banned(record.id, now_ms=_now_ms())
        return PeerInfo(
            id=record.id,
            moniker=record.moniker,
            addresses=tuple(record.addresses),
            direction=session.direction if session is not None else None,
            connected_since_ms=record.connected_since_ms,
            rtt_ms=session.rtt_ms if session is not None else None,
            score=self._table.score(record.id, now_ms=_now_ms()),
            is_validator=record.is_validator,
            is_persistent=record.is_persistent,
            planes=tuple(p for p, link in session.links.items() if link.is_up) if session else (),
            last_error=record.last_error,
            banned_until_ms=record.banned_until_ms if is_banned else 0,
            ban_reason=record.ban_reason if is_banned else "",
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
