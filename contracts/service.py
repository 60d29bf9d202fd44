"""The settlement part of a node: follows the chain, attests, signs, relays, and says how it fares.

Rules
    S1. No fault of the chain, an endpoint or the gas account stops the node: it ends in a state
        that `status` tells. A full disk and a defect of ours do stop it, as everywhere.
    S2. Only a validator attests, signs and relays, and who has left still signs the handover to
        those after it; every node with endpoints follows. Signing needs
        no endpoint, so checkpoints are certified also while the chain can not be reached, and the
        newest one catches up.
    S3. While halted, or while the node is fetching blocks it missed, nothing is said; but that the
        credited deposits are not those on the chain is told to everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
import structlog
import trio

from omninode.contracts.attester import contradiction, next_attestation
from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import FORWARDED_CALLS_MAX
from omninode.contracts.statements import Statements
from omninode.contracts.status import SettlementState, SettlementStatus
from omninode.crypto import SigningKey, checksum_address
from omninode.dex.actions import SignCheckpoint, SignHandover
from omninode.dex.bridge.state import Bridge
from omninode.dex.exchange import Exchange

if TYPE_CHECKING:
    # These need web3, which is only loaded where endpoints are configured.
    from omninode.contracts.confirmed import ConfirmedLog
    from omninode.contracts.follower import Follower
    from omninode.contracts.relay import Relay
    from omninode.contracts.source import Source

CLOSE_DEADLINE_S: Final = 1.0
DEPOSITS: Final = "deposits"
OUTCOMES: Final = ("sent", "raised", "done", "failed", "replaced")
"""What becomes of the gas account's transactions."""

log = structlog.get_logger(subsystem="settlement")


@dataclass(frozen=True, slots=True)
class ChainSide:
    """The parts that talk to the chain; there are none without endpoints.

    Attributes:
        follower: Follows the contract.
        confirmed: What it confirmed, on disk.
        relay: Brings checkpoints and handovers; `None` where none are sent.
    """

    follower: Follower
    confirmed: ConfirmedLog
    relay: Relay | None


