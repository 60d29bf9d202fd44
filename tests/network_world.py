"""Real networks on real loopback sockets, all in one process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
import trio

from omninode.node.net.identity import NodeIdentity
from omninode.node.net.service import Network
from omninode.node.net.settings import NetworkSettings, Plane

TAG = "ab" * 32
DEADLINE_S = 10


# A later number has a lower id, and so dials an earlier one at once (D3).
_IDENTITIES = sorted(
    (NodeIdentity.from_seed(hashlib.sha256(b"net test %d" % n).digest()) for n in range(16)),
    key=lambda identity: identity.peer_id,
    reverse=True,
)


def identity(number: int) -> NodeIdentity:
    """Return the identity of test node `number`."""
    return _IDENTITIES[number]


async def until(condition: Callable[[], Any], *, within_s: float = DEADLINE_S) -> None:
    """Wait for a condition, and fail when it does not come true."""
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.005)


@dataclass
class Node:
    """A network under test and what it was told."""

    network: Network
    log: structlog.testing.LogCapture
    frames: dict[Plane, list[tuple[str, bytes]]] = field(
        default_factory=lambda: {plane: [] for plane in Plane}
    )
    came: list[str] = field(default_factory=list)
    went: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.network.peer_id

    @property
    def address(self) -> str:
        return f"{self.network.listen_addresses()[0]}/p2p/{self.id}"

    def knows(self, other: Node) -> bool:
        return other.id in self.network.connected_peers()

    def info(self, other: Node | str) -> Any:
        wanted = other if isinstance(other, str) else other.id
        return next(info for info in self.network.peers() if info.id == wanted)

    def events(self, name: str) -> list[Any]:
        return [entry for entry in self.log.entries if entry["event"] == name]


class Net:
    """Starts nodes and stops them together."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.settings = NetworkSettings(
            listen=("/ip4/127.0.0.1/tcp/0",),
            network_tag=TAG,
            ping_interval_ms=200,
            ping_timeout_ms=1_000,
            redial_min_ms=50,
            redial_max_ms=400,
        )

    def make(self, number: int, **changes: Any) -> Node:
        capture = structlog.testing.LogCapture()
        log = structlog.wrap_logger(
            None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
        )
        settings = replace(self.settings, moniker=f"node{number}", **changes)
        node = Node(Network(settings, identity(number), log=log), capture)
        for plane in Plane:
            node.network.on_frame(plane, _collector(node, plane))
        node.network.on_connect(node.came.append)
        node.network.on_disconnect(node.went.append)
        return node

    async def start(self, number: int, *, dials: tuple[Node, ...] = (), **changes: Any) -> Node:
        node = self.make(number, persistent_peers=tuple(d.address for d in dials), **changes)
        await self.nursery.start(node.network.run)
        return node

    async def pair(self, **changes: Any) -> tuple[Node, Node]:
        """Start two connected validators."""
        changes.setdefault("validator_peers", frozenset({identity(1).peer_id, identity(2).peer_id}))
        one = await self.start(1, **changes)
        two = await self.start(2, dials=(one,), **changes)
        await until(lambda: one.knows(two) and two.knows(one))
        return one, two

    @asynccontextmanager
    async def running(self, node: Node) -> AsyncIterator[trio.CancelScope]:
        """Run a node that may be stopped before the test ends."""
        async with trio.open_nursery() as nursery:
            await nursery.start(node.network.run)
            yield nursery.cancel_scope
            nursery.cancel_scope.cancel()


def _collector(node: Node, plane: Plane) -> Callable[[str, bytes], Awaitable[None]]:
    async def collect(peer: str, frame: bytes) -> None:
        node.frames[plane].append((peer, frame))

    return collect
