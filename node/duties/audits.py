"""An auditor's epoch: examine whom the beacon names, commit, and show in the next epoch.

Rules
    A1. Each duty is done once an epoch, at a random time that the audited can not know.
    A2. Verdicts are committed to when the probes are over, and shown in the epoch after.
    A3. Nothing is kept on disk: an auditor that restarts in between shows nothing for that epoch,
        and the others' median stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Final

import structlog
import trio

from omninode.consensus.participation.audits import audit_commitment
from omninode.contracts.statements import Statements
from omninode.dex.exchange import Exchange
from omninode.dex.staking.statements import CommitAudits, RevealAudits, Service, Verdict
from omninode.encoding import encode
from omninode.node.duties.challenges import Challenge
from omninode.node.duties.limits import (
    AUDIT_FROM_PERCENT,
    AUDIT_UNTIL_PERCENT,
    COMMIT_FROM_PERCENT,
)

log = structlog.get_logger("duties")

SALT_BYTES: Final = 32


@dataclass
class AuditedEpoch:
    """What this auditor found in one epoch."""

    number: int
    salt: bytes
    verdicts: dict[tuple[bytes, Service], int] = field(default_factory=dict)

    def sorted_verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdicts as they are shown."""
        return tuple(
            (address, service, points)
            for (address, service), points in sorted(self.verdicts.items())
        )


class Auditor:
    """Does this validator's audits.

    Args:
        exchange: The newest executed state.
        me: Vote address of this validator.
        statements: Its transactions.
        challenges: How each service is examined.
        now_ms: The wall clock.
        nursery: Where probes run.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        me: bytes,
        statements: Statements,
        challenges: Mapping[Service, Challenge],
        now_ms: Callable[[], int],
        nursery: trio.Nursery,
    ) -> None:
        self._exchange = exchange
        self._me = me
        self._statements = statements
        self._challenges = challenges
        self._now_ms = now_ms
        self._nursery = nursery
        self._random = SystemRandom()
        self._present: AuditedEpoch | None = None
        self._last: AuditedEpoch | None = None

    async def step(self) -> None:
        """Look at the newest state and do what is due."""
        number = self._exchange.state.staking.epochs.number
        if self._present is None or self._present.number != number:
            self._begin(number)
        await self._commit()
        await self._show()

    def _begin(self, number: int) -> None:
        """Take up an epoch: every duty gets its time (A1)."""
        self._last, self._present = (
            self._present,
            AuditedEpoch(number, self._random.randbytes(SALT_BYTES)),
        )
        state = self._exchange.state
        peers = {v.address: v.peer_id for v in state.validator_set.validators}
        for audited in state.staking.audits.duties(self._me, state.validator_set):
            for service, challenge in self._challenges.items():
                self._nursery.start_soon(
                    self._examine, self._present, audited, peers[audited], service, challenge
                )

    async def _examine(
        self,
        epoch: AuditedEpoch,
        audited: bytes,
        peer: str,
        service: Service,
        challenge: Challenge,
    ) -> None:
        percent = self._random.uniform(AUDIT_FROM_PERCENT, AUDIT_UNTIL_PERCENT)
        await trio.sleep(max(0, self._ms_until(percent)) / 1000)
        salt = self._random.randbytes(SALT_BYTES)
        points = await challenge.examine(audited, peer, epoch=epoch.number, salt=salt)
        epoch.verdicts[audited, service] = points
        log.debug("audited", validator=audited.hex(), service=service, points=points)

    def _ms_until(self, percent: float) -> float:
        """Return how long it is until a part of the epoch has passed."""
        staking = self._exchange.state.staking
        epoch_ms = self._exchange.rules.epochs.epoch_ms
        return staking.epochs.start_ms + epoch_ms * percent / 100 - self._now_ms()

    async def _commit(self) -> None:
        """Commit to the verdicts of this epoch (A2)."""
        epoch = self._present
        if epoch is None or not epoch.verdicts or self._ms_until(COMMIT_FROM_PERCENT) > 0:
            return
        records = self._exchange.state.staking.audits.records
        name = f"audits {epoch.number}"
        if (epoch.number, self._me) in records or self._statements.is_open(name):
            return
        commitment = audit_commitment(
            self._me, epoch.number, epoch.salt, encode(epoch.sorted_verdicts())
        )
        await self._statements.say(name, CommitAudits(epoch.number, commitment))

    async def _show(self) -> None:
        """Show the verdicts of the last epoch (A2)."""
        epoch = self._last
        staking = self._exchange.state.staking
        if epoch is None or staking.epochs.next_set is not None:
            return
        record = staking.audits.records.get((epoch.number, self._me))
        name = f"verdicts {epoch.number}"
        if record is None or record.is_shown or self._statements.is_open(name):
            return
        if epoch.number == staking.epochs.number - 1:
            verdicts = epoch.sorted_verdicts()
            await self._statements.say(name, RevealAudits(epoch.number, epoch.salt, verdicts))
