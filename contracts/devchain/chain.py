"""The chain: its blocks, its newest state, its pool, and how they change on the disk.

Rules
    C1. A block with its state, its index entries and the end of its transactions' waiting is one
        synced batch. So is a reorganisation of any depth.
    C2. A transaction is on the disk before it is in the pool, and so before it is acknowledged.
    C3. Blocks that left the main chain stay readable by their hash.
    C4. What the first start was given (chain id, gas limit, balances) is checked at every later
        start.

The methods that make blocks are called one at a time, from any thread. All else may be called
beside them from one other thread: it sees the chain as it was until `adopt`.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eth.constants import BLANK_ROOT_HASH

from omninode.contracts.devchain.blocks import Block, decode_block
from omninode.contracts.devchain.build import build_block, genesis_header, next_base_fee
from omninode.contracts.devchain.evm import State, open_state
from omninode.contracts.devchain.limits import BLOCKS_CACHED, STATE_READS_MAX
from omninode.contracts.devchain.pool import Pool
from omninode.contracts.devchain.store import (
    GENESIS_KEY,
    HEAD_KEY,
    Changes,
    StateNodes,
    Store,
    block_key,
    logs_key,
    number_key,
    place_key,
    waiting_key,
)
from omninode.contracts.devchain.transactions import Transaction, decode_transaction
from omninode.errors import ConfigError, StorageFault


@dataclass(frozen=True, slots=True)
class Genesis:
    """What the chain begins with; `alloc` is wei by lower-case address, `None` for as it was."""

    chain_id: int
    gas_limit: int
    alloc: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Step:
    """A change that is on the disk and waits to be seen.

    Attributes:
        head: The new newest block.
        requeued: Transactions of blocks that left, which wait again.
        gone: Transactions that leave the pool: they are in a block, or have no future.
        hopeless: Those of `gone` that took too long to execute.
    """

    head: Block
    requeued: tuple[Transaction, ...]
    gone: tuple[Transaction, ...]
    hopeless: tuple[Transaction, ...]


class Chain:
    """One chain in one folder.

    Attributes:
        chain_id: Its number.
        head: The newest block of the main chain.
        pool: What waits for a block.
    """

    def __init__(self, store: Store, *, chain_id: int, head: Block) -> None:
        self.chain_id = chain_id
        self.head = head
        self.pool = Pool()
        self._store = store
        self._cache: OrderedDict[bytes, Block] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._remember(head)
        self._opened = self.open_state(head)
        self._reads = STATE_READS_MAX

    @classmethod
    def open(cls, store: Store, genesis: Genesis) -> Chain:
        """Open the chain of a folder, or begin it.

        Raises:
            ConfigError: The folder's chain began with something else (C4).
            StorageFault: The folder can not be read or written, or is damaged.
        """
        head_hash = store.get(HEAD_KEY)
        if head_hash is None:
            return cls(store, chain_id=genesis.chain_id, head=_begin(store, genesis))
        _check_genesis(store, genesis)
        data = store.get(block_key(head_hash))
        if data is None:
            raise StorageFault("the dev chain's newest block is missing: its database is damaged")
        chain = cls(store, chain_id=genesis.chain_id, head=decode_block(data))
        waiting = sorted(value for _, value in store.between(b"p", b"p" + b"\xff" * 33))
        for value in waiting:
            chain.pool.add(decode_transaction(value[8:]), arrival=int.from_bytes(value[:8]))
        return chain

    # --- Reading ----------------------------------------------------------------------------------

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block by its hash, also one that left the main chain (C3)."""
        with self._cache_lock:
            found = self._cache.get(block_hash)
            if found is not None:
                self._cache.move_to_end(block_hash)
                return found
        data = self._store.get(block_key(block_hash))
        if data is None:
            return None
        found = decode_block(data)
        self._remember(found)
        return found

    def hash_at(self, number: int) -> bytes | None:
        """Return the hash of the main chain's block of a height."""
        if not 0 <= number <= self.head.number:
            return None
        return self._store.get(number_key(number))

    def block_at(self, number: int) -> Block | None:
        """Return the main chain's block of a height."""
        block_hash = self.hash_at(number)
        return None if block_hash is None else self.block(block_hash)

    def find(self, transaction_hash: bytes) -> tuple[Block, int] | None:
        """Return the block of a transaction on the main chain, and its index there."""
        place = self._store.get(place_key(transaction_hash))
        block = None if place is None else self.block(place[:32])
        if place is None or block is None or block.number > self.head.number:
            return None
        return block, int.from_bytes(place[32:])

    def blocks_with_logs(self, first: int, last: int) -> Iterator[tuple[bytes, int]]:
        """Iterate over hash and bloom filter of the main chain's blocks that hold logs."""
        last = min(last, self.head.number)
        if last >= first:
            for _, value in self._store.between(logs_key(first), logs_key(last)):
                yield value[:32], int.from_bytes(value[32:])

    def state_at(self, block: Block) -> State:
        """Return the state after a block, for reading in the one thread that may."""
        return self._head_state() if block is self.head else self.open_state(block)

    def _head_state(self) -> State:
        """Return the newest state; opened anew now and then, since py-evm notes what is read."""
        self._reads -= 1
        if self._reads < 0:
            self._opened = self.open_state(self.head)
            self._reads = STATE_READS_MAX
        return self._opened

    def open_state(
        self, block: Block, *, deadline: float = float("inf"), base_fee: int | None = None
    ) -> State:
        """Open the state after a block for computations of one's own (`evm.open_state`)."""
        return open_state(
            StateNodes(self._store),
            block.header,
            itertools.islice(self._ancestors(block), 1, None),
            chain_id=self.chain_id,
            deadline=deadline,
            base_fee=base_fee,
        )

    def nonce(self, sender: bytes) -> int:
        """Return an account's next nonce on the main chain."""
        return int(self._head_state().get_nonce(sender))  # type: ignore[arg-type]

    def balance(self, sender: bytes) -> int:
        """Return an account's coins on the main chain, in wei."""
        return int(self._head_state().get_balance(sender))  # type: ignore[arg-type]

    def next_base_fee(self) -> int:
        """Return the base fee of the block to come, in wei."""
        return next_base_fee(self.head.header)

    # --- Transactions -----------------------------------------------------------------------------

    def journal(self, transaction: Transaction, replaced: Transaction | None) -> None:
        """Make a transaction durable before it enters the pool (C2).

        Raises:
            StorageFault: The disk failed or is full.
        """
        changes: Changes = _waiting(transaction, self.pool.next_arrival)
        if replaced is not None:
            changes[waiting_key(replaced.hash)] = None
        self._store.write(changes)

    # --- Making blocks ----------------------------------------------------------------------------

    def candidates(self) -> tuple[list[Transaction], list[Transaction]]:
        """Return what the next block may take, in order, and what has no future."""
        return self.pool.offered(self.next_base_fee(), self.nonce), self.pool.stale(self.nonce)

    def extend(
        self, candidates: list[Transaction], stale: Sequence[Transaction], *, timestamp: int
    ) -> Step:
        """Make the next block and put it on the disk.

        Args:
            candidates: As `candidates` gave them.
            stale: Transactions that leave the pool in the same batch.
            timestamp: Unix time in seconds.

        Raises:
            StorageFault: The disk failed or is full.
        """
        work = _Extension(self, self.head)
        work.add_block(candidates, timestamp=timestamp)
        work.forget(stale)
        return work.commit(())

    def reorganise(self, depth: int, *, keep: bool, timestamp: int) -> Step:
        """Replace the newest blocks by as many others and put that on the disk.

        Args:
            depth: How many blocks; the first block can not be replaced.
            keep: Whether their transactions go into the new blocks or wait again; otherwise they
                are forgotten.
            timestamp: Unix time in seconds.

        Raises:
            StorageFault: The disk failed or is full.
        """
        leaving = list(itertools.islice(self._line(self.head), depth + 1))
        ancestor = leaving.pop()
        dropped = [item for block in reversed(leaving) for item in block.transactions]
        work = _Extension(self, ancestor)
        for item in dropped:
            work.changes[place_key(item.hash)] = None
        waiting = list(dropped) if keep else []
        for offset in range(depth):
            work.changes[logs_key(ancestor.number + 1 + offset)] = None
            work.add_block(waiting, timestamp=timestamp)
            taken = {item.hash for item in work.gone}
            waiting = [item for item in waiting if item.hash not in taken]
        for arrival, item in enumerate(waiting, self.pool.next_arrival):
            work.changes |= _waiting(item, arrival)
        return work.commit(tuple(waiting))

    def adopt(self, step: Step) -> None:
        """Let a change be seen that `extend` or `reorganise` has put on the disk."""
        self._remember(step.head)
        self.head = step.head
        self._reads = 0
        self.pool.remove(step.gone)
        for item in step.requeued:
            self.pool.add(item, arrival=self.pool.next_arrival)

    # --- Inside -----------------------------------------------------------------------------------

    def _remember(self, block: Block) -> None:
        with self._cache_lock:
            self._cache[block.hash] = block
            while len(self._cache) > BLOCKS_CACHED:
                self._cache.popitem(last=False)

    def _line(self, block: Block) -> Iterator[Block]:
        """Iterate over a block and those before it, the newest first."""
        current: Block | None = block
        while current is not None:
            yield current
            current = self.block(current.header.parent_hash)

    def _ancestors(self, block: Block) -> Iterator[bytes]:
        return (item.hash for item in self._line(block))


