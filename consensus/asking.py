"""Asking for what is missing: blocks, bodies, certificates.

Rules
    A1. The same thing is asked for once, and again only after a tick of a timer or in a new view.
    A2. Certificates are asked for in pages, one page at a time, from the newest view downwards: a
        page is over when the view below it is the newest that is missing (P2).
    A3. A block that nobody asked for is not taken.
"""

from __future__ import annotations

from omninode.consensus import effects as out
from omninode.consensus.limits import BLOCKS_WANTED_MAX, PAGE_VIEWS, SYNC_GAP_BLOCKS
from omninode.consensus.messages import NeedMessage
from omninode.consensus.state import State
from omninode.consensus.types import Block, Header, Vote


class Asking:
    """Remembers what was asked for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._asked: set[tuple[str, bytes]] = set()
        self._wanted: dict[bytes, None] = {}
        self._page: tuple[int, int] | None = None
        self._rotation = 0
        self._ask_ahead_after_ms = 0

    def again(self) -> None:
        """Allow everything to be asked for again (A1)."""
        self._asked.clear()
        self._page = None
        self._state.changed = True

    def is_expected(self, view: int) -> bool:
        """Whether the view lies in the page asked for."""
        return self._page is not None and self._page[0] <= view <= self._page[1]

    def take_wanted(self, block_hash: bytes) -> bool:
        """Whether this block was asked for; it is not any more (A3)."""
        return self._wanted.pop(block_hash, self) is None

    def block(self, block_hash: bytes, view: int) -> None:
        """Ask for a block by hash, first its view's leader."""
        if not self._is_first("block", block_hash):
            return
        self._wanted.pop(block_hash, None)
        self._wanted[block_hash] = None
        if len(self._wanted) > BLOCKS_WANTED_MAX:
            del self._wanted[next(iter(self._wanted))]
        leader = self._state.schedule.leader(view)
        source = leader if leader != self._state.me else None
        self._state.out.append(out.FetchBlock(block_hash, view, source))

    def parent_of(self, header: Header) -> None:
        """Ask for a block's parent, by block sync if it is far above the final block."""
        if header.height > self._state.chain.final.height + SYNC_GAP_BLOCKS:
            self.sync()
        else:
            self.block(header.parent_hash, header.parent_view)

    def body(self, block: Block) -> None:
        """Have a block's transactions got and checked."""
        if self._is_first("body", block.hash):
            self._state.out.append(out.CheckBody(block, block.header.proposer))

    def sync(self) -> None:
        """Start block sync after the final block."""
        if self._is_first("sync", b""):
            self._state.out.append(out.SyncBlocks(self._state.chain.final.height + 1, None))

    def ready_block(self, block_hash: bytes, view: int) -> Block | None:
        """Return a block whose transactions are held, or ask for what is missing."""
        block = self._state.chain.block(block_hash)
        if block is None:
            self.block(block_hash, view)
            return None
        if self._state.chain.is_ready(block_hash):
            return block
        self.body(block)
        return None

    def certificates(self, above: int, high: int, peer: int | None) -> None:
        """Ask a peer for the page of certificates that ends at view `high` (A2).

        Certificates of view `above` and older are not needed.
        """
        if self.is_expected(high):
            return
        if peer is None or peer == self._state.me:
            peer = self._next_peer()
        if peer is not None:
            low = max(high - PAGE_VIEWS + 1, above + 1)
            self._page = (low, high)
            self._state.send(peer, NeedMessage(low, high, self._state.epoch))

    def hidden_parent(self) -> None:
        """Ask for what hides the parent of a block of ours."""
        missing = self._state.views.last_not_nullified(self._state.view)
        record = self._state.views.find(missing)
        if record is not None and record.notarizations:
            for block_hash in record.notarizations:
                self.block(block_hash, missing)
        else:
            self.certificates(self._state.chain.final.view, missing, None)

    def ahead(self, vote: Vote) -> None:
        """A peer votes far ahead of us: ask it how it came there, at most once in Δ."""
        state = self._state
        if state.now_ms >= self._ask_ahead_after_ms and vote.validator != state.me:
            self._ask_ahead_after_ms = state.now_ms + state.timing.delta_ms
            before = vote.view - 1
            state.send(vote.validator, NeedMessage(before, before, state.epoch))

    def _is_first(self, kind: str, what: bytes) -> bool:
        if (kind, what) in self._asked:
            return False
        self._asked.add((kind, what))
        return True

    def _next_peer(self) -> int | None:
        count = len(self._state.validators.validators)
        for _ in range(count):
            self._rotation = (self._rotation + 1) % count
            if self._rotation != self._state.me:
                return self._rotation
        return None
