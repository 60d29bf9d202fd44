"""The tree of blocks above the newest final one.

A block in the tree has been named by a leader or fetched by hash; *ready* means that its
transactions are held and well formed, *written* that it is in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from omninode.consensus.types import VOTES_SEEN_MAX, Block, Certificate, Header


@dataclass(frozen=True, slots=True)
class FinalizedTip:
    """Where a restarted node begins: the newest final and executed block.

    `app_hashes` are (height, app hash) of executed blocks, at least from `header.executed_height`
    to `header.height`. `certificate` is the finalization that covers the block (of itself or of a
    later one). `recent` are the newest `VOTES_SEEN_MAX` final blocks of the epoch, ascending, or
    all there are: what their successors show depends on them.
    """

    header: Header
    certificate: Certificate | None
    app_hashes: tuple[tuple[int, bytes], ...]
    recent: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """The way from the final block up to another one: `blocks` ascend.

    `missing` is the hash of the block that is needed below them; `conflict` says that they lead
    past the final block.
    """

    blocks: tuple[Block, ...]
    missing: bytes | None = None
    conflict: bool = False


class Chain:
    """Blocks above the final one, by hash, and the newest final ones."""

    def __init__(self, final: Header, recent: Sequence[Block] = ()) -> None:
        self.final = final
        self._recent = deque(recent, maxlen=VOTES_SEEN_MAX)
        self._blocks: dict[bytes, Block] = {}
        self._ready: set[bytes] = set()
        self._written: set[bytes] = set()
        self._unexecuted: deque[tuple[int, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._blocks)

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block above the final one."""
        return self._blocks.get(block_hash)

    def header(self, block_hash: bytes) -> Header | None:
        """Return the header of a block above the final one, or of that."""
        if block_hash == self.final.hash:
            return self.final
        block = self._blocks.get(block_hash)
        return None if block is None else block.header

    def is_ready(self, block_hash: bytes) -> bool:
        """Whether the block's transactions are held and well formed."""
        return block_hash in self._ready

    def add(self, block: Block, *, ready: bool = False) -> None:
        """Keep a block above the final one."""
        if block.header.height > self.final.height:
            self._blocks.setdefault(block.hash, block)
            if ready:
                self._ready.add(block.hash)

    def make_ready(self, block_hash: bytes) -> None:
        """Note that a block's transactions are held and well formed."""
        if block_hash in self._blocks:
            self._ready.add(block_hash)

    def is_written(self, block_hash: bytes) -> bool:
        """Whether the block is in the log."""
        return block_hash in self._written

    def mark_written(self, block_hash: bytes) -> bool:
        """Note that a block is in the log; false if it was before."""
        if block_hash in self._written:
            return False
        self._written.add(block_hash)
        return True

    def forget(self, block_hash: bytes) -> None:
        """Drop a block that will not be needed."""
        self._blocks.pop(block_hash, None)
        self._ready.discard(block_hash)
        self._written.discard(block_hash)

    def path(self, block_hash: bytes) -> Path:
        """Walk from a block down to the final one."""
        blocks: list[Block] = []
        at = block_hash
        while at != self.final.hash:
            block = self._blocks.get(at)
            if block is None:
                reached_bottom = bool(blocks) and blocks[-1].header.height <= self.final.height + 1
                return Path(
                    tuple(reversed(blocks)),
                    missing=None if reached_bottom else at,
                    conflict=reached_bottom,
                )
            blocks.append(block)
            at = block.header.parent_hash
        return Path(tuple(reversed(blocks)))

    def ancestry(self, block_hash: bytes) -> tuple[list[Block], bytes | None]:
        """Return the newest blocks of the epoch from one downwards, and the hash of one missing.

        At most `VOTES_SEEN_MAX`, newest first.
        """
        found: list[Block] = []
        while block_hash != self.final.hash:
            block = self._blocks.get(block_hash)
            if block is None:
                return found, block_hash
            found.append(block)
            if len(found) == VOTES_SEEN_MAX:
                return found, None
            block_hash = block.header.parent_hash
        found += list(reversed(self._recent))[: VOTES_SEEN_MAX - len(found)]
        return found, None

    def unexecuted(self, block_hash: bytes) -> tuple[bytes, ...]:
        """Return the hashes of the blocks that are not executed yet, from this one downwards."""
        hashes = []
        block = self._blocks.get(block_hash)
        while block is not None:
            hashes.append(block.hash)
            block = self._blocks.get(block.header.parent_hash)
        hashes += (h for _, h in reversed(self._unexecuted))
        return tuple(hashes)

    def executed(self, height: int) -> None:
        """Note that the final block at `height` is executed."""
        while self._unexecuted and self._unexecuted[0][0] <= height:
            self._unexecuted.popleft()

    def finalize(self, blocks: Sequence[Block]) -> None:
        """Make these blocks, in height order, final; drop what can not be above them."""
        self._unexecuted.extend((block.header.height, block.hash) for block in blocks)
        self._recent.extend(blocks)
        self.final = blocks[-1].header
        for block_hash in [
            h for h, block in self._blocks.items() if block.header.height <= self.final.height
        ]:
            self.forget(block_hash)
