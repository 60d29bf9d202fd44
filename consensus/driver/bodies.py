"""The transactions behind blocks that are not yet executed: held, checked, fetched, served.

Rules
    B1. A block names transactions by id; their bytes usually arrived before it and are taken from
        the pool.
    B2. What is missing is waited for briefly (the data stream may be a moment behind) and then
        asked for, first from the block's proposer, then from everybody.
    B3. Only bytes, signatures and sizes make a body invalid, so every honest node judges alike
        (PROTOCOL.md P2).
    B4. A block's bodies are kept until it is executed, whatever the pool does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import structlog
import trio

from omninode.consensus import inputs as into
from omninode.consensus.driver.limits import (
    BLOCK_FETCH_ATTEMPTS_MAX,
    BODIES_HELD_MAX,
    FETCHES_MAX,
    REPLY_BYTES_MAX,
)
from omninode.consensus.types import Block, Hash, body_root
from omninode.crypto import HASH_BYTES
from omninode.encoding import decode, encode
from omninode.errors import BrokenInvariant, Malformed, PeerFault

if TYPE_CHECKING:
    from omninode.consensus.driver.service import BodyLimits, ConsensusService, Ports
    from omninode.consensus.ports import Body

T = TypeVar("T")

log = structlog.get_logger("consensus")

BLOCK_PROTOCOL = "/omninode/block/1"
TRANSACTIONS_PROTOCOL = "/omninode/transactions/1"
REQUEST_TIMEOUT_MS = 2_000
ARRIVAL_GRACE_MS = 15
RETRY_PAUSE_MS = 100


class TransactionsRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for transactions by id."""

    ids: tuple[Hash, ...]


class TransactionsReply(msgspec.Struct, frozen=True, array_like=True):
    """Those of the transactions that the peer has, in the order asked for."""

    transactions: tuple[bytes, ...]


class BlockReply(msgspec.Struct, frozen=True, array_like=True):
    """One block with its transactions, or nothing."""

    block: Block | None
    transactions: tuple[bytes, ...]


