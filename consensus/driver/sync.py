"""Block sync: finalized blocks by height, a run at a time, one certificate check a run.

Rules
    Y1. A run starts right after our newest final block, links by parent hashes, and ends at a block
        that the run's certificate finalizes; one check of that certificate covers the whole run
        (consensus.md §1.6).
    Y2. Peers are asked one after the other; one that has nothing newer or sends rubbish is passed
        over.
    Y3. Runs are asked for until nobody has more; then the live protocol takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import msgspec
import structlog
import trio

from omninode.consensus import inputs as into
from omninode.consensus.driver.limits import (
    SYNC_BLOCKS_MAX,
    SYNC_BYTES_MAX,
    SYNC_REPLY_BYTES_MAX,
)
from omninode.consensus.types import Block, Certificate, Count, VoteKind, body_root
from omninode.consensus.verification import check_certificate
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault

if TYPE_CHECKING:
    from omninode.consensus.driver.service import ConsensusService, Ports

log = structlog.get_logger("consensus")

BLOCKS_PROTOCOL = "/omninode/blocks/1"
REQUEST_TIMEOUT_MS = 10_000
BEHIND_BLOCKS = 8
"""A node this far below what a peer has is said to catch up."""

OBSERVER_POLL_MS = 250
"""A node outside the validator mesh sees no votes, so it asks for new blocks at this pace."""


class BlocksRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for finalized blocks from a height on."""

    from_height: Count


class StoredBlock(msgspec.Struct, frozen=True, array_like=True):
    """A finalized block with its transactions."""

    block: Block
    transactions: tuple[bytes, ...]


class BlocksReply(msgspec.Struct, frozen=True, array_like=True):
    """A run of finalized blocks (Y1), or an empty one; `height` is the peer's newest."""

    height: Count
    blocks: tuple[StoredBlock, ...]
    certificate: Certificate | None


class BlockSync:
    """Brings this node to its peers' height."""

    def __init__(self, service: ConsensusService, ports: Ports, genesis_hash: bytes) -> None:
        self._service = service
        self._ports = ports
        self._genesis_hash = genesis_hash
        self._wanted = trio.Event()
        self._source: int | None = None
        self._target_height = 0

    def request(self, source: int | None) -> None:
        """Say that we are behind; `source` is the validator that made us see it."""
        self._source = source
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Sync whenever asked to; an observer, to whom nobody sends votes, at a steady pace."""
        while True:
            with trio.move_on_after(OBSERVER_POLL_MS / 1000 if self._is_observer else float("inf")):
                await self._wanted.wait()
            self._wanted = trio.Event()
            while await self._one_run():
                pass

    @property
    def is_behind(self) -> bool:
        """Whether a peer has more blocks than we, beyond the protocol's own pace."""
        return self._service.core.final_height + BEHIND_BLOCKS < self._target_height

    @property
    def _is_observer(self) -> bool:
        return self._service.core.me is None

    async def _one_run(self) -> bool:
        """Take one run from the first peer that has one; false when nobody is ahead (Y2, Y3)."""
        await self._settled()
        for peer in self._peers_in_order():
            try:
                if await self._run_from(peer):
                    return True
            except Malformed as error:
                self._ports.peers.penalize(peer, "bad_sync_reply", 50)
                log.warning("sync_reply_refused", peer=peer, error=str(error))
            except PeerFault as fault:
                log.debug("sync_peer_skipped", peer=peer, reason=fault.reason)
        return False

    async def _settled(self) -> None:
        """Wait until what is final is executed, so that the next run starts at the ledger's end."""
        while (
            self._ports.ledger.height < self._service.core.final_height and not self._service.halted
        ):
            await self._service.executed.wait()

    def _peers_in_order(self) -> list[str]:
        peers = list(self._ports.peers.connected())
        if self._source is not None:
            first = self._service.peer_of(self._source)
            peers.sort(key=lambda peer: peer != first)
        return peers

    async def _run_from(self, peer: str) -> bool:
        start = self._service.core.final_height + 1
        answer = await self._ports.peers.request(
            peer, BLOCKS_PROTOCOL, encode(BlocksRequest(start)), timeout_ms=REQUEST_TIMEOUT_MS
        )
        reply = decode(answer, BlocksReply, size_max=SYNC_REPLY_BYTES_MAX)
        self._target_height = max(self._target_height, reply.height)
        if not reply.blocks or reply.certificate is None:
            return False
        self._check_run(reply, start)
        bodies = [await self._ports.pool.check(stored.transactions) for stored in reply.blocks]
        if self._service.core.final_height + 1 != start:
            return True
        for stored, checked in zip(reply.blocks, bodies, strict=True):
            if tuple(b.hash for b in checked) != stored.block.transaction_ids:
                raise PeerFault("bad_sync_reply", "the transactions are not the block's")
            self._service.bodies.hold(stored.block, checked)
        self._service.feed(
            into.BlocksSynced(tuple(s.block for s in reply.blocks), reply.certificate)
        )
        return self._service.core.final_height >= start

    def _check_run(self, reply: BlocksReply, start: int) -> None:
        """Check links, body roots and the certificate of a run (Y1)."""
        certificate = reply.certificate
        previous = self._service.core.final_header
        for offset, stored in enumerate(reply.blocks):
            header = stored.block.header
            if (header.height, header.parent_hash) != (start + offset, previous.hash):
                raise PeerFault("bad_sync_reply", "the run does not link to our chain")
            if header.body_root != body_root(stored.block.transaction_ids):
                raise PeerFault("bad_sync_reply", "a body root does not match")
            previous = header
        if (
            certificate is None
            or certificate.kind is not VoteKind.FINALIZE
            or certificate.block_hash != previous.hash
        ):
            raise PeerFault("bad_sync_reply", "the certificate does not finalize the run")
        check_certificate(certificate, self._service.validators, self._genesis_hash)

    async def serve(self, _peer: str, payload: bytes) -> bytes:
        """Answer `BLOCKS_PROTOCOL` from the ledger."""
        request = decode(payload, BlocksRequest, size_max=64)
        height = self._ports.ledger.height
        run = self._ports.ledger.stored_run(
            request.from_height, count_max=SYNC_BLOCKS_MAX, bytes_max=SYNC_BYTES_MAX
        )
        if run is None:
            return encode(BlocksReply(height, (), None))
        blocks, certificate = run
        return encode(
            BlocksReply(height, tuple(StoredBlock(b, tuple(t)) for b, t in blocks), certificate)
        )
