"""A validator's duties, looked at after every stored block.

Rules
    D1. A registered candidate says once that it has caught up; before, it is in no set (P6).
    D2. Two contradictory votes are reported until the offender is convicted or unknown; every
        member of the set that has seen them reports them (ADR 010).
    D3. While halted or behind, nothing is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import structlog
import trio

from omninode.consensus.participation.evidence import vote_signer
from omninode.consensus.types import Vote
from omninode.contracts.statements import Statements
from omninode.crypto import checksum_address
from omninode.dex.exchange import Exchange
from omninode.dex.staking.registry import TOMBSTONED
from omninode.dex.staking.statements import ReportEvidence, Synced
from omninode.node.duties.audits import Auditor
from omninode.node.duties.challenges import Asker, ExchangeChallenge
from omninode.node.duties.limits import FRESH_MS

log = structlog.get_logger("duties")


class Duties:
    """Does what a validator, or one who wants to be, owes the network.

    Args:
        exchange: The newest executed state.
        me: Address of the vote key.
        statements: Its transactions.
        evidence: Pairs of contradictory votes that consensus has seen; what is done is removed.
        network: To examine others.
        may_speak: Whether the node is neither halted nor behind (D3).
        now_ms: The wall clock.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        me: bytes,
        statements: Statements,
        evidence: deque[tuple[Vote, Vote]],
        network: Asker,
        may_speak: Callable[[], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._exchange = exchange
        self._me = me
        self._statements = statements
        self._evidence = evidence
        self._network = network
        self._may_speak = may_speak
        self._now_ms = now_ms
        self._news = trio.Event()

    def changed(self) -> None:
        """Look again: a block is stored."""
        self._news.set()
        self._news = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; without staking there is nothing to do."""
        if not self._exchange.state.staking.is_on:
            task_status.started()
            return
        async with trio.open_nursery() as nursery:
            task_status.started()
            await self._run(nursery)

    async def _run(self, nursery: trio.Nursery) -> NoReturn:
        challenge = ExchangeChallenge(
            self._network, self._statements, self._exchange, changed=lambda: self._news
        )
        auditor = Auditor(
            self._exchange,
            me=self._me,
            statements=self._statements,
            challenges={"dex": challenge},
            now_ms=self._now_ms,
            nursery=nursery,
        )
        while True:
            news = self._news
            if self._may_speak():
                await self._say_synced()
                if self._exchange.state.validator_set.index_of(self._me) is not None:
                    await self._report_evidence()
                    await auditor.step()
            await news.wait()

    async def _say_synced(self) -> None:
        """Ask for a place in the set (D1)."""
        staking = self._exchange.state.staking
        member = staking.registry.by_address(self._me)
        if (
            member is not None
            and staking.is_candidate(self._me)
            and not member.is_synced
            and self._now_ms() - self._exchange.time_ms < FRESH_MS
            and not self._statements.is_open("synced")
        ):
            await self._statements.say("synced", Synced())

    async def _report_evidence(self) -> None:
        """Report what consensus has seen (D2)."""
        registry = self._exchange.state.staking.registry
        for pair in list(self._evidence):
            offender = vote_signer(pair[0], self._exchange.rules.hash)
            member = registry.by_address(offender)
            if member is None or member.status == TOMBSTONED:
                self._evidence.remove(pair)
                continue
            name = f"evidence {offender.hex()}"
            if not self._statements.is_open(name):
                log.warning("reporting_evidence", validator=checksum_address(offender))
                await self._statements.say(name, ReportEvidence(*pair))
