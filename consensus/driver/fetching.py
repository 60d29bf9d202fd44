"""Gets blocks, and the transactions of blocks, that this node lacks.

Rules
    G1. What is missing of a proposed block is waited for briefly (the data stream may be a moment
        behind), then asked for: first of its proposer, then of everybody, one after the other.
    G2. Nobody is waited for alone: while a peer has not answered, the next one is asked after 2Δ,
        and then everybody again.
    G3. A peer that has executed the block serves its transactions no longer, but the block: one
        that does not have them all is asked for that next.
    G4. One fetch a block. It ends when the core has not asked for the block for some views, so that
        blocks which nobody has do not take the place of others.
    G5. Only bytes that hash to an id of the block can make it invalid; others are the fault of the
        peer that sent them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from omninode.consensus import inputs as into
from omninode.consensus.driver.limits import (
    FETCH_ROUNDS_MAX,
    FETCH_VIEWS,
    FETCHES_MAX,
    IDS_PER_REQUEST_MAX,
    REPLY_BYTES_MAX,
)
from omninode.consensus.driver.questions import (
    BLOCK_PROTOCOL,
    TRANSACTIONS_PROTOCOL,
    BlockReply,
    Questions,
    TransactionsReply,
    TransactionsRequest,
    transaction_ids,
)
from omninode.consensus.types import Block
from omninode.encoding import encode
from omninode.errors import Malformed

if TYPE_CHECKING:
    from omninode.consensus.driver.bodies import Bodies
    from omninode.consensus.driver.service import ConsensusService, Ports
    from omninode.consensus.ports import Body

log = structlog.get_logger("consensus")

REQUEST_TIMEOUT_MS = 2_000
ARRIVAL_GRACE_MS = 15
ROUND_PAUSE_MS = 100


@dataclass
class _Hunt:
    """What was found so far of one block's transactions."""

    block: Block
    found: dict[bytes, Body] = field(default_factory=dict)
    is_settled: bool = False
    """Complete, or known to be invalid."""

    @property
    def size_bytes(self) -> int:
        return sum(len(body.raw) for body in self.found.values())


