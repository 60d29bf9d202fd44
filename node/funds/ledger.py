"""What the settlement contract's events say, summed up block after block.

Rules
    L1. Every event from the first block that can have one up to `read_to` is counted, each once.
    L2. If the chain changes below `read_to`, everything is counted anew.
    L3. The deposits counted are as many as the contract itself counts at that block; an endpoint
        that leaves events out is found out.
        What is staked is counted among them, and its tokens are deposited ones.
    L4. A range with more events than one answer may have is asked for in halves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from omninode.dex.bridge.deposits import KINDS_WITH_MONEY
from omninode.errors import ChainError, EndpointError, UserError
from omninode.node.funds.calls import (
    CHECKPOINTED,
    DEPOSIT_COUNT,
    DEPOSITED,
    STAKE_CHANGED,
    WITHDRAWN,
    topic,
)
from omninode.node.funds.chain import BlockId, SettlementChain
from omninode.node.funds.limits import LOG_BLOCKS_MAX, REORGANISATIONS_MAX
from omninode.node.funds.terms import SettlementTerms

_KINDS: Final = (DEPOSITED, STAKE_CHANGED, WITHDRAWN, CHECKPOINTED)


class Ledger:
    """Deposits, withdrawals and checkpoints as the settlement chain has them.

    Args:
        chain: The chain.
        terms: Which contract.
        on_block: Told the number of the newest block read, for people.

    Attributes:
        read_to: The newest block that is counted; `None` before the first.
        deposited: Base units by token.
        withdrawn: The same.
        deposits: How many.
        withdrawals: How many.
        checkpoints: How many.
    """

    def __init__(
        self,
        chain: SettlementChain,
        terms: SettlementTerms,
        *,
        on_block: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._chain = chain
        self._terms = terms
        self._on_block = on_block
        self._forget()

    def _forget(self) -> None:
        self.read_to: BlockId | None = None
        self.deposited: Counter[bytes] = Counter()
        self.withdrawn: Counter[bytes] = Counter()
        self.deposits = 0
        self.withdrawals = 0
        self.checkpoints = 0

    async def advance(self) -> BlockId:
        """Count everything up to the chain's newest block, and return that.

        What was counted stays so if this fails on the way.

        Raises:
            ChainError: The chain changes all the time, or events are missing (L3).
        """
        for _ in range(REORGANISATIONS_MAX):
            if self.read_to is not None and await self._has_changed(self.read_to):
                self._forget()  # L2
            target = await self._chain.newest()
            if self.read_to == target:
                return target
            await self._read(target)
            if not await self._has_changed(target):
                await self._check_count(target)
                return target
        raise ChainError("the settlement chain changes while it is read", retryable=True)

    async def _has_changed(self, block: BlockId) -> bool:
        return await self._chain.block(block.number) != block

    async def _read(self, target: BlockId) -> None:
        first = self._terms.start_block if self.read_to is None else self.read_to.number + 1
        kinds = [topic(kind) for kind in _KINDS]
        span = LOG_BLOCKS_MAX
        while first <= target.number:
            last = min(first + span - 1, target.number)
            try:
                logs = await self._chain.logs(self._terms.contract, kinds, first=first, last=last)
            except (EndpointError, UserError) as error:
                if last == first or not _may_be_too_much(error):
                    raise
                span = (last - first + 1) // 2  # L4
                continue
            span = min(2 * span, LOG_BLOCKS_MAX)
            block = target if last == target.number else await self._chain.block(last)
            for log in logs:
                self._count(log)
            self.read_to = block
            first = last + 1
            self._on_block(last)

    async def _check_count(self, block: BlockId) -> None:
        counted = await self._chain.read(self._terms.contract, DEPOSIT_COUNT, block=block.number)
        if counted != self.deposits:  # L3
            shown = self.deposits
            self._forget()
            raise ChainError(
                f"the contract counts {counted} deposits at block {block.number}, but its events "
                f"show {shown}",
                retryable=True,
            )

    def _count(self, log: dict[str, Any]) -> None:
        topics, data = log["topics"], bytes.fromhex(log["data"].removeprefix("0x"))
        if topics[0] == topic(DEPOSITED):
            self.deposited[_address(topics[2])] += int.from_bytes(data[32:64], "big")
            self.deposits += 1
        elif topics[0] == topic(STAKE_CHANGED):
            self.deposits += 1
            token = self._terms.stake_token
            if token is not None and int(topics[3], 16) in KINDS_WITH_MONEY:
                self.deposited[token] += int.from_bytes(data[:32], "big")
        elif topics[0] == topic(WITHDRAWN):
            self.withdrawn[_address(topics[2])] += int.from_bytes(data[:32], "big")
            self.withdrawals += 1
        else:
            self.checkpoints += 1


def _may_be_too_much(error: EndpointError | UserError) -> bool:
    """Whether asking for less may help; endpoints have no common word for it."""
    return isinstance(error, EndpointError) or error.reason == "response_too_large"


def _address(word: str) -> bytes:
    return bytes.fromhex(word[-40:])