class _Extension:
    """New blocks on top of a block, with all that goes to the disk with them (C1)."""

    def __init__(self, chain: Chain, base: Block) -> None:
        self.changes: Changes = {}
        self.gone: list[Transaction] = []
        self._chain = chain
        self._nodes = StateNodes(chain._store)  # noqa: SLF001 - the chain's own part
        self._made: list[Block] = []
        self._base = base
        self._hopeless: list[Transaction] = []

    def add_block(self, candidates: list[Transaction], *, timestamp: int) -> None:
        """Make one more block."""
        parent = self._made[-1] if self._made else self._base
        built = build_block(
            parent,
            candidates,
            nodes=self._nodes,
            ancestors=self._ancestors,
            chain_id=self._chain.chain_id,
            timestamp=timestamp,
        )
        block = built.block
        self._made.append(block)
        self._hopeless.extend(built.hopeless)
        self.forget(built.hopeless)
        self.forget(block.transactions)
        self.changes[block_key(block.hash)] = block.encode()
        self.changes[number_key(block.number)] = block.hash
        self.changes[HEAD_KEY] = block.hash
        for index, item in enumerate(block.transactions):
            self.changes[place_key(item.hash)] = block.hash + index.to_bytes(4)
        if block.header.bloom:
            self.changes[logs_key(block.number)] = block.hash + block.header.bloom.to_bytes(256)

    def forget(self, transactions: Sequence[Transaction]) -> None:
        """Let transactions wait no longer."""
        self.gone.extend(transactions)
        for item in transactions:
            self.changes[waiting_key(item.hash)] = None

    def commit(self, requeued: tuple[Transaction, ...]) -> Step:
        """Put everything on the disk."""
        self.changes |= self._nodes.take()
        self._chain._store.write(self.changes)  # noqa: SLF001 - the chain's own part
        return Step(self._made[-1], requeued, tuple(self.gone), tuple(self._hopeless))

    def _ancestors(self) -> Iterator[bytes]:
        yield from (block.hash for block in reversed(self._made))
        yield from self._chain._ancestors(self._base)  # noqa: SLF001 - the chain's own part


