"""Says where a node's state left the network's: at which height, in which module (PROTOCOL.md P5).

Rules
    V1. What is compared are the parts of the app hash, which every node stores per height.
    V2. A peer's parts are believed only as far as they chain, from the last app hash on which both
        agree, to the app hash that a final header states.
    V3. A peer gets a bounded number of them a second; beyond it the answer is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog
import trio

from omninode.consensus.driver.budget import Budget
from omninode.consensus.driver.service import Halted
from omninode.consensus.types import Count
from omninode.dex.hashing import chain_hash, differing_parts
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.net.requests import RequestFailed
from omninode.storage.chain import ChainStore
from omninode.storage.records import StoredParts

log = structlog.get_logger("node")

PARTS_PROTOCOL: Final = "/omninode/parts/1"
PARTS_MAX: Final = 64
"""Heights in one answer; a divergence shows within a few blocks of its cause."""

PARTS_REPLY_BYTES_MAX: Final = 256 << 10
PARTS_PER_SECOND: Final = 512
"""Heights that a peer is told of each second; beyond it the answer is empty."""

PARTS_BURST: Final = 2_048
"""The same at once."""

REQUEST_TIMEOUT_MS: Final = 5_000
ATTEMPTS_MAX: Final = 20
RETRY_PAUSE_MS: Final = 500


class PartsRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for the parts of the app hashes of a range of heights, both ends included."""

    from_height: Count
    to_height: Count


class PartsReply(msgspec.Struct, frozen=True, array_like=True):
    """The parts by height, ascending and without gaps; empty if some are not kept."""

    parts: tuple[StoredParts, ...]


class Asker(Protocol):
    """What the finder needs of the network."""

    def connected_peers(self) -> Sequence[str]:
        """The peers that can be asked now."""
        ...

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        """Ask one peer; raises `RequestFailed` or `PeerFault`."""
        ...


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first height at which this node differs, and the modules in which it does."""

    height: int
    modules: tuple[str, ...]


class DivergenceFinder:
    """Compares the parts of our app hashes with a peer's.

    Args:
        network: The peers.
        chain: Where the parts are kept.
        genesis_app_hash: The app hash of height 0, which has no parts.
    """

    def __init__(self, network: Asker, chain: ChainStore, *, genesis_app_hash: bytes) -> None:
        self._network = network
        self._chain = chain
        self._genesis_app_hash = genesis_app_hash
        self._served = Budget(per_second=PARTS_PER_SECOND, burst=PARTS_BURST)

    async def serve(self, peer: str, payload: bytes) -> bytes:
        """Answer `PARTS_PROTOCOL` (V3)."""
        request = decode(payload, PartsRequest, size_max=64)
        if self._served.is_empty(peer):
            return encode(PartsReply(()))
        last = min(request.to_height, request.from_height + PARTS_MAX - 1)
        found = [self._chain.parts(height) for height in range(request.from_height, last + 1)]
        self._served.spend(peer, 1 + len(found))
        if None in found:
            return encode(PartsReply(()))
        return encode(PartsReply(tuple(parts for parts in found if parts is not None)))

    async def find(self, halted: Halted) -> Divergence | None:
        """Ask one peer after the other until one can prove where we differ; `None` if none can.

        Whoever halts has executed the height, but storing it, here and there, may take a moment.
        """
        first = max(1, halted.height - PARTS_MAX + 1)
        for _ in range(ATTEMPTS_MAX):
            if self._chain.parts(halted.height) is not None:
                for peer in self._network.connected_peers():
                    found = self._compare(
                        first, await self._parts_of(peer, first, halted.height), halted.expected
                    )
                    if found is not None:
                        return found
            await trio.sleep(RETRY_PAUSE_MS / 1000)
        return None

    async def _parts_of(self, peer: str, first: int, last: int) -> tuple[StoredParts, ...]:
        """Ask one peer; nothing if it does not answer, or does not have all of them."""
        request = encode(PartsRequest(first, last))
        try:
            answer = await self._network.request(
                peer, PARTS_PROTOCOL, request, timeout_ms=REQUEST_TIMEOUT_MS
            )
            return decode(answer, PartsReply, size_max=PARTS_REPLY_BYTES_MAX).parts
        except (RequestFailed, PeerFault, Malformed) as error:
            log.debug("parts_not_served", peer=peer, error=str(error))
            return ()

    def _compare(
        self, first: int, theirs: tuple[StoredParts, ...], expected: bytes
    ) -> Divergence | None:
        """Find the first difference in a proven run (V2)."""
        if not theirs or theirs[-1].app_hash != expected:
            return None
        agreed = self._app_hash(first - 1)
        for height, other in enumerate(theirs, start=first):
            ours = self._chain.parts(height)
            if ours is None:
                return None
            if ours.app_hash == other.app_hash:
                agreed = ours.app_hash
                continue
            if agreed is None:
                return Divergence(first, ())
            if not _chains(agreed, height, theirs[height - first :]):
                return None
            return Divergence(height, differing_parts(ours.parts, other.parts))
        return None

    def _app_hash(self, height: int) -> bytes | None:
        if height == 0:
            return self._genesis_app_hash
        parts = self._chain.parts(height)
        return None if parts is None else parts.app_hash


def _chains(previous: bytes, height: int, run: tuple[StoredParts, ...]) -> bool:
    """Whether each app hash follows from the one before and its own parts."""
    for offset, stored in enumerate(run):
        if chain_hash(previous, height + offset, stored.parts) != stored.app_hash:
            return False
        previous = stored.app_hash
    return True
