"""Asking peers for peers: `/omninode/peers/1`.

Rules
    X1. The asker says on which port it listens itself, 0 for nowhere. With the IP address of its
        connection that makes a candidate; it can name no address but its own this way.
    X2. The answer holds a few addresses that the answerer has reached itself, chosen at random.
    X3. Where validators are is told to validators only: the fewer know, the harder they are to
        flood. Others reach them through the peers that they are told of, or know them already.
    X4. What is heard is a candidate of the address book, never more (K2). An answer in bad form
        costs the peer; one with addresses that do not answer costs it nothing, since peers go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.net.book import AddressBook
from omninode.node.net.identity import PeerId, is_peer_id
from omninode.node.net.limits import (
    PEERS_REPLY_BYTES_MAX,
    PEERS_REQUEST_BYTES_MAX,
    PEERS_TELL_INTERVAL_MS,
    PEERS_TOLD_MAX,
    PENALTY_MALFORMED,
)
from omninode.node.net.places import is_ip, reach_of
from omninode.node.net.requests import RequestFailed, RequestRefused
from omninode.node.net.sessions import Sessions
from omninode.node.net.settings import TcpAddress

PEERS_PROTOCOL: Final = "/omninode/peers/1"
_PORT_END: Final = 1 << 16

Ask = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Sends one request of this protocol and returns its answer; raises as `Network.request`."""


class PeersRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for addresses.

    Attributes:
        port: Where the asker listens (X1).
    """

    port: int


class PeerAddress(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a peer was reached.

    Attributes:
        peer_id: Its id in base58.
        host: Its IP address as text.
        port: Its TCP port.
    """

    peer_id: str
    host: str
    port: int


class PeersReply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The addresses told (X2)."""

    addresses: tuple[PeerAddress, ...]


def decode_request(data: bytes) -> PeersRequest:
    """Read what an asker said.

    Raises:
        Malformed: It is no request.
    """
    request = decode(data, PeersRequest, size_max=PEERS_REQUEST_BYTES_MAX)
    if not 0 <= request.port < _PORT_END:
        raise Malformed(f"port {request.port}")
    return request


def decode_reply(data: bytes) -> list[TcpAddress]:
    """Read an answer.

    Raises:
        Malformed: It is no answer, or an address in it is none.
    """
    reply = decode(data, PeersReply, size_max=PEERS_REPLY_BYTES_MAX)
    if len(reply.addresses) > PEERS_TOLD_MAX:
        raise Malformed(f"{len(reply.addresses)} addresses, at most {PEERS_TOLD_MAX} allowed")
    for told in reply.addresses:
        if not (is_peer_id(told.peer_id) and 0 < told.port < _PORT_END and is_ip(told.host)):
            raise Malformed("an address that is none")
    return [TcpAddress(told.host, told.port, told.peer_id) for told in reply.addresses]


class PeerExchange:
    """Tells peers about peers, and asks them.

    Args:
        book: Where answers come from and go to.
        sessions: Who is connected.
        validators: The peers of the validator set now (X3).
        own_port: Where this node listens, for a connection to an IP address (X1).
        is_banned: Whether a peer is not worth telling of.
        now_ms: The clock.
    """

    def __init__(
        self,
        book: AddressBook,
        sessions: Sessions,
        *,
        validators: Callable[[], frozenset[PeerId]],
        own_port: Callable[[str], int],
        is_banned: Callable[[PeerId], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._book = book
        self._sessions = sessions
        self._validators = validators
        self._own_port = own_port
        self._is_banned = is_banned
        self._now_ms = now_ms

    async def serve(self, peer: PeerId, payload: bytes) -> bytes:
        """Answer a request (X1 to X3).

        Raises:
            Malformed: It is no request.
            RequestRefused: The peer was told a moment ago.
        """
        request = decode_request(payload)
        session = self._sessions.ready(peer)
        if session is None:
            raise RequestRefused("not connected")
        now_ms = self._now_ms()
        if now_ms - session.told_peers_ms < PEERS_TELL_INTERVAL_MS:
            raise RequestRefused("asked again too soon")
        session.told_peers_ms = now_ms
        host = session.socket.remote.host
        if request.port:
            self._book.offer([TcpAddress(host, request.port, peer)], source=host)
        reach = reach_of(host)
        if reach is None:
            return encode(PeersReply(()))
        validators = self._validators()

        def may_tell(other: PeerId) -> bool:
            is_secret = other in validators and peer not in validators
            return other != peer and not is_secret and not self._is_banned(other)

        told = self._book.sample(PEERS_TOLD_MAX, reach=reach, now_ms=now_ms, may_tell=may_tell)
        return encode(PeersReply(tuple(PeerAddress(a.peer_id, a.host, a.port) for a in told)))

    async def ask(self, peer: PeerId, send: Ask) -> int:
        """Ask a peer; return how many new candidates it told (X4)."""
        session = self._sessions.ready(peer)
        if session is None:
            return 0
        host = session.socket.remote.host
        try:
            answer = await send(peer, encode(PeersRequest(self._own_port(host))))
        except (RequestFailed, PeerFault):
            return 0
        try:
            addresses = decode_reply(answer)
        except Malformed as error:
            raise PeerFault("bad_peers", str(error), penalty=PENALTY_MALFORMED) from None
        return self._book.offer(addresses, source=host)