class Bodies:
    """Bodies by block hash, until the block is executed (B4)."""

    def __init__(self, service: ConsensusService, ports: Ports, limits: BodyLimits) -> None:
        self._service = service
        self._ports = ports
        self._limits = limits
        self._held: dict[bytes, tuple[Body, ...]] = {}
        self._blocks: dict[bytes, Block] = {}
        self._own: tuple[Body, ...] = ()
        self._fetching: set[bytes] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, nursery: trio.Nursery) -> None:
        """Use this nursery for fetches."""
        self._nursery = nursery

    def of(self, block_hash: bytes) -> tuple[Body, ...]:
        """Return the bodies of a held block.

        Raises:
            BrokenInvariant: The core used a block whose body was never ready.
        """
        bodies = self._held.get(block_hash)
        if bodies is None:
            raise BrokenInvariant(f"no bodies for block {block_hash.hex()}")
        return bodies

    def ids_of(self, ancestors: Iterable[bytes]) -> set[bytes]:
        """Return the transaction ids in these blocks; one that is not held is executed."""
        ids: set[bytes] = set()
        for block_hash in ancestors:
            block = self._blocks.get(block_hash)
            if block is not None:
                ids.update(block.transaction_ids)
        return ids

    def hold(self, block: Block, bodies: Sequence[Body]) -> None:
        """Keep a block with its bodies (B4); beyond a bound the oldest are dropped."""
        self._held[block.hash] = tuple(bodies)
        self._blocks[block.hash] = block
        while len(self._held) > BODIES_HELD_MAX:
            oldest = next(iter(self._held))
            self.finalized(oldest)

    def hold_own(self, ids: Sequence[bytes]) -> None:
        """Keep the bodies of the block that the core is about to make of these ids."""
        self._own = self._from_pool(ids)

    def own_block(self, block: Block) -> None:
        """The core made this block of what `hold_own` kept."""
        if block.hash not in self._held:
            self.hold(block, self._own)

    def finalized(self, block_hash: bytes) -> None:
        """Forget an executed block: the ledger serves it from now on."""
        self._held.pop(block_hash, None)
        self._blocks.pop(block_hash, None)

    def prune(self, view: int) -> None:
        """Forget blocks of views that are final without them."""
        for block in [b for b in self._blocks.values() if b.header.view < view]:
            self.finalized(block.hash)

    def check(self, block: Block, source: int) -> None:
        """Answer `BodyReady` or `BodyInvalid` for a block, now or after fetching (B1–B3)."""
        ids = block.transaction_ids
        if block.hash in self._held:
            self._service.feed(into.BodyReady(block.hash))
        elif len(ids) > self._limits.transactions_max or len(set(ids)) != len(ids):
            self._service.feed(into.BodyInvalid(block.hash))
        elif any(self._ports.pool.body(i) is None for i in ids):
            self._start(block.hash, partial(self._complete, block, source))
        else:
            self._judge(block, self._from_pool(ids))

    def fetch(self, block_hash: bytes, source: int | None) -> None:
        """Get a block by hash and answer `BlockArrived`."""
        block = self._blocks.get(block_hash)
        if block is not None:
            self._service.feed(into.BlockArrived(block))
            return
        self._start(block_hash, partial(self._fetch_block, block_hash, source))

    def _from_pool(self, ids: Sequence[bytes]) -> tuple[Body, ...]:
        found = (self._ports.pool.body(i) for i in ids)
        return tuple(body for body in found if body is not None)

    def _judge(self, block: Block, bodies: tuple[Body, ...]) -> None:
        """Feed the verdict on a complete body (B3)."""
        if sum(len(body.raw) for body in bodies) > self._limits.bytes_max:
            self._service.feed(into.BodyInvalid(block.hash))
            return
        self.hold(block, bodies)
        self._service.feed(into.BodyReady(block.hash))

    def _start(self, block_hash: bytes, task: Callable[[], Awaitable[None]]) -> None:
        """Run one fetch per block at a time; over the bound the core has to ask again."""
        if self._nursery is None or block_hash in self._fetching:
            return
        if len(self._fetching) < FETCHES_MAX:
            self._fetching.add(block_hash)
            self._nursery.start_soon(self._run_fetch, block_hash, task)

    async def _run_fetch(self, block_hash: bytes, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        finally:
            self._fetching.discard(block_hash)

    async def _complete(self, block: Block, source: int) -> None:
        """Wait briefly, then ask for what is missing of a proposed block (B2)."""
        pool = self._ports.pool
        with trio.move_on_after(ARRIVAL_GRACE_MS / 1000):
            await pool.wait_for(block.transaction_ids)
        fetched: dict[bytes, Body] = {}
        for attempt in range(BLOCK_FETCH_ATTEMPTS_MAX):
            missing = [
                i for i in block.transaction_ids if i not in fetched and pool.body(i) is None
            ]
            if not missing:
                break
            for peer in self._sources(source, attempt):
                try:
                    fetched |= await self._ask_transactions(peer, missing)
                except Malformed:
                    self._service.feed(into.BodyInvalid(block.hash))
                    return
                except PeerFault as fault:
                    log.debug("transactions_not_served", peer=peer, reason=fault.reason)
            if not self._still_wanted(block):
                return
            if attempt:
                await trio.sleep(RETRY_PAUSE_MS / 1000)
        bodies = [fetched.get(i) or pool.body(i) for i in block.transaction_ids]
        if all(body is not None for body in bodies):
            self._judge(block, tuple(b for b in bodies if b is not None))

    def _still_wanted(self, block: Block) -> bool:
        return block.header.height > self._ports.ledger.height

    async def _ask_transactions(self, peer: str, ids: Sequence[bytes]) -> dict[bytes, Body]:
        """Ask one peer; bytes that hash to an asked id but do not verify raise `Malformed` (B3)."""
        reply = await self._request(
            peer, TRANSACTIONS_PROTOCOL, encode(TransactionsRequest(tuple(ids))), TransactionsReply
        )
        bodies = await self._ports.pool.check(reply.transactions)
        return {body.hash: body for body in bodies if body.hash in set(ids)}

    async def _fetch_block(self, block_hash: bytes, source: int | None) -> None:
        for attempt in range(BLOCK_FETCH_ATTEMPTS_MAX):
            for peer in self._sources(source, attempt):
                try:
                    reply = await self._request(peer, BLOCK_PROTOCOL, block_hash, BlockReply)
                    if reply.block is None or reply.block.hash != block_hash:
                        continue
                    bodies = await self._ports.pool.check(reply.transactions)
                    self._hold_fetched(reply.block, bodies)
                except (PeerFault, Malformed) as fault:
                    log.debug("block_not_served", peer=peer, error=str(fault))
                    continue
                self._service.feed(into.BlockArrived(reply.block))
                return
            await trio.sleep(RETRY_PAUSE_MS / 1000)

    def _hold_fetched(self, block: Block, bodies: Sequence[Body]) -> None:
        ids = tuple(body.hash for body in bodies)
        if ids != block.transaction_ids or block.header.body_root != body_root(ids):
            raise PeerFault("bad_block", "the transactions are not the block's")
        self.hold(block, bodies)

    async def _request(self, peer: str, protocol: str, payload: bytes, kind: type[T]) -> T:
        answer = await self._ports.peers.request(
            peer, protocol, payload, timeout_ms=REQUEST_TIMEOUT_MS
        )
        return decode(answer, kind, size_max=REPLY_BYTES_MAX)

    def _sources(self, first: int | None, attempt: int) -> list[str]:
        """The proposer alone at first, then every connected validator (B2)."""
        if attempt == 0 and first is not None:
            return [self._service.peer_of(first)]
        return list(self._ports.peers.connected())

    async def serve_transactions(self, _peer: str, payload: bytes) -> bytes:
        """Answer `TRANSACTIONS_PROTOCOL`."""
        request = decode(payload, TransactionsRequest, size_max=REPLY_BYTES_MAX)
        raws: list[bytes] = []
        left = REPLY_BYTES_MAX // 2
        for body in self._known(request.ids):
            left -= len(body.raw)
            if left < 0:
                break
            raws.append(body.raw)
        return encode(TransactionsReply(tuple(raws)))

    def _known(self, ids: Sequence[bytes]) -> Iterable[Body]:
        held = {body.hash: body for bodies in self._held.values() for body in bodies}
        for i in ids:
            body = self._ports.pool.body(i) or held.get(i)
            if body is not None:
                yield body

    async def serve_block(self, _peer: str, payload: bytes) -> bytes:
        """Answer `BLOCK_PROTOCOL`: a held block, or a finalized one from the ledger."""
        if len(payload) != HASH_BYTES:
            raise PeerFault("bad_request", "a block is asked for by its 32-byte hash")
        block = self._blocks.get(payload)
        if block is not None:
            raws = tuple(body.raw for body in self._held[payload])
            return encode(BlockReply(block, raws))
        stored = self._ports.ledger.stored_block(payload)
        if stored is None:
            return encode(BlockReply(None, ()))
        return encode(BlockReply(stored[0], tuple(stored[1])))
