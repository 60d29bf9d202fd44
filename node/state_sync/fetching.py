"""The asking side of state sync: find a sealed snapshot that peers have, and copy it.

Rules
    F1. Nothing is believed but what proofs show: the sets of validators are followed from genesis,
        epoch by epoch, each by the one before (`consensus.epoch_proof`). The newest sealing block
        names the snapshot's root, and the headers between tie its block to that.
    F2. A chunk is asked of one peer after the other until its bytes have the manifest's hash. Who
        sends others pays for it.
    F3. A copy that is interrupted goes on where it stopped, as long as the snapshot is offered.
    F4. When no peer has a newer epoch than we know, or in `SEARCH_S`, there is no snapshot to take:
        the node goes on by blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
import trio

from omninode.consensus.epoch_proof import EpochProof, check_epoch_proof
from omninode.consensus.types import Header, ValidatorSet
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.net.requests import RequestFailed
from omninode.node.state_sync.limits import (
    CHUNK_ATTEMPTS_MAX,
    CHUNKS_AT_ONCE,
    EPOCHS_FOLLOWED_MAX,
    EPOCHS_REPLY_BYTES_MAX,
    PAUSE_S,
    REQUEST_TIMEOUT_MS,
    SEARCH_S,
    SNAPSHOT_REPLY_BYTES_MAX,
)
from omninode.node.state_sync.messages import (
    CHUNK_PROTOCOL,
    EPOCHS_PROTOCOL,
    SNAPSHOT_PROTOCOL,
    ChunkRequest,
    EpochsReply,
    EpochsRequest,
    SnapshotReply,
    SnapshotRequest,
)
from omninode.storage.snapshot import Manifest, Snapshots, check_chunk, decode_manifest

log = structlog.get_logger("sync")

BAD_ANSWER_PENALTY = 50
EPOCHS_TRIED = 2
"""Newest epochs whose snapshots are asked for: as many as peers keep."""

T = TypeVar("T")


class Asker(Protocol):
    """What is needed of the network."""

    def connected_peers(self) -> Sequence[str]:
        """The peers that can be asked now."""
        ...

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        """Ask one peer; raises `RequestFailed` or `PeerFault`."""
        ...

    def penalize(self, peer: str, fault: PeerFault) -> None:
        """Make a peer pay."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot that a final header vouches for.

    Attributes:
        manifest: What it is made of.
        header: The header of its block.
        proof: The end of the epoch whose cut that block was.
    """

    manifest: Manifest
    header: Header
    proof: EpochProof


class SnapshotLost(Exception):
    """No peer has a snapshot any more that was offered before."""


class Fetching:
    """Finds and copies a snapshot.

    Args:
        network: The peers.
        snapshots: Takes the copy.
        validators: The set of genesis (F1).
        genesis_hash: The network's.

    Attributes:
        proofs: The ends of all epochs followed so far, from epoch 0.
    """

    def __init__(
        self,
        network: Asker,
        snapshots: Snapshots,
        *,
        validators: ValidatorSet,
        genesis_hash: bytes,
    ) -> None:
        self._network = network
        self._snapshots = snapshots
        self._validators = validators
        self._genesis_hash = genesis_hash
        self.proofs: list[EpochProof] = []

    async def find(self) -> Offer | None:
        """Return the newest snapshot that a peer has, if there is one (F1, F4)."""
        with trio.move_on_after(SEARCH_S):
            while True:
                peers = self._network.connected_peers()
                newer = [await self._follow(peer) for peer in peers]
                if any(newer):
                    continue
                for proof in reversed(self.proofs[-EPOCHS_TRIED:]):
                    for peer in peers:
                        offer = await self._offer_of(peer, proof)
                        if offer is not None:
                            return offer
                if peers and not self.proofs and False in newer:
                    return None
                await trio.sleep(PAUSE_S)
        return None

    async def fetch(self, offer: Offer, *, progress: Callable[[int, int], object]) -> None:
        """Copy a snapshot (F2, F3).

        Args:
            offer: From `find`.
            progress: Told how many chunks of how many are here.

        Raises:
            SnapshotLost: Nobody has it any more.
            StorageFault: The disk failed or is full.
        """
        manifest = offer.manifest
        run = trio.to_thread.run_sync
        place = await run(self._snapshots.begin_copy, manifest)
        missing = await run(self._snapshots.missing, place, manifest)
        total, todo = len(manifest.chunks), list(reversed(missing))
        held = total - len(missing)
        lost: BaseExceptionGroup[SnapshotLost] | None = None

        async def worker() -> None:
            nonlocal held
            while todo:
                index = todo.pop()
                chunk = await self._chunk(manifest, index)
                await trio.to_thread.run_sync(_write, place / str(index), chunk)
                held += 1
                progress(held, total)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(CHUNKS_AT_ONCE):
                    nursery.start_soon(worker)
        except* SnapshotLost as group:
            lost = group
        if lost is not None:
            # Raised in there it would be a part of a group, which nobody expects of this method.
            raise SnapshotLost(f"snapshot {manifest.height}") from lost
        await run(self._snapshots.finish_copy, place, manifest)

    async def _follow(self, peer: str) -> bool | None:
        """Take a page of proofs; whether there was one, `None` if the peer did not answer."""
        epoch = len(self.proofs)
        reply = await self._ask(
            peer,
            EPOCHS_PROTOCOL,
            encode(EpochsRequest(epoch)),
            EpochsReply,
            size_max=EPOCHS_REPLY_BYTES_MAX,
        )
        if reply is None:
            return None
        for proof in reply.proofs:
            if len(self.proofs) >= EPOCHS_FOLLOWED_MAX:
                return False
            try:
                check_epoch_proof(proof, self._validators, self._genesis_hash)
            except PeerFault as fault:
                self._blame(peer, fault)
                return None
            self._validators = proof.validators
            self.proofs.append(proof)
        return bool(reply.proofs)

    async def _offer_of(self, peer: str, proof: EpochProof) -> Offer | None:
        """Ask a peer for the snapshot of an epoch's cut (F1)."""
        seal = proof.seal
        reply = await self._ask(
            peer,
            SNAPSHOT_PROTOCOL,
            encode(SnapshotRequest(seal.cut_height)),
            SnapshotReply,
            size_max=SNAPSHOT_REPLY_BYTES_MAX,
        )
        if reply is None or not reply.manifest:
            return None
        try:
            manifest = decode_manifest(reply.manifest, root=seal.snapshot_root)
            header = _cut_header(reply.headers, proof.header, seal.cut_height)
        except PeerFault as fault:
            self._blame(peer, fault)
            return None
        return Offer(manifest, header, proof)

    async def _chunk(self, manifest: Manifest, index: int) -> bytes:
        """Return a chunk from whoever has it (F2)."""
        request = encode(ChunkRequest(manifest.height, index))
        for attempt in range(CHUNK_ATTEMPTS_MAX):
            peers = self._network.connected_peers()
            if peers:
                peer = peers[(index + attempt) % len(peers)]
                chunk = await self._answer(peer, CHUNK_PROTOCOL, request)
                if chunk:
                    try:
                        check_chunk(manifest, index, chunk)
                    except PeerFault as fault:
                        self._blame(peer, fault)
                    else:
                        return chunk
            await trio.sleep(PAUSE_S * attempt)
        raise SnapshotLost(f"chunk {index}")

    async def _ask(
        self, peer: str, protocol: str, payload: bytes, kind: type[T], *, size_max: int
    ) -> T | None:
        answer = await self._answer(peer, protocol, payload)
        if answer is None:
            return None
        try:
            return decode(answer, kind, size_max=size_max)
        except Malformed as error:
            self._blame(peer, PeerFault("malformed_answer", str(error)))
            return None

    async def _answer(self, peer: str, protocol: str, payload: bytes) -> bytes | None:
        try:
            return await self._network.request(
                peer, protocol, payload, timeout_ms=REQUEST_TIMEOUT_MS
            )
        except (RequestFailed, PeerFault) as error:
            log.debug("no_answer", peer=peer, protocol=protocol, error=str(error))
            return None

    def _blame(self, peer: str, fault: PeerFault) -> None:
        log.warning("bad_answer", peer=peer, reason=fault.reason, detail=str(fault))
        self._network.penalize(
            peer, PeerFault(fault.reason, str(fault), penalty=BAD_ANSWER_PENALTY)
        )


def _cut_header(headers: Sequence[Header], sealing: Header, height: int) -> Header:
    """Return the cut's header, tied to the sealing one by the headers between (F1).

    Raises:
        PeerFault: They do not lead from one to the other.
    """
    expected = sealing.parent_hash
    for header in reversed(headers):
        if header.hash != expected:
            raise PeerFault("bad_snapshot", "the headers do not lead to the sealing block")
        expected = header.parent_hash
    if not headers or headers[0].height != height:
        raise PeerFault("bad_snapshot", "the headers do not begin at the cut")
    return headers[0]


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
