"""What state sync asks and answers on the wire: one canonical record each way.

A chunk's answer is the chunk itself; an empty one says that it is not here.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.types import Count, Header
from omninode.node.state_sync.limits import HEADERS_MAX

EPOCHS_PROTOCOL: Final = "/omninode/epochs/1"
SNAPSHOT_PROTOCOL: Final = "/omninode/snapshot/1"
CHUNK_PROTOCOL: Final = "/omninode/chunk/1"
REQUEST_BYTES_MAX: Final = 64


class EpochsRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for the proofs of the ends of epochs, from one on."""

    from_epoch: Count


class EpochsReply(msgspec.Struct, frozen=True, array_like=True):
    """A page of proofs, of one epoch after the other; empty when there is none newer."""

    proofs: tuple[EpochProof, ...]


class SnapshotRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for what the snapshot after a block is made of."""

    height: Count


class SnapshotReply(msgspec.Struct, frozen=True, array_like=True):
    """The encoded manifest, and the headers from its block to the sealing block's parent.

    Without a manifest the snapshot is not here.
    """

    manifest: bytes
    headers: Annotated[tuple[Header, ...], msgspec.Meta(max_length=HEADERS_MAX)]


class ChunkRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for one chunk of a snapshot."""

    height: Count
    index: Count
