"""Brings the contract what is certified: normally one validator, each in its turn.

Rules
    R1. Anybody may bring checkpoints, handovers and proofs, and the contract takes each once; so
        nothing here is needed for safety. What comes next is said by `errands`.
    R2. It is the turn of validator `number mod n`, at once. Each next one waits `TURN_S` and a
        block longer since the contract took something, so that one that fails is replaced,
        whatever is certified meanwhile, and gas is paid once, however rare blocks are.
    R3. A transaction that is stuck is replaced by one with a higher fee and what is to be brought
        by then.
    R4. An account without money is told in the log and in the status, and asked again later.
    R5. A stuck transaction whose nonce the account has not come to, because the chain lost one
        before it or an endpoint told a wrong number, is given up and signed anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog
import trio

from omninode.contracts.abi import SettlementAbi
from omninode.contracts.errands import Errand, Errands, Held, Key
from omninode.contracts.fees import (
    ACCEPTED,
    NO_FUNDS,
    NONCE_USED,
    REFUSED,
    UNDERPRICED,
    raised_fee,
)
from omninode.contracts.follower import Follower
from omninode.contracts.limits import ERRANDS_PASSED_OVER_MAX
from omninode.contracts.sending import GasAccount
from omninode.contracts.source import Source
from omninode.errors import ChainError, EndpointError

TURN_S: Final = 3.0
LOOK_AGAIN_S: Final = 0.5
RESEND_S: Final = 5.0
STUCK_S: Final = 30.0
FAILURE_PAUSE_S: Final = 2.0
EMPTY_PAUSE_S: Final = 15.0

log = structlog.get_logger(subsystem="settlement")


@dataclass(frozen=True, slots=True)
class _Turns:
    """Since when the contract could have more than `held` (R2).

    Attributes:
        held: What it had then.
        number: Of what was to be brought then.
        since: The time.
        height: The chain's height.
    """

    held: Held
    number: int
    since: float
    height: int


class Relay:
    """Sends transactions from one validator's gas account.

    Args:
        account: Pays.
        abi: The contract.
        follower: What the chain has, and which endpoints to use.
        errands: What is to be brought.
        turn: Returns this validator's place in the current set, if it has one, and the set's size.

    Attributes:
        trouble: Why nothing is sent from here, or empty.
        counts: What became of transactions: `sent`, `raised`, `done`, `failed`, `replaced`.
    """

    def __init__(
        self,
        account: GasAccount,
        *,
        abi: SettlementAbi,
        follower: Follower,
        errands: Errands,
        turn: Callable[[], tuple[int | None, int]],
    ) -> None:
        self.trouble = ""
        self.counts: Final[Counter[str]] = Counter()
        self._account = account
        self._abi = abi
        self._follower = follower
        self._errands = errands
        self._turn = turn
        self._news = trio.Event()
        self._choice = 0
        self._errand: Errand | None = None
        self._turns = _Turns(Held(-1, -1), 0, 0.0, 0)
        self._passed_over: dict[Key, None] = {}
        self._sent_at = float("-inf")
        self._first_sent_at = float("-inf")
        self._looked_at_height: int | None = None

    def wake(self) -> None:
        """Look again: the chain or the state has moved."""
        self._news.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Bring what is to be brought until cancelled."""
        task_status.started()
        while True:
            try:
                pause_s = await self._step()
            except ChainError as error:
                self._choice += 1
                log.debug("relay_waits", why=str(error))
                pause_s = FAILURE_PAUSE_S
            if pause_s > LOOK_AGAIN_S:
                await trio.sleep(pause_s)
            with trio.move_on_after(self._wait_s()):
                await self._news.wait()
            # What comes from here on is seen by the next step or wakes it.
            self._news = trio.Event()

    def _wait_s(self) -> float:
        """Return for how long nothing happens by itself."""
        is_busy = self._account.open is not None or self._errand is not None
        return LOOK_AGAIN_S if is_busy else RESEND_S

    async def _step(self) -> float:
        """Do what is to be done now; returns how long to rest at least."""
        sources = self._sources()
        if not sources or self._follower.halted:
            return LOOK_AGAIN_S
        if self._account.open is not None:
            return await self._pursue(sources)
        errand = self._next()
        if errand is None or not self._is_my_turn(errand):
            return LOOK_AGAIN_S
        return await self._begin(errand, sources)

    def _sources(self) -> list[Source]:
        """Return the endpoints to use; another comes first after each failure."""
        healthy = self._follower.healthy()
        first = self._choice % len(healthy) if healthy else 0
        return healthy[first:] + healthy[:first]

    def _next(self) -> Errand | None:
        """Return what is to be brought, unless the contract was found to have it."""
        self._errand = self._errands.next(self._follower.held, self._passed_over)
        return self._errand

    def _pass_over(self, errand: Errand) -> float:
        """Leave out what the contract has: somebody else was quicker (R1)."""
        self._passed_over[errand.key] = None
        while len(self._passed_over) > ERRANDS_PASSED_OVER_MAX:
            del self._passed_over[next(iter(self._passed_over))]
        return LOOK_AGAIN_S

    def _is_my_turn(self, errand: Errand) -> bool:
        """Whether this validator's time to bring it has come (R2)."""
        index, count = self._turn()
        if index is None:
            return False
        now, height, held = trio.current_time(), self._follower.chain_height, self._follower.held
        if self._turns.held != held:
            self._turns = _Turns(held, errand.number, now, height or 0)
        turns = self._turns
        place = (index - turns.number) % count
        is_late = now >= turns.since + place * TURN_S and (height or 0) - turns.height > place
        return is_late or (index - errand.number) % count == 0

    # --- A new transaction -----------------------------------------------------------------------

    async def _begin(self, errand: Errand, sources: list[Source]) -> float:
        account, source = self._account, sources[0]
        if errand.proves is not None:
            owner, number = errand.proves
            if await source.reader.stake_checkpoint(owner) >= number:
                return self._pass_over(errand)
        data = errand.encode()
        try:
            gas = await account.gas(source, to=self._abi.address, data=data)
        except EndpointError as error:
            return self._not_taken(errand, error)
        fee = await account.fee(source, base_fee=self._follower.base_fee(source))
        balance = await account.balance(source)
        if balance < gas * fee.max_fee:
            return self._is_empty(balance)
        nonce = await account.nonce(source)
        await account.sign(
            nonce=nonce, name=errand.name, to=self._abi.address, data=data, gas=gas, fee=fee
        )
        self._trouble("")
        self._first_sent_at = trio.current_time()
        self.counts["sent"] += 1
        return await self._send(sources)

    def _not_taken(self, errand: Errand, error: EndpointError) -> float:
        """Note why the contract would not take it."""
        name = self._abi.error_name(error.data)
        if name in errand.overtaken_by:
            return self._pass_over(errand)
        self._choice += 1
        self._trouble(f"the contract would not take {errand.name}: {name or error}")
        return FAILURE_PAUSE_S

    def _is_empty(self, balance: int) -> float:
        self._choice += 1  # It is one endpoint's word.
        address = self._account.address
        self._trouble(f"the gas account {address} has {balance} wei: fund it to send checkpoints")
        return EMPTY_PAUSE_S

    def _trouble(self, what: str) -> None:
        if what != self.trouble and what:
            log.warning("checkpoints_not_sent", why=what)
        self.trouble = what

    # --- The open transaction --------------------------------------------------------------------

    async def _pursue(self, sources: list[Source]) -> float:
        """See what became of the open transaction; send it again or replace it."""
        now, account = trio.current_time(), self._account
        height = self._follower.chain_height
        if height == self._looked_at_height and now < self._sent_at + RESEND_S:
            return LOOK_AGAIN_S
        self._looked_at_height = height
        outcome = await account.outcome(sources[0])
        if outcome is not None:
            await self._settled(outcome)
            return LOOK_AGAIN_S
        if now < self._sent_at + RESEND_S:
            return LOOK_AGAIN_S
        if self._first_sent_at == float("-inf"):
            self._first_sent_at = now  # Sent before a restart.
        if now > self._first_sent_at + STUCK_S:
            self._choice += 1
            if await account.is_out_of_reach(sources[0]):
                await self._settled("replaced")  # R5
                return LOOK_AGAIN_S
            await self._raise(sources)
        return await self._send(sources)

    async def _send(self, sources: list[Source]) -> float:
        answer = await self._account.send(sources)
        self._sent_at = trio.current_time()
        if answer in {ACCEPTED, NONCE_USED}:
            self._trouble("")
            return LOOK_AGAIN_S  # A used nonce shows in `outcome`.
        if answer == NO_FUNDS:
            return self._is_empty(await self._account.balance(sources[0]))
        if answer == UNDERPRICED:
            await self._raise(sources)
        elif answer == REFUSED:
            self._trouble("the endpoints refuse the transaction; it is sent again")
        return FAILURE_PAUSE_S

    async def _raise(self, sources: list[Source]) -> None:
        """Replace the open transaction by one with a higher fee and what is due now (R3)."""
        account, source = self._account, sources[0]
        send, errand = account.open, self._next()
        if send is None or errand is None or not account.may_replace:
            return
        now = await account.fee(source, base_fee=self._follower.base_fee(source))
        fee = raised_fee(account.open_fee, now)
        if fee is None:
            self._trouble(f"{send.name} is stuck at the highest fee")
            return
        data = errand.encode()
        try:
            gas = await account.gas(source, to=self._abi.address, data=data)
        except EndpointError as error:
            self._not_taken(errand, error)
            return
        await account.sign(
            nonce=send.nonce, name=errand.name, to=self._abi.address, data=data, gas=gas, fee=fee
        )
        self._first_sent_at = trio.current_time()
        self.counts["raised"] += 1
        log.info("relay_fee_raised", what=errand.name, max_fee_wei=fee.max_fee)

    async def _settled(self, outcome: str) -> None:
        send = self._account.open
        await self._account.settle()
        self._first_sent_at = self._sent_at = float("-inf")
        self._looked_at_height = None
        self.counts[outcome] += 1
        what = "" if send is None else send.name
        if outcome == "done":
            log.info("relay_brought", what=what)
        else:
            log.info("relay_not_needed", what=what, outcome=outcome)