class SettlementService:
    """Implements the settlement port of the RPC interface, and runs the validator's duties.

    Args:
        exchange: The newest executed state.
        key: The vote key; `None` for a node that only follows. It may be in the set or not: sets
            change.
        statements: The validator's transactions; `None` likewise.
        is_behind: Whether the node is fetching blocks that the network has.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        key: SigningKey | None,
        statements: Statements | None,
        is_behind: Callable[[], bool],
    ) -> None:
        self._exchange = exchange
        self._key = key
        self._statements = statements
        self._is_behind = is_behind
        self._chain: ChainSide | None = None
        self._contradiction = ""
        self._checked_count = -1
        self._news = trio.Event()
        self._forwarded = trio.CapacityLimiter(FORWARDED_CALLS_MAX)

    def attach(self, chain: ChainSide) -> None:
        """Give it the parts that talk to the chain; before `run`."""
        self._chain = chain

    @property
    def _bridge(self) -> Bridge:
        return self._exchange.state.bridge

    # --- For the rest of the node ----------------------------------------------------------------

    def changed(self) -> None:
        """Look again: a block is stored, or the chain has moved."""
        self._news.set()
        if self._chain is not None and self._chain.relay is not None:
            self._chain.relay.wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled (S1)."""
        try:
            async with trio.open_nursery() as nursery:
                if self._chain is not None:
                    nursery.start_soon(self._chain.follower.run)
                    if self._chain.relay is not None:
                        nursery.start_soon(self._chain.relay.run)
                nursery.start_soon(self._do_duties)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_DEADLINE_S):
                await self._close()

    async def _close(self) -> None:
        if self._chain is not None:
            for source in self._chain.follower.sources:
                await source.endpoint.close()

    # --- The port --------------------------------------------------------------------------------

    def status(self) -> SettlementStatus:
        """Say how it fares."""
        state, details = self._state()
        chain, rules = self._chain, self._exchange.rules
        contract = checksum_address(self._bridge.domain.contract)
        if chain is None:
            detail = "; ".join(details)
            return SettlementStatus(state, detail, rules.settlement_chain_id, contract)
        return SettlementStatus(
            state,
            "; ".join(details),
            rules.settlement_chain_id,
            contract,
            chain.follower.chain_height,
            chain.follower.confirmed_height,
            chain.confirmed.ledger.deposits.count,
            chain.follower.newest_checkpoint or None,
        )

    def _state(self) -> tuple[SettlementState, list[str]]:
        state: SettlementState = "off"
        details = ["no endpoint is configured (settlement.endpoints)"]
        if self._chain is not None:
            state, detail = self._chain.follower.state()
            details = [detail]
        if self._contradiction:
            state = "halted"
            details.append(self._contradiction)
        disagreement = self._bridge.deposits.disagreement
        if disagreement is not None:
            sides = " against ".join(
                ", ".join(checksum_address(address) for address in addresses)
                for _, addresses in disagreement.sides
            )
            details.append(f"validators differ about deposit {disagreement.index}: {sides}")
        if self._chain is not None and self._chain.relay is not None:
            details.append(self._chain.relay.trouble)
        return state, [detail for detail in details if detail]

    def is_claimed(self, index: int) -> bool:
        """Whether the contract has paid a withdrawal out, as far as this node has seen."""
        return self._chain is not None and self._chain.follower.is_claimed(index)

    def newest_checkpoint(self) -> int | None:
        """Return the number of the newest checkpoint that the contract holds, if one was seen."""
        return None if self._chain is None else self._chain.follower.newest_checkpoint or None

    def certified_checkpoint(self) -> int | None:
        """Return the number of the newest checkpoint that the validators have certified."""
        certified = self._bridge.checkpoints.certified
        return None if certified is None else certified.checkpoint.number

    def sent(self, outcome: str) -> int:
        """Return how many transactions of the gas account ended so (one of `OUTCOMES`)."""
        relay = None if self._chain is None else self._chain.relay
        return 0 if relay is None else relay.counts[outcome]

    async def forward(self, method: str, params: list[Any]) -> msgspec.Raw:
        """Call a method of the first endpoint that answers; returns the JSON text of its result.

        Raises:
            EndpointError: The endpoint's own error.
            EndpointFailure: There is no endpoint, or none answers; or the answer is `too_long`,
                and no other endpoint is asked for the same.
        """
        sources: list[Source] = []
        if self._chain is not None:
            follower = self._chain.follower
            # After a deep reorganisation no endpoint goes with what was confirmed.
            sources = follower.answering() if follower.halted else follower.healthy()
        failure = EndpointFailure("no endpoint of the settlement chain answers")
        async with self._forwarded:
            for source in sources:
                try:
                    return await source.endpoint.pass_on(method, params)
                except EndpointFailure as error:
                    if error.too_long:
                        raise
                    failure = error
        raise failure

    # --- A validator's duties --------------------------------------------------------------------

    async def _do_duties(self) -> NoReturn:
        """Attest and sign whenever there is something new (S2, S3)."""
        while True:
            self._check_credited()
            if self._statements is not None and self._may_speak():
                await self._attest(self._statements)
                if not self._contradiction:
                    await self._sign(self._statements)
                    await self._hand_over(self._statements)
            await self._news.wait()
            self._news = trio.Event()

    def _may_speak(self) -> bool:
        halted = self._chain is not None and self._chain.follower.halted
        return not halted and not self._is_behind()

    def _check_credited(self) -> None:
        """Compare what is credited with the chain, whenever more is credited."""
        count = self._bridge.deposits.credited.count
        if self._chain is None or (count == self._checked_count and not self._contradiction):
            return
        confirmed = self._chain.confirmed
        if count > confirmed.ledger.deposits.count:
            return
        self._checked_count = count
        found = contradiction(self._bridge.deposits, confirmed.ledger.deposits, confirmed)
        if found and not self._contradiction:
            log.error("settlement_halted", why=found)
        self._contradiction = found

    async def _attest(self, statements: Statements) -> None:
        if self._chain is None or self._key is None or statements.is_open(DEPOSITS):
            return
        if self._exchange.state.validator_set.index_of(self._key.address) is None:
            return
        confirmed = self._chain.confirmed
        action = next_attestation(
            self._bridge.deposits, confirmed.ledger.deposits, confirmed, me=self._key.address
        )
        if action is not None:
            await statements.say(DEPOSITS, action)

    async def _sign(self, statements: Statements) -> None:
        """Sign the newest checkpoint that waits for this validator; older ones are not needed."""
        pending, key = self._bridge.checkpoints.pending, self._key
        if not pending or key is None:
            return
        newest = pending[max(pending)]
        number = newest.checkpoint.number
        name = f"checkpoint {number}"
        index = self._exchange.state.validator_set.index_of(key.address)
        if index is None or index in newest.signatures or statements.is_open(name):
            return
        await statements.say(name, SignCheckpoint(number, key.sign(newest.digest)))

    async def _hand_over(self, statements: Statements) -> None:
        """Sign the handovers that wait for this key, also after it has left the set."""
        key = self._key
        if key is None:
            return
        for next_epoch, pending in sorted(self._bridge.handovers.pending.items()):
            name = f"handover {next_epoch}"
            if pending.awaits(key.address) and not statements.is_open(name):
                await statements.say(name, SignHandover(next_epoch, key.sign(pending.digest)))
