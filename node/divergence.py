"""Says where a node's state left the network's: at which height, in which module (PROTOCOL.md P5).

Rules
    V1. What is compared are the parts of the app hash, which every node stores per height.
    V2. A peer's parts are believed only as far as they chain, from the last app hash on which both
        agree, to the app hash that a final header states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
import trio

from omninode.consensus.driver.service import Halted
from omninode.consensus.types import Count
from omninode.dex.hashing import chain_hash, differing_parts
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.net.requests import RequestFailed
from omninode.node.net.service import Network
from omninode.storage.chain import ChainStore
from omninode.storage.records import StoredParts

log = structlog.get_logger("node")

PARTS_PROTOCOL: Final = "/omninode/parts/1"
PARTS_MAX: Final = 64
"""Heights in one answer; a divergence shows within a few blocks of its cause."""

PARTS_REPLY_BYTES_MAX: Final = 256 << 10
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


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first height at which this node differs, and the modules in which it does."""

    height: int
    modules: tuple[str, ...]


class DivergenceFinder:
    """Compares the parts of our app hashes with a peer's."""

    def __init__(self, network: Network, chain: ChainStore) -> None:
        self._network = network
        self._chain = chain

    async def serve(self, _peer: str, payload: bytes) -> bytes:
        """Answer `PARTS_PROTOCOL`."""
        request = decode(payload, PartsRequest, size_max=64)
        last = min(request.to_height, request.from_height + PARTS_MAX - 1)
        found = [self._chain.parts(height) for height in range(request.from_height, last + 1)]
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
        difference: Divergence | None = None
        for height, other in enumerate(theirs, start=first):
            previous = theirs[height - first - 1].app_hash if height > first else None
            if previous is not None and chain_hash(previous, height, other.parts) != other.app_hash:
                return None
            ours = self._chain.parts(height)
            if difference is None and ours is not None and ours.app_hash != other.app_hash:
                difference = Divergence(height, differing_parts(ours.parts, other.parts))
        return difference
