"""The transactions behind blocks that are not yet executed: held, judged, served.

Rules
    B1. A block names transactions by id; their bytes usually arrived before it and are taken from
        the pool. What is missing is fetched (`fetching.py`).
    B2. Only bytes, signatures and sizes make a body invalid, so every honest node judges alike
        (PROTOCOL.md P2).
    B3. A block's bodies are kept until it is executed or the core has given it up, whatever the
        pool does. They are served by hash; after that the ledger serves them.
    B4. What a peer is served is bounded in time; beyond it the answer is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from omninode.consensus import inputs as into
from omninode.consensus.driver.budget import Budget
from omninode.consensus.driver.fetching import Fetching
from omninode.consensus.driver.limits import (
    BODIES_HELD_MAX,
    REQUEST_BYTES_MAX,
    SERVED_BLOCK_BYTES,
    TRANSACTIONS_REPLY_BYTES_MAX,
)
from omninode.consensus.driver.questions import (
    BlockReply,
    TransactionsReply,
    TransactionsRequest,
    transaction_ids,
)
from omninode.consensus.limits import VIEWS_AHEAD_MAX, VOTE_VIEWS_KEPT
from omninode.consensus.types import Block
from omninode.consensus.verification import is_whole
from omninode.crypto import HASH_BYTES
from omninode.encoding import decode, encode
from omninode.errors import BrokenInvariant, Malformed, PeerFault

if TYPE_CHECKING:
    from omninode.consensus.driver.service import BodyLimits, ConsensusService, Ports
    from omninode.consensus.ports import Body


class _Held(NamedTuple):
    block: Block
    bodies: tuple[Body, ...]


class Bodies:
    """Bodies by block hash, until the block is executed (B3)."""

    def __init__(
        self,
        service: ConsensusService,
        ports: Ports,
        limits: BodyLimits,
        *,
        served: Budget,
        delta_ms: int,
    ) -> None:
        self._service = service
        self._ports = ports
        self._limits = limits
        self._served = served
        self._held: dict[bytes, _Held] = {}
        self._own: tuple[Body, ...] = ()
        self.fetching = Fetching(service, ports, self, delta_ms=delta_ms)

    # What is held.

    def of(self, block: Block) -> tuple[Body, ...]:
        """Return the bodies of a block.

        Raises:
            BrokenInvariant: The core used a block whose body was never ready.
        """
        if not block.transaction_ids:
            return ()
        held = self._held.get(block.hash)
        if held is None:
            raise BrokenInvariant(f"no bodies for block {block.hash.hex()}")
        return held.bodies

    def ids_of(self, ancestors: Iterable[bytes]) -> set[bytes]:
        """Return the transaction ids in these blocks; one that is not held is executed."""
        ids: set[bytes] = set()
        for block_hash in ancestors:
            held = self._held.get(block_hash)
            if held is not None:
                ids.update(held.block.transaction_ids)
        return ids

    def hold(self, block: Block, bodies: Sequence[Body]) -> None:
        """Keep a block with its bodies (B3); beyond a bound the oldest are dropped."""
        self._held[block.hash] = _Held(block, tuple(bodies))
        while len(self._held) > BODIES_HELD_MAX:
            del self._held[next(iter(self._held))]

    def hold_own(self, ids: Sequence[bytes]) -> None:
        """Keep the bodies of the block that the core is about to make of these ids."""
        self._own = self._from_pool(ids)

    def own_block(self, block: Block) -> None:
        """The core made this block, as a rule of what `hold_own` kept."""
        ids = tuple(body.hash for body in self._own)
        if block.hash not in self._held and block.transaction_ids in ((), ids):
            self.hold(block, self._own if block.transaction_ids else ())

    def executed(self, block_hash: bytes) -> None:
        """Forget an executed block: the ledger serves it from now on."""
        self._held.pop(block_hash, None)

    def prune(self, view: int) -> None:
        """Forget blocks of views that are final without them."""
        self._drop(h for h, held in self._held.items() if held.block.header.view < view)

    def give_up(self) -> None:
        """Forget proposals that the core has given up, in views long over (B3)."""
        core = self._service.core
        if len(self._held) <= VOTE_VIEWS_KEPT + VIEWS_AHEAD_MAX:
            return
        self._drop(
            block_hash
            for block_hash, held in self._held.items()
            if held.block.header.view < core.view - VOTE_VIEWS_KEPT
            and held.block.header.height > core.final_height
            and not core.holds_block(block_hash)
        )

    def _drop(self, hashes: Iterable[bytes]) -> None:
        for block_hash in tuple(hashes):
            del self._held[block_hash]

    # Judging.

    def check(self, block: Block, source: int) -> None:
        """Answer `BodyReady` or `BodyInvalid` for a block, now or after fetching (B1, B2)."""
        ids = block.transaction_ids
        if block.hash in self._held:
            self._service.feed(into.BodyReady(block.hash))
        elif self._names_too_much(ids):
            self._service.feed(into.BodyInvalid(block.hash))
        elif any(self._ports.pool.body(i) is None for i in ids):
            self.fetching.complete(block, source)
        else:
            self.judge(block, self._from_pool(ids))

    def fetch(self, block_hash: bytes, source: int | None) -> None:
        """Get a block by hash and answer `BlockArrived`."""
        held = self._held.get(block_hash)
        if held is None:
            self.fetching.block(block_hash, source)
        else:
            self._service.feed(into.BlockArrived(held.block))

    def judge(self, block: Block, bodies: tuple[Body, ...]) -> None:
        """Feed the verdict on a complete body (B2)."""
        if self.is_too_large(sum(len(body.raw) for body in bodies)):
            self._service.feed(into.BodyInvalid(block.hash))
            return
        self.hold(block, bodies)
        self._service.feed(into.BodyReady(block.hash))

    def is_too_large(self, size_bytes: int) -> bool:
        """Whether this is more than a block's transactions may take."""
        return size_bytes > self._limits.bytes_max

    async def check_whole(
        self, block: Block, raws: Sequence[bytes], block_hash: bytes
    ) -> Sequence[Body]:
        """Check a block that came with its transactions: cheap checks first, then signatures.

        Raises:
            Malformed: It has another hash, the transactions are not its own, or it can never be
                valid (B2).
        """
        ids = block.transaction_ids
        if block.hash != block_hash:
            raise Malformed("a block of another hash")
        if not is_whole(block) or transaction_ids(raws) != ids:
            raise Malformed("the contents are not the block's")
        if self._names_too_much(ids) or self.is_too_large(sum(map(len, raws))):
            raise Malformed("the block is larger than a block may be")
        return await self._ports.pool.check(raws)

    def _names_too_much(self, ids: Sequence[bytes]) -> bool:
        return len(ids) > self._limits.transactions_max or len(set(ids)) != len(ids)

    def _from_pool(self, ids: Sequence[bytes]) -> tuple[Body, ...]:
        found = (self._ports.pool.body(i) for i in ids)
        return tuple(body for body in found if body is not None)

    # Serving.

    async def serve_transactions(self, peer: str, payload: bytes) -> bytes:
        """Answer `TRANSACTIONS_PROTOCOL` (B4)."""
        request = decode(payload, TransactionsRequest, size_max=REQUEST_BYTES_MAX)
        raws: list[bytes] = []
        left = 0 if self._served.is_empty(peer) else TRANSACTIONS_REPLY_BYTES_MAX
        for body in self._known(dict.fromkeys(request.ids)) if left else ():
            left -= len(body.raw)
            if left < 0:
                break
            raws.append(body.raw)
        self._served.spend(peer, SERVED_BLOCK_BYTES + len(payload) + sum(map(len, raws)))
        return encode(TransactionsReply(tuple(raws)))

    def _known(self, ids: Iterable[bytes]) -> Iterator[Body]:
        held: dict[bytes, Body] | None = None
        for i in ids:
            body = self._ports.pool.body(i)
            if body is None:
                if held is None:
                    held = {b.hash: b for kept in self._held.values() for b in kept.bodies}
                body = held.get(i)
            if body is not None:
                yield body

    async def serve_block(self, peer: str, payload: bytes) -> bytes:
        """Answer `BLOCK_PROTOCOL`: a held block, or a finalized one from the ledger (B3, B4)."""
        if len(payload) != HASH_BYTES:
            raise PeerFault("bad_request", "a block is asked for by its 32-byte hash")
        if self._served.is_empty(peer):
            return encode(BlockReply(None, ()))
        answer = encode(self._block_reply(payload))
        self._served.spend(peer, SERVED_BLOCK_BYTES + len(answer))
        return answer

    def _block_reply(self, block_hash: bytes) -> BlockReply:
        held = self._held.get(block_hash)
        if held is not None:
            return BlockReply(held.block, tuple(body.raw for body in held.bodies))
        stored = self._ports.ledger.stored_block(block_hash)
        if stored is None:
            return BlockReply(None, ())
        return BlockReply(stored[0], tuple(stored[1]))
