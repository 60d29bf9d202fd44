"""What the network is told at its start, and the names it shares with its users."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from omninode.errors import ConfigError
from omninode.node.net.identity import PeerId


class Plane(enum.Enum):
    """A kind of direct stream between validators, so that a vote never waits behind a body."""

    VOTE = "/omninode/vote/1"
    DATA = "/omninode/data/1"


FrameHandler = Callable[[PeerId, bytes], Awaitable[object]]
"""Takes one frame of a peer. May raise `PeerFault` or `Malformed`: the peer pays for it.

One that takes gossip gets the id of who wrote the message, and what it raises costs who passed it
on; if it returns `False`, the message is not passed on, and costs nobody.
"""

RequestHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers one request of a peer. May raise as `FrameHandler`, or `RequestRefused`."""

MessageCheck = Callable[[PeerId, bytes], bool]
"""Says quickly whether a gossip message may be passed on; the peer is the one that forwarded it."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Settings of the peer layer; defaults are those of a node on the internet.

    Attributes:
        listen: Multiaddresses `/ip4|ip6/HOST/tcp/PORT`; port 0 takes a free one.
        network_tag: Hex of the genesis hash. Names topics and is compared in the hello, so that
            networks that share a name share nothing else.
        moniker: Name shown to other people.
        persistent_peers: Multiaddresses that end in `/p2p/PEER_ID`: kept connected, never turned
            away for lack of room.
        bootstrap: Multiaddresses that end in `/p2p/PEER_ID`: dialled while there are too few peers.
        outbound_peers: How many connections of its own choice a node wants.
        book_path: Where the address book is kept; None keeps none.
        private_key: The 32 bytes that members of a private network share; None for a public one.
        validator_peers: Peers that may open vote and data streams, at the start. Planes exist only
            between two members of this set.
        connections_max: Most connections at a time.
        connections_per_ip_max: Most connections of strangers from one IP address.
        ping_interval_ms: Pause between two pings of a connection.
        ping_timeout_ms: A ping without an answer for this long: the peer hangs, hard close.
        redial_min_ms: First pause before a persistent peer is dialled again.
        redial_max_ms: Longest such pause.
    """

    listen: tuple[str, ...]
    network_tag: str
    moniker: str = "node"
    persistent_peers: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    outbound_peers: int = 8
    book_path: Path | None = None
    private_key: bytes | None = field(default=None, repr=False)
    validator_peers: frozenset[PeerId] = frozenset()
    connections_max: int = 128
    connections_per_ip_max: int = 32
    ping_interval_ms: int = 3_000
    ping_timeout_ms: int = 4_000
    redial_min_ms: int = 500
    redial_max_ms: int = 15_000


@dataclass(frozen=True)
class TcpAddress:
    """Where a peer can be reached.

    Attributes:
        host: IP address or name.
        port: TCP port.
        peer_id: Who must answer there; empty in an address to listen on.
    """

    host: str
    port: int
    peer_id: PeerId = ""

    @classmethod
    def parse(cls, text: str) -> TcpAddress:
        """Read `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/PEER_ID]`.

        Raises:
            ConfigError: It is not of this form.
        """
        parts = text.split("/")
        if (
            len(parts) in {5, 7}
            and parts[0] == ""
            and parts[1] in {"ip4", "ip6", "dns", "dns4", "dns6"}
            and parts[3] == "tcp"
            and parts[4].isascii()
            and parts[4].isdigit()
            and int(parts[4]) < 1 << 16
            and (len(parts) == 5 or (parts[5] == "p2p" and parts[6]))
        ):
            return cls(parts[2], int(parts[4]), parts[6] if len(parts) == 7 else "")
        raise ConfigError(
            f"not a TCP multiaddress: {text}", hint="for example /ip4/127.0.0.1/tcp/36650"
        )

    def text(self) -> str:
        """Return the multiaddress."""
        kind = "ip6" if ":" in self.host else "ip4" if self.host[-1:].isdigit() else "dns"
        suffix = f"/p2p/{self.peer_id}" if self.peer_id else ""
        return f"/{kind}/{self.host}/tcp/{self.port}{suffix}"
