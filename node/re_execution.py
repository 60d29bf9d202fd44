"""Executing the stored chain again from genesis: proof that state and blocks on this disk agree.

Rules
    R1. Every block from height 1 is decoded, its signatures are checked, and it is executed by the
        same exchange that the node runs; nothing of the stored state is used.
    R2. From the first compared height on, each block must follow the one before, hold the bodies
        that it names, and give the stored app hash; each header's `(executed_height, app_hash)`,
        which a quorum signed, must be what was executed.
    R3. When it reaches the newest block, the stored state records must be those of the exchange.
    R4. The first difference ends the run; it names height and module (PROTOCOL.md P5).

It only reads, and it needs a stopped node: LevelDB belongs to one process.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from omninode.consensus.types import Header
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis
from omninode.dex.hashing import differing_parts
from omninode.dex.outcomes import block_input
from omninode.dex.records import PREFIXES
from omninode.dex.transaction import Transaction, decode_transaction, recover_signer
from omninode.errors import Malformed, UserError
from omninode.storage.chain import ChainStore
from omninode.storage.records import StoredBlock

Progress = Callable[[int], None]
"""Told every height that was executed."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where re-execution and what is stored part: the height, and the module of the state."""

    height: int
    module: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a run found; `blocks` and `transactions` count what was executed, from genesis."""

    first: int
    last: int
    blocks: int
    transactions: int
    mismatch: Mismatch | None

    def document(self) -> dict[str, Any]:
        """Return it as `omninode replay --json` prints it."""
        return {
            "from": self.first,
            "to": self.last,
            "blocks": self.blocks,
            "transactions": self.transactions,
            "mismatch": None if self.mismatch is None else asdict(self.mismatch),
        }


class _Difference(Exception):
    """Carries the first difference out of the loop (R4)."""

    def __init__(self, height: int, module: str) -> None:
        super().__init__(module)
        self.mismatch = Mismatch(height, module)


class _Replay:
    """One run. Holds the exchange, and the app hashes that headers still may name."""

    def __init__(self, chain: ChainStore, genesis: Genesis, first: int) -> None:
        self.exchange = Exchange.genesis(genesis)
        self.blocks = 0
        self.transactions = 0
        self._chain = chain
        self._first = first
        self._domain = Domain(chain_id=genesis.settlement_chain_id, genesis_hash=genesis.hash)
        self._hashes = {0: self.exchange.app_hash}
        self._parent: Header | None = None

    def execute(self, stored: StoredBlock) -> None:
        """Execute the next block and compare (R1, R2)."""
        header = stored.block.header
        compared = header.height >= self._first
        transactions = self._transactions(stored)
        if compared:
            self._check_header(header)
        outcome = self.exchange.apply(block_input(stored.block, transactions))
        self.blocks += 1
        self.transactions += len(transactions)
        self._parent = header
        self._hashes[header.height] = outcome.app_hash
        kept = self._chain.parts(header.height)
        if compared and (kept is None or kept.app_hash != outcome.app_hash):
            modules = () if kept is None else differing_parts(outcome.parts, kept.parts)
            raise _Difference(header.height, ", ".join(modules) or "app_hash")

    def _transactions(self, stored: StoredBlock) -> list[Transaction]:
        height = stored.block.header.height
        transactions = []
        try:
            for raw in stored.transactions:
                transaction = decode_transaction(raw)
                transaction.set_signer(recover_signer(transaction, self._domain))
                transactions.append(transaction)
        except Malformed:
            raise _Difference(height, "bodies") from None
        if tuple(t.hash for t in transactions) != stored.block.transaction_ids:
            raise _Difference(height, "bodies")
        return transactions

    def _check_header(self, header: Header) -> None:
        if self._parent is not None and header.parent_hash != self._parent.hash:
            raise _Difference(header.height, "blocks")
        for height in [h for h in self._hashes if h < header.executed_height]:
            del self._hashes[height]
        if self._hashes.get(header.executed_height) != header.app_hash:
            raise _Difference(header.executed_height, "headers")

    def check_state(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Compare the stored state with the executed one (R3)."""
        mine = sorted(self.exchange.records())
        for ours, theirs in zip_longest(mine, records):
            if ours != theirs:
                key = min(entry[0] for entry in (ours, theirs) if entry is not None)
                raise _Difference(self.exchange.height, _module_of(key))


def replay_chain(
    chain: ChainStore,
    genesis: Genesis,
    *,
    first: int = 1,
    last: int | None = None,
    progress: Progress = lambda _height: None,
) -> ReplayResult:
    """Execute the stored chain again and compare every app hash.

    Args:
        chain: An open chain store.
        genesis: The network's genesis.
        first: The first height to compare; execution begins at 1 all the same.
        last: The last height to execute; by default the newest one.
        progress: Told every executed height.

    Raises:
        UserError: `pruned`, blocks are missing; `unknown_height`, there is no such range.
        StorageFault: The disk fails or a record is damaged.
    """
    head = chain.head()
    height = 0 if head is None else head.height
    last = height if last is None else last
    if not (1 <= first <= last <= height or (first == 1 and height == last == 0)):
        raise UserError(
            "unknown_height",
            f"no blocks {first} to {last}: the chain here has blocks 1 to {height}",
        )
    if chain.first_height > 1:
        raise UserError(
            "pruned",
            f"blocks below {chain.first_height} were pruned: the chain can not be executed again",
            hint="replay on a node with storage.retain_blocks_ms = 0",
        )
    replay = _Replay(chain, genesis, first)
    mismatch = None
    try:
        for stored in _collecting(chain.blocks(1, last)):
            replay.execute(stored)
            progress(stored.block.header.height)
        if last == height and head is not None:
            replay.check_state(chain.state_records())
    except _Difference as difference:
        mismatch = difference.mismatch
    return ReplayResult(first, last, replay.blocks, replay.transactions, mismatch)


def _collecting(blocks: Iterator[StoredBlock]) -> Iterator[StoredBlock]:
    """Let the garbage collector run between blocks only: inside one it costs more than it frees."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        for number, block in enumerate(blocks):
            if number % 1_000 == 999:
                gc.collect()
            yield block
    finally:
        if enabled:
            gc.enable()


def _module_of(key: bytes) -> str:
    names = {prefix: module for module, prefix in PREFIXES.items()}
    return names.get(key[:1], "head")
