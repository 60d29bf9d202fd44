"""The serving side: proofs of epochs, manifests and chunks, within a peer's credit."""

from __future__ import annotations

import trio

from omninode.consensus.driver.budget import Budget
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.types import Header
from omninode.encoding import decode, encode
from omninode.node.state_sync.limits import (
    EPOCHS_PAGE_BYTES,
    HEADERS_MAX,
    SERVED_BURST_BYTES,
    SERVED_BYTES_PER_SECOND,
)
from omninode.node.state_sync.messages import (
    REQUEST_BYTES_MAX,
    ChunkRequest,
    EpochsReply,
    EpochsRequest,
    SnapshotReply,
    SnapshotRequest,
)
from omninode.storage.chain import ChainStore
from omninode.storage.snapshot import Snapshots

_NOTHING = SnapshotReply(b"", ())


class SnapshotServer:
    """Answers the questions of `messages.py`.

    Args:
        chain: Where proofs and headers are kept.
        snapshots: The snapshots of this node.
    """

    def __init__(self, chain: ChainStore, snapshots: Snapshots) -> None:
        self._chain = chain
        self._snapshots = snapshots
        self._served = Budget(per_second=SERVED_BYTES_PER_SECOND, burst=SERVED_BURST_BYTES)

    async def serve_epochs(self, peer: str, payload: bytes) -> bytes:
        """Answer with the proofs from an epoch on, as many as fit a page."""
        request = decode(payload, EpochsRequest, size_max=REQUEST_BYTES_MAX)
        proofs: list[EpochProof] = []
        size = 0
        while size < EPOCHS_PAGE_BYTES and not self._served.is_empty(peer):
            proof = self._chain.epoch_proof(request.from_epoch + len(proofs))
            if proof is None:
                break
            length = len(encode(proof))
            self._served.spend(peer, length)
            if proofs and size + length > EPOCHS_PAGE_BYTES:
                break
            proofs.append(proof)
            size += length
        return encode(EpochsReply(tuple(proofs)))

    async def serve_snapshot(self, peer: str, payload: bytes) -> bytes:
        """Answer with a manifest and the headers that tie it to the sealing block."""
        request = decode(payload, SnapshotRequest, size_max=REQUEST_BYTES_MAX)
        manifest = None
        if not self._served.is_empty(peer):
            manifest = await trio.to_thread.run_sync(self._snapshots.manifest, request.height)
        if manifest is None:
            return encode(_NOTHING)
        reply = encode(SnapshotReply(encode(manifest), self._headers(request.height)))
        self._served.spend(peer, len(reply))
        return reply

    async def serve_chunk(self, peer: str, payload: bytes) -> bytes:
        """Answer with a chunk."""
        request = decode(payload, ChunkRequest, size_max=REQUEST_BYTES_MAX)
        if self._served.is_empty(peer):
            return b""
        chunk = await trio.to_thread.run_sync(self._snapshots.chunk, request.height, request.index)
        self._served.spend(peer, len(chunk or b"") + REQUEST_BYTES_MAX)
        return chunk or b""

    def _headers(self, height: int) -> tuple[Header, ...]:
        """Return the headers from a height to the block before the next sealing one."""
        headers: list[Header] = []
        while len(headers) < HEADERS_MAX:
            block = self._chain.block(height + len(headers))
            if block is None or block.header.seal is not None:
                break
            headers.append(block.header)
        return tuple(headers)
