"""Follows the settlement contract on the chain: one task for each endpoint, one place to decide.

Rules
    L1. Each endpoint is polled on its own; a slow or missing one holds up nobody else. One that
        failed is asked again after a pause that doubles up to `RETRY_PAUSE_MAX_S`, and is checked
        anew (U1 of `source`) before it counts.
    L2. What a majority tells is decoded, folded and stored before the next blocks are looked at
        (`following`, `events`, `confirmed`). Whatever the endpoints do, the node goes on.
    L3. A reorganisation below the confirmations halts: the node neither attests nor signs until a
        majority has the confirmed block again. The halt is on disk, so a restart does not end it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import structlog
import trio

from omninode.contracts.abi import SettlementAbi
from omninode.contracts.branch import Anchor, AskStretch
from omninode.contracts.confirmed import ConfirmedLog
from omninode.contracts.errands import Held
from omninode.contracts.events import Checkpointed, ContractEvent, Ledger, Rotated, Withdrawn, fold
from omninode.contracts.failures import EndpointFailure
from omninode.contracts.following import (
    Agreed,
    DeepReorganisation,
    Disagreement,
    Following,
)
from omninode.contracts.limits import LOGS_DECODED_AT_ONCE, LOOK_BACK_S, TIP_BLOCKS
from omninode.contracts.source import Source
from omninode.contracts.status import SettlementState
from omninode.contracts.wire import Log
from omninode.errors import ChainError, Malformed

RETRY_PAUSE_S: Final = 0.5
RETRY_PAUSE_MAX_S: Final = 30.0
DOUBLINGS_MAX: Final = 6

log = structlog.get_logger(subsystem="settlement")


class Follower:
    """Keeps the confirmed log up to date.

    Args:
        sources: The configured endpoints.
        abi: The contract.
        confirmed: The log on disk.
        confirmations: From genesis.
        poll_interval_s: Time between two questions for an endpoint's newest block.
        on_change: Called after blocks were confirmed or the state changed.

    Attributes:
        halted: Why nothing is attested or signed, or empty.
        outvoted: Names of endpoints that told otherwise than the majority, with the block.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        abi: SettlementAbi,
        confirmed: ConfirmedLog,
        confirmations: int,
        poll_interval_s: float,
        on_change: Callable[[], None],
    ) -> None:
        self.halted = confirmed.halt
        self.outvoted: dict[str, int] = {}
        self.sources: Final = sources
        self._abi = abi
        self._confirmed = confirmed
        self._poll_interval_s = poll_interval_s
        self._on_change = on_change
        self._following = Following(len(sources), confirmed.base, confirmations)
        self._failures: list[str] = [""] * len(sources)
        self._away_since: list[float | None] = [None] * len(sources)
        self._disagreement = ""
        self._tip_logs: list[Log] = []
        self._seen_checkpoint = 0
        self._seen_epoch = 0
        self._seen_claims: frozenset[int] = frozenset()
        self._settling = trio.Lock()
        self._moved = trio.Event()

    # --- What is known ---------------------------------------------------------------------------

    @property
    def is_reachable(self) -> bool:
        """Whether a majority of the endpoints answer."""
        away = sum(branch.is_away for branch in self._following.branches)
        return len(self.sources) - away >= self._following.majority

    @property
    def chain_height(self) -> int | None:
        """The newest block that any endpoint told of."""
        heads = [b.head.number for b in self._following.branches if b.head is not None]
        return max(heads, default=None)

    @property
    def confirmed_height(self) -> int | None:
        """The newest confirmed block."""
        number = self._confirmed.base.number
        return number if self._confirmed.has_progress else None

    @property
    def newest_checkpoint(self) -> int:
        """Number of the newest checkpoint in a block that a majority has; 0 before the first."""
        return max(self._confirmed.ledger.checkpoint, self._seen_checkpoint)

    @property
    def held(self) -> Held:
        """What the contract has in blocks that a majority has."""
        epoch = max(self._confirmed.ledger.epoch, self._seen_epoch)
        return Held(epoch, self.newest_checkpoint)

    def is_claimed(self, index: int) -> bool:
        """Whether a withdrawal was paid out in a block that a majority has."""
        return index in self._seen_claims or self._confirmed.is_claimed(index)

    def healthy(self) -> list[Source]:
        """Return the endpoints that answer and go with the majority, in the configured order."""
        base = self._following.base.number
        return [
            source
            for source, branch in zip(self.sources, self._following.branches, strict=True)
            if not branch.is_away
            and not branch.contradicts
            and not (branch.head is not None and branch.head.number < base)
            and source.name not in self.outvoted
        ]

    def answering(self) -> list[Source]:
        """Return the endpoints that answer, the healthy ones first."""
        healthy = self.healthy()
        branches = zip(self.sources, self._following.branches, strict=True)
        others = [s for s, branch in branches if not branch.is_away and s not in healthy]
        return healthy + others

    def base_fee(self, source: Source) -> int:
        """Return the base fee of the newest block that an endpoint told of."""
        place = self.sources.index(source)
        head = self._following.branches[place].head
        return 0 if head is None else head.base_fee

    def state(self) -> tuple[SettlementState, str]:
        """Return the state and more about it for people."""
        if self.halted:
            return "halted", self.halted
        if not self.is_reachable:
            away = [i for i, branch in enumerate(self._following.branches) if branch.is_away]
            never = all(since is None for since in self._away_since)
            return ("starting" if never else "unreachable"), "; ".join(map(self._absence, away))
        if self._disagreement:
            return "disagreement", self._disagreement
        return "following", "; ".join(self._exceptions())

    def _exceptions(self) -> list[str]:
        """Return what is wrong with single endpoints, while a majority is well."""
        notes = [f"{name} tells otherwise since block {n}" for name, n in self.outvoted.items()]
        # One that stands still may hold up the confirmations though it is above what is confirmed.
        usual = max(self._following.base.number, (self.chain_height or 0) - TIP_BLOCKS)
        for place, branch in enumerate(self._following.branches):
            name = self.sources[place].name
            if branch.is_away:
                notes.append(self._absence(place))
            elif branch.contradicts and name not in self.outvoted:
                notes.append(f"{name} is on another chain than the others")
            elif branch.head is not None and branch.head.number < usual:
                notes.append(f"{name} is behind, at block {branch.head.number}")
        return notes

    def _absence(self, place: int) -> str:
        since = self._away_since[place]
        if since is None:
            return f"{self.sources[place].name}: not asked yet"
        return f"{self._failures[place]} (for {round(trio.current_time() - since)} s)"

    # --- Asking ----------------------------------------------------------------------------------

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            for place in range(len(self.sources)):
                nursery.start_soon(self._follow, place)
            task_status.started()
        raise AssertionError("unreachable")

    async def _follow(self, place: int) -> NoReturn:
        branch, source = self._following.branches[place], self.sources[place]
        failures = 0
        while True:
            try:
                if branch.is_away:
                    await source.check()
                if self._disagreement:
                    branch.doubt()
                branch.saw_head(await source.head())
                self._came_back(place)
                await self._catch_up(place)
                failures = 0
            except ChainError as error:
                failures += 1
                self._went_away(place, str(error))
                await self._settle()
            if failures:
                pause = RETRY_PAUSE_S * 2 ** min(failures - 1, DOUBLINGS_MAX)
                await trio.sleep(min(pause, RETRY_PAUSE_MAX_S))
            else:
                await self._pause(place)

    async def _pause(self, place: int) -> None:
        """Wait for the next poll; answer meanwhile what others' agreement makes askable."""
        deadline = trio.current_time() + self._poll_interval_s
        while True:
            with trio.move_on_at(deadline) as scope:
                await self._moved.wait()
            if scope.cancelled_caught:
                return
            try:
                await self._catch_up(place)
            except ChainError as error:
                self._went_away(place, str(error))
                return

    async def _catch_up(self, place: int) -> None:
        """Ask one endpoint whatever is to be asked, and settle what that decides."""
        branch, source = self._following.branches[place], self.sources[place]
        await self._settle()
        while (question := branch.ask(self._following.wanted())) is not None:
            try:
                await source.answer(question, branch)
            except EndpointFailure as error:
                if error.too_long and isinstance(question, AskStretch):
                    self._following.narrow(question)
                raise
            await self._settle()

    def _came_back(self, place: int) -> None:
        branch, source = self._following.branches[place], self.sources[place]
        if branch.is_away:
            branch.is_away = False
            since = self._away_since[place]
            self._away_since[place] = None
            away_s = 0 if since is None else round(trio.current_time() - since)
            log.info("endpoint_answers", endpoint=source.name, away_s=away_s)
            self._on_change()

    def _went_away(self, place: int, why: str) -> None:
        branch, source = self._following.branches[place], self.sources[place]
        branch.is_away = True
        branch.drop_loose()
        if self._away_since[place] is None:
            self._away_since[place] = trio.current_time()
            log.warning("endpoint_away", endpoint=source.name, why=why)
            self._on_change()
        self._failures[place] = why

    # --- Deciding --------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Confirm whatever is agreed on (L2)."""
        async with self._settling:
            while isinstance(verdict := self._following.decide(), Agreed):
                if not await self._confirm(verdict):
                    return
            if isinstance(verdict, DeepReorganisation):
                await self._halt(verdict)
                return
            linked = sum(branch.is_linked for branch in self._following.branches)
            if linked >= self._following.majority:
                await self._resume()
            self._note(verdict)
            self._look_at_tip()

    async def _confirm(self, agreed: Agreed) -> bool:
        """Store agreed blocks; returns whether they made sense."""
        stretch = agreed.stretch
        try:
            events, ledger = await self._read(stretch.logs)
        except Malformed as error:
            self._complain(f"a majority of the endpoints tells what can not be: {error}")
            return False
        await self._confirmed.commit(stretch, events, ledger)
        self._following.advance(stretch)
        self._note_outvoted(agreed)
        self._complain("")
        await self._resume()
        self._moved.set()
        self._moved = trio.Event()
        self._on_change()
        return True

    async def _read(self, logs: Sequence[Log]) -> tuple[list[tuple[Log, ContractEvent]], Ledger]:
        """Decode logs and add them to the ledger; others get their turn now and then."""
        events: list[tuple[Log, ContractEvent]] = []
        ledger = self._confirmed.ledger
        for start in range(0, len(logs), LOGS_DECODED_AT_ONCE):
            if start:
                await trio.lowlevel.checkpoint()
            piece = self._decode(logs[start : start + LOGS_DECODED_AT_ONCE])
            ledger = fold(ledger, piece)
            events += piece
        return events, ledger

    def _decode(self, logs: Sequence[Log]) -> list[tuple[Log, ContractEvent]]:
        decoded = ((entry, self._abi.decode_log(entry)) for entry in logs)
        return [(entry, event) for entry, event in decoded if event is not None]

    def _note_outvoted(self, agreed: Agreed) -> None:
        number, told = agreed.stretch.last.number, set(agreed.outvoted)
        for place, source in enumerate(self.sources):
            if place in told:
                if source.name not in self.outvoted:
                    self.outvoted[source.name] = number
                    log.error("endpoint_outvoted", endpoint=source.name, block=number)
            elif not self._following.branches[place].is_away:
                self.outvoted.pop(source.name, None)

    def _note(self, verdict: object) -> None:
        if not isinstance(verdict, Disagreement):
            return  # An old disagreement ends when blocks are confirmed.
        sides = " against ".join(
            ", ".join(self.sources[place].name for place in side) for side in verdict.sides if side
        )
        self._complain(f"the endpoints differ about block {verdict.number}: {sides}")

    def _complain(self, what: str) -> None:
        if what != self._disagreement:
            if what:
                log.error("endpoints_disagree", why=what)
            else:
                log.info("endpoints_agree")
            self._disagreement = what
            self._on_change()

    def _look_at_tip(self) -> None:
        """Note checkpoints and claims in blocks that are not confirmed yet."""
        logs = self._following.seen_logs()
        if logs == self._tip_logs:
            return
        self._tip_logs = logs
        checkpoint = epoch = 0
        claimed: set[int] = set()
        try:
            events = self._decode(logs)
        except Malformed:
            events = []  # It is refused when it would be confirmed.
        for _, event in events:
            if isinstance(event, Checkpointed):
                checkpoint = max(checkpoint, event.number)
            elif isinstance(event, Rotated):
                epoch = max(epoch, event.epoch)
            elif isinstance(event, Withdrawn):
                claimed.add(event.index)
        seen = checkpoint, epoch, frozenset(claimed)
        if seen != (self._seen_checkpoint, self._seen_epoch, self._seen_claims):
            self._seen_checkpoint, self._seen_epoch, self._seen_claims = seen
            self._on_change()

    # --- Deep reorganisations (L3) ---------------------------------------------------------------

    async def _halt(self, verdict: DeepReorganisation) -> None:
        if self.halted:
            return
        # At once: how deep it goes is asked of an endpoint, which may take its time.
        await self._set_halted(verdict.anchor, verdict.anchor.number)
        lowest = verdict.anchor.number
        with trio.move_on_after(LOOK_BACK_S):
            lowest = await self._lowest_vanished(verdict.anchor)
        await self._set_halted(verdict.anchor, lowest)
        log.error("settlement_halted", why=self.halted)

    async def _set_halted(self, anchor: Anchor, lowest: int) -> None:
        depth = anchor.number - lowest + 1
        self.halted = (
            f"confirmed blocks {lowest} to {anchor.number} are not on the chain any more "
            f"({depth} or more below the confirmations): their deposits may be gone"
        )
        await self._confirmed.set_halt(self.halted)
        self._on_change()

    async def _lowest_vanished(self, anchor: Anchor) -> int:
        """Return the lowest confirmed block known to have vanished."""
        branches = self._following.branches
        place = next(i for i, branch in enumerate(branches) if branch.contradicts)
        lowest = anchor.number
        try:
            for known in self._confirmed.anchors():
                header = await self.sources[place].block(known.number)
                if header is not None and header.hash == known.hash:
                    break
                lowest = known.number
        except ChainError:
            pass  # As far as could be found out.
        return lowest

    async def _resume(self) -> None:
        """End a halt once a majority is on top of the confirmed block again."""
        if not self.halted:
            return
        self.halted = ""
        await self._confirmed.set_halt("")
        log.warning("settlement_resumed", block=self._following.base.number)
        self._on_change()
