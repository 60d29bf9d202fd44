"""When to propose and when to lose patience: the on-demand rules of PROTOCOL.md P3.

Rules
    D1. A leader with anything to include answers `BuildBlock` at `not_before_ms`, else with an
        empty block at `empty_at_ms`.
    D2. *Pending* is a transaction outside the ancestry of the view's parent, held for Δ or longer;
        the core is told whenever that changes.
    D3. A validator with something pending hands it to the view's leader over the vote plane, and
        again after 4Δ if the view still lasts: a frame may be lost. What is younger than all that
        the blocks before it took is no loss but a backlog, and not handed over.
    D4. An observer has no vote plane: what stays pending with it is spread once more.
    D5. Nothing is looked at by the clock alone: with no transactions and no orders, a validator's
        tasks sleep. An arrival is waited for in the same breath in which its absence was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import trio

from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus.driver.limits import PENDING_MESSAGE_BYTES_MAX
from omninode.consensus.messages import PendingMessage
from omninode.encoding import encode

if TYPE_CHECKING:
    from omninode.consensus.driver.service import ConsensusService, Ports

SPREAD_PAUSE_MS_MIN = 1_000
"""Gossip and block sync of an observer take a part of a second each."""


class Proposer:
    """Watches the pool and the clock for the core."""

    def __init__(self, service: ConsensusService, ports: Ports, *, delta_ms: int) -> None:
        self._service = service
        self._pool = ports.pool
        self._peers = ports.peers
        self._clock = ports.clock
        self._delta_ms = delta_ms
        self._order: out.BuildBlock | None = None
        self._order_changed = trio.Event()
        self._view_changed = trio.Event()
        self._epoch_began = trio.Event()
        self._leader = 0
        self._ancestors: tuple[bytes, ...] = ()
        self._pending = False
        self._hand_over_ms = 0

    def build(self, order: out.BuildBlock) -> None:
        """Take the core's order for a block; it replaces an older one."""
        self._order = order
        self._order_changed.set()

    def view_entered(self, leader: int, ancestors: tuple[bytes, ...]) -> None:
        """A new view: what is pending is counted anew, against its parent."""
        self._leader = leader
        self._ancestors = ancestors
        self._order = None
        self._pending = False
        self._hand_over_ms = 0
        self._view_changed.set()

    def epoch_began(self) -> None:
        """We may have become a validator, or ceased to be one."""
        self._epoch_began.set()

    def executed(self) -> None:
        """A block was executed: an account may own something that did not before."""
        self._view_changed.set()

    async def run(self) -> NoReturn:
        """Propose and watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._propose)
            nursery.start_soon(self._spread_again)
            nursery.start_soon(self._watch_pending)
        raise AssertionError("a daemon task returned")

    async def _propose(self) -> NoReturn:
        while True:
            self._order_changed = trio.Event()
            order = self._order
            if order is None:
                await self._order_changed.wait()
                continue
            excluded = self._service.bodies.ids_of(order.ancestors)
            useful = order.transactions_allowed and self._pool.oldest_ms(excluded) is not None
            wait_ms = (order.not_before_ms if useful else order.empty_at_ms) - self._clock()
            if wait_ms > 0:
                with trio.move_on_after(wait_ms / 1000):
                    if useful:
                        await self._order_changed.wait()
                    else:
                        await self._arrival_or(self._order_changed)
                continue
            self._order = None
            ids = self._pool.select(excluded) if useful else ()
            self._service.bodies.hold_own(ids)
            self._service.feed(into.BlockBuilt(order.view, order.parent.hash, ids))
            await trio.lowlevel.checkpoint()

    async def _arrival_or(self, event: trio.Event) -> None:
        """Wait for an event, or for a transaction that arrives from this moment on (D5)."""

        async def cancel_on_event() -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_event)
            await self._pool.changed()
            nursery.cancel_scope.cancel()

    async def _spread_again(self) -> NoReturn:
        pause_ms = max(20 * self._delta_ms, SPREAD_PAUSE_MS_MIN)
        while True:
            self._epoch_began = trio.Event()
            if self._service.core.me is not None:
                await self._epoch_began.wait()
                continue
            await trio.sleep(pause_ms / 1000)
            before_ms = self._clock() - pause_ms
            raws = self._pool.stale((), before_ms=before_ms, bytes_max=PENDING_MESSAGE_BYTES_MAX)
            if raws:
                self._pool.spread(raws)

    async def _watch_pending(self) -> NoReturn:
        while True:
            self._view_changed = trio.Event()
            if self._service.core.me is None:
                await self._view_changed.wait()
                continue
            excluded = self._service.bodies.ids_of(self._ancestors)
            oldest_ms = self._pool.oldest_ms(excluded)
            if oldest_ms is None:
                await self._arrival_or(self._view_changed)
                continue
            now_ms = self._clock()
            wait_ms = max(oldest_ms + self._delta_ms, self._hand_over_ms) - now_ms
            if wait_ms > 0:
                with trio.move_on_after(wait_ms / 1000):
                    await self._view_changed.wait()
                continue
            self._hand_over_ms = now_ms + 4 * self._delta_ms
            self._hand_to_leader(excluded)
            if not self._pending:
                self._pending = True
                self._service.feed(into.PendingChanged(pending=True))

    def _hand_to_leader(self, excluded: set[bytes]) -> None:
        if self._leader == self._service.core.me or self._service.halted:
            return
        before_ms = self._clock() - self._delta_ms + 1
        newest_taken_ms = self._pool.newest_ms(excluded)
        if newest_taken_ms is not None:
            before_ms = min(before_ms, newest_taken_ms)
        raws = self._pool.stale(excluded, before_ms=before_ms, bytes_max=PENDING_MESSAGE_BYTES_MAX)
        if raws:
            self._peers.send(
                self._service.peer_of(self._leader), encode(PendingMessage(tuple(raws)))
            )
