"""All that changes the chain, one thing at a time: transactions taken in, blocks made.

Rules
    M1. One lock, first come first served, so that no one is starved. Calls and queries do not take
        it: they go on beside the making of a block, and the other way round.
    M2. Blocks come at fixed times; one that comes late does not make the next ones hurry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog
import trio

from omninode.contracts.devchain.chain import Chain, Step
from omninode.contracts.devchain.limits import TRANSACTION_TIME_S
from omninode.contracts.devchain.quantities import data
from omninode.contracts.devchain.transactions import check_transaction, decode_transaction

_log = structlog.get_logger("devchain")


def unix_time_s() -> int:
    """Return the wall clock in whole seconds."""
    return time.time_ns() // 1_000_000_000


class Miner:
    """Makes blocks of a chain and takes transactions in for them.

    Args:
        chain: The chain; nothing else changes it.
        interval_ms: Time from block to block.
    """

    def __init__(self, chain: Chain, *, interval_ms: int) -> None:
        self._chain = chain
        self._interval_s = interval_ms / 1000
        self._lock = trio.Lock()
        self._thread = trio.CapacityLimiter(1)

    async def run(self) -> None:
        """Make a block at every interval until cancelled (M2).

        Raises:
            StorageFault: The disk failed or is full.
        """
        due = trio.current_time() + self._interval_s
        while True:
            await trio.sleep_until(due)
            await self.mine(1)
            due = max(due + self._interval_s, trio.current_time())

    async def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction in; return its hash when it can not be lost any more.

        Raises:
            CallRefused: It is not accepted.
            StorageFault: The disk failed or is full.
        """
        chain = self._chain
        transaction = decode_transaction(raw)
        gas_limit = chain.head.header.gas_limit
        check_transaction(transaction, chain_id=chain.chain_id, gas_limit=gas_limit)
        async with self._lock:
            sender = transaction.sender
            replaced = chain.pool.check(
                transaction, nonce=chain.nonce(sender), balance=chain.balance(sender)
            )
            with trio.CancelScope(shield=True):
                arrival = chain.pool.next_arrival
                await trio.to_thread.run_sync(
                    chain.journal, transaction, replaced, limiter=self._thread
                )
                chain.pool.add(transaction, arrival=arrival)
        return transaction.hash

    async def mine(self, count: int) -> None:
        """Make blocks at once.

        Raises:
            StorageFault: The disk failed or is full.
        """
        for _ in range(count):
            async with self._lock:
                candidates, stale = self._chain.candidates()
                extend = partial(self._chain.extend, candidates, stale, timestamp=unix_time_s())
                await self._make(extend)

    async def reorganise(self, depth: int, *, keep: bool) -> None:
        """Replace the newest blocks by others (`Chain.reorganise`).

        Raises:
            StorageFault: The disk failed or is full.
        """
        async with self._lock:
            depth = min(depth, self._chain.head.number)
            if depth:
                now = unix_time_s()
                await self._make(partial(self._chain.reorganise, depth, keep=keep, timestamp=now))
        _log.info("reorganised", depth=depth, keep=keep, head=data(self._chain.head.hash))

    async def _make(self, make: Callable[[], Step]) -> None:
        """Make blocks in a thread and let them be seen; can not be interrupted in between."""
        with trio.CancelScope(shield=True):
            step = await trio.to_thread.run_sync(make, limiter=self._thread)
        self._chain.adopt(step)
        for transaction in step.hopeless:
            _log.warning(
                "transaction_given_up",
                transaction=data(transaction.hash),
                limit_s=TRANSACTION_TIME_S,
            )
