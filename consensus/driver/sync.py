"""Block sync: finalized blocks by height, a run at a time, one certificate check a run.

Rules
    Y1. A run starts right after our newest final block, links by parent hashes, and ends at a block
        that the run's certificate finalizes; one check of that certificate covers the whole run
        (consensus.md §1.6). Nothing is spent on signatures of transactions before.
    Y2. Peers are asked one after the other, each run beginning with another one. While one has not
        answered, the next is asked after a while; who was slow or sent rubbish comes last from then
        on. When a third of them has answered and has nothing newer, nobody honest has: if we are
        behind all the same, the core asks again.
    Y3. Runs are asked for until there is nothing newer; then the live protocol takes over. Both may
        make the same block final: a run that comes too late is dropped without blame.
    Y4. What is believed of a peer is what its certificates prove, never a height that it claims.
    Y5. A run lies in one epoch, so that one set checks it. At the epoch's end it carries what leads
        to the certificate: fillers, which nobody keeps (P6). The next run begins when the node is
        in the next epoch.
    Y6. A validator that has seen no new final block for a while asks by itself: it may have left
        the set in an epoch whose end it has not heard of, and then nobody speaks to it any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import structlog
import trio

from omninode.consensus import inputs as into
from omninode.consensus.driver.budget import Budget
from omninode.consensus.driver.limits import (
    SERVED_BLOCK_BYTES,
    SYNC_BLOCKS_MAX,
    SYNC_BYTES_MAX,
    SYNC_REPLY_BYTES_MAX,
)
from omninode.consensus.driver.questions import (
    BLOCKS_PROTOCOL,
    BlocksReply,
    BlocksRequest,
    Questions,
    SentBlock,
    transaction_ids,
)
from omninode.consensus.epoch_proof import is_filler
from omninode.consensus.types import Block, Header, VoteKind
from omninode.consensus.validity import is_sealed
from omninode.consensus.verification import check_certificate, is_whole
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault

if TYPE_CHECKING:
    from omninode.consensus.driver.service import ConsensusService, Ports
    from omninode.consensus.ports import Body

log = structlog.get_logger("consensus")

REQUEST_TIMEOUT_MS = 10_000
SLOW_ANSWER_S = 1.0
"""After this long without an answer the next peer is asked too."""

STALLED_POLL_MS = 5_000
"""A validator asks by itself after this long without a new final block (Y6)."""

BEHIND_BLOCKS = 32
"""A node that gets runs longer than this is said to catch up."""

OBSERVER_POLL_MS = 250
"""A node outside the validator mesh sees no votes, so it asks for new blocks at this pace."""


class BlockSync:
    """Brings this node to its peers' height."""

    def __init__(
        self, service: ConsensusService, ports: Ports, genesis_hash: bytes, *, served: Budget
    ) -> None:
        self._service = service
        self._ports = ports
        self._genesis_hash = genesis_hash
        self._served = served
        self._questions = Questions(ports.peers)
        self._wanted = trio.Event()
        self._source: str | None = None
        self._strikes: Counter[str] = Counter()
        self._turn = 0
        self.is_behind = False
        """Whether the last run was longer than the protocol's own pace explains (Y4)."""

    def request(self, source: str | None) -> None:
        """Say that we are behind; `source` is the peer that made us see it."""
        self._source = source
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Sync whenever asked to; an observer, to whom nobody sends votes, at a steady pace."""
        core = self._service.core
        while True:
            pause_ms = OBSERVER_POLL_MS if core.me is None else STALLED_POLL_MS
            height = core.final_height
            with trio.move_on_after(pause_ms / 1000):
                await self._wanted.wait()
            has_reason = self._wanted.is_set()
            if not has_reason and core.me is not None and core.final_height > height:
                continue
            self._wanted = trio.Event()
            while await self._one_run(has_reason=has_reason):
                pass
            self.is_behind = False

    async def _one_run(self, *, has_reason: bool) -> bool:
        """Take one run from the first peer that has one; false when nobody is ahead (Y2, Y3)."""
        await self._settled()
        peers = self._peers_in_order()
        enough = len(peers) // 3 + 1 if has_reason else 1
        took_run, without_run = False, 0

        async def ask(peer: str, answered: trio.Event) -> None:
            nonlocal took_run, without_run
            if await self._run_from(peer):
                took_run = True
                nursery.cancel_scope.cancel()
            without_run += 1
            answered.set()

        async with trio.open_nursery() as nursery:
            for peer in peers:
                if without_run >= enough:
                    break
                answered = trio.Event()
                nursery.start_soon(ask, peer, answered)
                with trio.move_on_after(SLOW_ANSWER_S) as patience:
                    await answered.wait()
                self._strikes[peer] += patience.cancelled_caught
            if without_run:
                nursery.cancel_scope.cancel()
        return took_run

    async def _settled(self) -> None:
        """Wait until what is final is executed, so that the next run starts at the ledger's end."""
        core, ledger = self._service.core, self._ports.ledger
        while (
            ledger.height < core.final_height or core.is_epoch_over
        ) and not self._service.halted:
            await self._service.executed.wait()

    def _peers_in_order(self) -> list[str]:
        """Return whom to ask (Y2): first the one that made us see that we are behind."""
        peers = list(self._ports.peers.connected())
        self._turn += 1
        turn = self._turn % max(len(peers), 1)
        peers = peers[turn:] + peers[:turn]
        first, self._source = self._source, None
        return sorted(peers, key=lambda peer: (self._strikes[peer], peer != first))

    async def _run_from(self, peer: str) -> bool:
        """Ask one peer for a run and take it; false if it has none, or no good one."""
        if self._service.halted:
            return False
        tip = self._service.core.final_header
        reply = await self._questions.ask(
            peer,
            BLOCKS_PROTOCOL,
            encode(BlocksRequest(tip.height + 1)),
            BlocksReply,
            size_max=SYNC_REPLY_BYTES_MAX,
            timeout_ms=REQUEST_TIMEOUT_MS,
        )
        if reply is None:
            self._strikes[peer] += 1
            return False
        if not reply.blocks or reply.certificate is None:
            return False
        if reply.blocks[0].block.header.epoch != self._service.core.epoch:
            return False
        try:
            self._check_run(reply, tip)
            bodies = await self._check_bodies(reply.blocks)
        except (Malformed, PeerFault) as error:
            self._strikes[peer] += 1
            self._questions.blame(peer, "bad_sync_reply", str(error))
            return False
        if self._service.core.final_header is tip:
            self._take(reply, bodies)
        return self._service.core.final_header is not tip

    def _check_run(self, reply: BlocksReply, tip: Header) -> None:
        """Check links, contents and the certificate of a run (Y1, Y5)."""
        previous, epoch = tip, self._service.core.epoch
        for sent in reply.blocks:
            header = sent.block.header
            if (header.height, header.parent_hash) != (previous.height + 1, previous.hash):
                raise Malformed("the run does not link to our chain")
            if header.epoch != epoch or is_sealed(previous, epoch):
                raise Malformed("the run leads past an epoch's end")
            ids = sent.block.transaction_ids
            if not is_whole(sent.block) or transaction_ids(sent.transactions) != ids:
                raise Malformed("the contents are not the block's")
            previous = header
        for filler in reply.fillers:
            if not is_filler(filler, previous):
                raise Malformed("a header after the epoch's end is no filler")
            previous = filler
        certificate = reply.certificate
        if certificate is None or (certificate.kind, certificate.block_hash) != (
            VoteKind.FINALIZE,
            previous.hash,
        ):
            raise Malformed("the certificate does not finalize the run")
        check_certificate(certificate, self._service.validators, self._genesis_hash)

    async def _check_bodies(self, blocks: Sequence[SentBlock]) -> list[Sequence[Body]]:
        """Check the transactions of a whole run at once, so that threads have enough to do."""
        checked = await self._ports.pool.check(
            [raw for sent in blocks for raw in sent.transactions]
        )
        bodies: list[Sequence[Body]] = []
        start = 0
        for sent in blocks:
            end = start + len(sent.transactions)
            bodies.append(checked[start:end])
            start = end
        return bodies

    def _take(self, reply: BlocksReply, bodies: Sequence[Sequence[Body]]) -> None:
        assert reply.certificate is not None
        for sent, checked in zip(reply.blocks, bodies, strict=True):
            self._service.bodies.hold(sent.block, checked)
        self.is_behind = len(reply.blocks) > BEHIND_BLOCKS
        blocks = [sent.block for sent in reply.blocks]
        blocks += [Block(filler, ()) for filler in reply.fillers]
        self._service.feed(into.BlocksSynced(tuple(blocks), reply.certificate))

    async def serve(self, peer: str, payload: bytes) -> bytes:
        """Answer `BLOCKS_PROTOCOL` from the ledger, as far as the peer's credit goes."""
        request = decode(payload, BlocksRequest, size_max=64)
        nothing = encode(BlocksReply((), None))
        if self._served.is_empty(peer):
            return nothing
        run = self._ports.ledger.stored_run(
            request.from_height, count_max=SYNC_BLOCKS_MAX, bytes_max=SYNC_BYTES_MAX
        )
        if run is None:
            self._served.spend(peer, SERVED_BLOCK_BYTES + len(nothing))
            return nothing
        blocks = tuple(SentBlock(block, tuple(raws)) for block, raws in run.blocks)
        answer = encode(BlocksReply(blocks, run.certificate, run.fillers))
        self._served.spend(peer, (1 + len(blocks)) * SERVED_BLOCK_BYTES + len(answer))
        return answer if len(answer) <= SYNC_REPLY_BYTES_MAX else nothing