class Fetching:
    """Fetches in tasks of its own; the core hears `BodyReady`, `BodyInvalid` or `BlockArrived`."""

    def __init__(
        self,
        service: ConsensusService,
        ports: Ports,
        bodies: Bodies,
        *,
        delta_ms: int,
    ) -> None:
        self._service = service
        self._ports = ports
        self._bodies = bodies
        self._questions = Questions(ports.peers)
        self._turn_s = 2 * delta_ms / 1_000
        self._asked_in_view: dict[bytes, int] = {}
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Run fetches in this nursery."""
        self._nursery = nursery

    def complete(self, block: Block, source: int) -> None:
        """Get what is missing of a proposed block's transactions."""
        self._begin(block.hash, partial(self._complete, block, source))

    def block(self, block_hash: bytes, source: int | None) -> None:
        """Get a block by hash, with its transactions."""
        self._begin(block_hash, partial(self._fetch_block, block_hash, source))

    def _begin(self, block_hash: bytes, task: Callable[[], Awaitable[None]]) -> None:
        """Start a fetch, or note that it is still wanted (G4)."""
        view = self._service.core.view
        if block_hash in self._asked_in_view:
            self._asked_in_view[block_hash] = view
        elif self._nursery is not None and len(self._asked_in_view) < FETCHES_MAX:
            self._asked_in_view[block_hash] = view
            self._nursery.start_soon(self._run, block_hash, task)

    async def _run(self, block_hash: bytes, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        finally:
            del self._asked_in_view[block_hash]

    def _is_wanted(self, block_hash: bytes) -> bool:
        view = self._service.core.view
        return not self._service.halted and view <= self._asked_in_view[block_hash] + FETCH_VIEWS

    # The transactions of a proposed block.

    async def _complete(self, block: Block, source: int) -> None:
        with trio.move_on_after(ARRIVAL_GRACE_MS / 1_000):
            await self._ports.pool.wait_for(block.transaction_ids)
        hunt = _Hunt(block)
        self._settle(hunt)
        ask = partial(self._ask_for_transactions, hunt)
        await self._ask_around(block.hash, source, ask, lambda: hunt.is_settled)

    def _missing(self, hunt: _Hunt) -> list[bytes]:
        pool, found = self._ports.pool, hunt.found
        return [i for i in hunt.block.transaction_ids if i not in found and pool.body(i) is None]

    def _settle(self, hunt: _Hunt) -> None:
        """Judge the block if everything is there by now, or too much."""
        if hunt.is_settled:
            return
        if self._bodies.is_too_large(hunt.size_bytes):
            hunt.is_settled = True
            self._service.feed(into.BodyInvalid(hunt.block.hash))
        elif not self._missing(hunt):
            hunt.is_settled = True
            pool, ids = self._ports.pool, hunt.block.transaction_ids
            found = (hunt.found.get(i) or pool.body(i) for i in ids)
            self._bodies.judge(hunt.block, tuple(body for body in found if body is not None))

    async def _ask_for_transactions(self, hunt: _Hunt, peer: str) -> None:
        """Ask a peer for all that is missing, a bounded number at a time."""
        while not hunt.is_settled and (missing := self._missing(hunt)):
            asked = missing[:IDS_PER_REQUEST_MAX]
            reply = await self._questions.ask(
                peer,
                TRANSACTIONS_PROTOCOL,
                encode(TransactionsRequest(tuple(asked))),
                TransactionsReply,
                size_max=REPLY_BYTES_MAX,
                timeout_ms=REQUEST_TIMEOUT_MS,
            )
            if reply is None:
                return
            if not reply.transactions:
                break
            if not await self._take(hunt, peer, asked, reply.transactions):
                return
        self._settle(hunt)
        if not hunt.is_settled:
            await self._ask_for_block_of(hunt, peer)

    async def _take(
        self, hunt: _Hunt, peer: str, asked: Sequence[bytes], raws: Sequence[bytes]
    ) -> bool:
        """Check what a peer sent and keep it; false if it is not what was asked for (G5)."""
        ids = transaction_ids(raws)
        if len(set(ids)) != len(ids) or not set(ids) <= set(asked):
            self._questions.blame(peer, "foreign_transactions", "not what was asked for")
            return False
        try:
            bodies = await self._ports.pool.check(raws)
        except Malformed:
            if not hunt.is_settled:
                hunt.is_settled = True
                self._service.feed(into.BodyInvalid(hunt.block.hash))
            return True
        hunt.found.update((body.hash, body) for body in bodies)
        self._settle(hunt)
        return True

    async def _ask_for_block_of(self, hunt: _Hunt, peer: str) -> None:
        """Ask a peer that may have executed the block already (G3)."""
        bodies = await self._ask_for_block(hunt.block.hash, peer)
        if bodies is not None:
            hunt.found.update((body.hash, body) for body in bodies[1])
            self._settle(hunt)

    # A block by its hash.

    async def _fetch_block(self, block_hash: bytes, source: int | None) -> None:
        found: list[tuple[Block, Sequence[Body]]] = []

        async def ask(peer: str) -> None:
            answer = await self._ask_for_block(block_hash, peer)
            if answer is not None:
                found.append(answer)

        await self._ask_around(block_hash, source, ask, lambda: bool(found))
        if found:
            block, bodies = found[0]
            self._bodies.hold(block, bodies)
            self._service.feed(into.BlockArrived(block))

    async def _ask_for_block(
        self, block_hash: bytes, peer: str
    ) -> tuple[Block, Sequence[Body]] | None:
        """Return the block of this hash with its checked transactions, if a peer has it (G5)."""
        reply = await self._questions.ask(
            peer,
            BLOCK_PROTOCOL,
            block_hash,
            BlockReply,
            size_max=REPLY_BYTES_MAX,
            timeout_ms=REQUEST_TIMEOUT_MS,
        )
        if reply is None or reply.block is None:
            return None
        try:
            bodies = await self._bodies.check_whole(reply.block, reply.transactions, block_hash)
        except Malformed as error:
            self._questions.blame(peer, "bad_block", str(error))
            return None
        return reply.block, bodies

    # Whom to ask.

    async def _ask_around(
        self,
        block_hash: bytes,
        source: int | None,
        ask: Callable[[str], Awaitable[None]],
        is_done: Callable[[], bool],
    ) -> None:
        """Ask peers in turn until it is done; a slow one does not stop the others (G2)."""
        asking: set[str] = set()

        async def ask_one(peer: str, answered: trio.Event) -> None:
            asking.add(peer)
            await ask(peer)
            asking.discard(peer)
            answered.set()
            if is_done():
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(FETCH_ROUNDS_MAX):
                if is_done():
                    break
                for peer in self._sources(block_hash, source):
                    if is_done() or not self._is_wanted(block_hash):
                        nursery.cancel_scope.cancel()
                    if peer not in asking:
                        answered = trio.Event()
                        nursery.start_soon(ask_one, peer, answered)
                        with trio.move_on_after(self._turn_s):
                            await answered.wait()
                await trio.sleep(ROUND_PAUSE_MS / 1_000)
            nursery.cancel_scope.cancel()

    def _sources(self, block_hash: bytes, source: int | None) -> list[str]:
        """Return the connected validators: the named one first, the others in turn (G1)."""
        peers = list(self._ports.peers.connected())
        turn = block_hash[0] % max(len(peers), 1)
        peers = peers[turn:] + peers[:turn]
        first = None if source is None else self._service.peer_of(source)
        return sorted(peers, key=lambda peer: peer != first)