def _waiting(transaction: Transaction, arrival: int) -> Changes:
    return {waiting_key(transaction.hash): arrival.to_bytes(8) + transaction.raw}


def _begin(store: Store, genesis: Genesis) -> Block:
    """Make the first block and put it on the disk."""
    nodes = StateNodes(store)
    header = genesis_header(bytes(BLANK_ROOT_HASH), gas_limit=genesis.gas_limit)
    state = open_state(nodes, header, (), chain_id=genesis.chain_id)
    for address, wei in sorted((genesis.alloc or {}).items()):
        state.set_balance(bytes.fromhex(address[2:]), wei)  # type: ignore[arg-type]
    state.persist()
    block = Block(genesis_header(state.state_root, gas_limit=genesis.gas_limit), ())
    changes = nodes.take() | {
        block_key(block.hash): block.encode(),
        number_key(0): block.hash,
        HEAD_KEY: block.hash,
        GENESIS_KEY: json.dumps(_described(genesis)).encode(),
    }
    store.write(changes)
    return block


def _described(genesis: Genesis) -> dict[str, object]:
    return {
        "chain_id": genesis.chain_id,
        "gas_limit": genesis.gas_limit,
        "alloc": {address: str(wei) for address, wei in sorted((genesis.alloc or {}).items())},
    }


def _check_genesis(store: Store, genesis: Genesis) -> None:
    kept = json.loads(store.get(GENESIS_KEY) or b"{}")
    for name, value in _described(genesis).items():
        if name == "alloc" and genesis.alloc is None:
            continue
        if kept.get(name) != value:
            raise ConfigError(
                f"the dev chain in this folder began with another {name}",
                hint="use the one it began with, or another folder",
            )
