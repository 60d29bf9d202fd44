"""Runs a devnet from its folder to its final document.

```
world ─ lock on its folder
  └─ supervisors                 the chain's process, the validators'; outermost: the last to stop
       └─ observer               a connection to each validator
            └─ sender, house, load, movers, view
```

A SIGINT or SIGTERM ends the start, or the load; after the load comes a last look, of 30 s at most
if somebody waits. Another signal ends that, too. Then the validators stop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio

from omninode.dex.eip712 import Domain
from omninode.dex.replay import Replay
from omninode.node.devnet import accounts
from omninode.node.devnet.change import Change
from omninode.node.devnet.flow import Flow
from omninode.node.devnet.house import House
from omninode.node.devnet.limits import (
    ANSWER_STOPPED_S,
    BACKING_DEADLINE_S,
    BACKING_STOPPED_S,
    DRAIN_DEADLINE_S,
    DRAIN_STOPPED_S,
    REST_STOPPED_S,
)
from omninode.node.devnet.load import Load
from omninode.node.devnet.money import Comparison, MoneyCounts
from omninode.node.devnet.observer import Observer, trades_in
from omninode.node.devnet.processes import DevnetProcess, NodeProcess, Supervisor
from omninode.node.devnet.report import Run, compare, count_lost, drain, final_document
from omninode.node.devnet.sender import Sender, first_answer
from omninode.node.devnet.settlement import Settlement
from omninode.node.devnet.tracker import Tracker
from omninode.node.devnet.view import Snapshot, View, market_rows
from omninode.node.devnet.world import World

Document = dict[str, Any]

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Pace:
    """How the recorded flow is sent.

    Attributes:
        speed: 2 sends two recorded seconds in each.
        for_s: How long; `None` until stopped.
        pack_s: 0 signs each operation on its own; else one batch per account for what falls due
            within this time.
        traders_per_side: Among how many buyers and as many sellers the orders are dealt out.
    """

    speed: float = 1.0
    for_s: float | None = None
    pack_s: float = 0.0
    traders_per_side: int = accounts.TRADERS_PER_SIDE


@dataclass(frozen=True, slots=True)
class Counts:
    """What the network had counted before the load began."""

    trades: int
    money: MoneyCounts


class Stop:
    """Ends one phase after another: each request cancels the phase under way, if it may be."""

    def __init__(self) -> None:
        self.requests = 0
        self._scope: trio.CancelScope | None = None

    def request(self) -> None:
        """End the present phase."""
        self.requests += 1
        if self._scope is not None:
            self._scope.cancel()

    @asynccontextmanager
    async def phase(self, requests_max: int = 0) -> AsyncIterator[trio.CancelScope]:
        """Run a phase that more than `requests_max` requests end, or prevent."""
        with trio.CancelScope() as scope:
            self._scope = scope
            if self.requests > requests_max:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scope = None


class Devnet:
    """One run of a devnet.

    Args:
        world: Its folder.
        replay: The recorded flow.
        pace: How it is sent.
        restart: Whether a validator that dies is started again.
        view: Shows what happens.
        stop: Ends it early.
        before_load: Called when all is in place, before the clock starts.
    """

    def __init__(
        self,
        world: World,
        replay: Replay,
        pace: Pace,
        *,
        restart: bool,
        view: View,
        stop: Stop,
        before_load: Callable[[Devnet], None] = lambda _: None,
    ) -> None:
        self.world: Final = world
        self._change = Change()
        self.tracker: Final = Tracker(on_settled=self._change.tell)
        self.started_s: float | None = None
        self._pace = pace
        self._view = view
        self._stop = stop
        self._before_load = before_load
        self._run = _run_name()
        self._trades_made = 0
        self.processes: Final = tuple(NodeProcess(node) for node in world.nodes)
        self.observer: Final = Observer(world.nodes, self.tracker, self._change)
        self._sender = Sender(
            self.observer.connections,
            self.tracker,
            self._change,
            keys=world.keys,
            domain=Domain(world.genesis.settlement_chain_id, world.genesis.hash),
            nonce_window_ms=world.genesis.consensus.nonce_window_ms,
        )
        self.settlement: Final = Settlement(
            world, self.observer, self._sender, change=self._change, tell=view.tell
        )
        self._restart = restart
        side = pace.traders_per_side
        buyers, sellers = accounts.BUYERS[:side], accounts.SELLERS[:side]
        flow = Flow(replay, run=self._run, buyers=buyers, sellers=sellers)
        self._load = Load(flow, self._sender, speed=pace.speed, pack_s=pace.pack_s)
        self._house = House(
            self.observer.connections,
            self._sender,
            address="0x" + world.keys[accounts.HOUSE].address.hex(),
            run=self._run,
        )

    async def run(self) -> Document | None:
        """Run until the time is over or a stop is requested; all validators have ended then.

        Returns:
            The final document; `None` if it was stopped before the load began.

        Raises:
            ProcessFailed: A process did not start.
            UserError: `no_progress`, and what keeps the contracts from being deployed.
        """
        document: Document | None = None
        chain = self.settlement.process
        async with trio.open_nursery() as chains:
            if chain is not None:
                await chains.start(self._supervisor(chain).run)
            async with trio.open_nursery() as validators:
                await validators.start(self._supervisor(*self.processes).run)
                async with trio.open_nursery() as inner:
                    await inner.start(self.observer.run)
                    inner.start_soon(self.settlement.deploy)
                    document = await self._work(inner)
                    inner.cancel_scope.cancel()
                self._view.tell("stopping the validators")
                validators.cancel_scope.cancel()
            chains.cancel_scope.cancel()
        return document

    def _supervisor(self, *processes: DevnetProcess) -> Supervisor:
        return Supervisor(processes, restart=self._restart, tell=self._view.tell)

    async def _work(self, nursery: trio.Nursery) -> Document | None:
        async with self._stop.phase() as starting:
            await self._start(nursery)
            before = Counts(await self._trades(), await self.settlement.count())
        if starting.cancelled_caught:
            return None
        self._before_load(self)
        began_s = trio.current_time()
        nursery.start_soon(self.settlement.move)
        async with self._stop.phase(), trio.open_nursery() as load:
            load.start_soon(self._load.run)
            load.start_soon(self.settlement.keep_counting)
            load.start_soon(self._show, began_s, before)
            await self._wait()
            load.cancel_scope.cancel()
        seconds = trio.current_time() - began_s
        async with self._stop.phase(self._stop.requests) as last_look:
            document = await self._finish(seconds, before)
        return None if last_look.cancelled_caught else document

    async def _wait(self) -> None:
        if self._pace.for_s is None:
            await trio.sleep_forever()
        else:
            await trio.sleep(self._pace.for_s)

    async def _start(self, nursery: trio.Nursery) -> None:
        """Bring the network up to the opening book, telling each step."""
        began_s = trio.current_time()
        await self.observer.all_running(self.processes)
        self.started_s = trio.current_time() - began_s
        peers = await self.observer.meshed()
        others = len(self.world.nodes) - 1
        self._view.tell(f"peers: {', '.join(f'{count}/{others}' for count in peers)}")
        height = max(seen.height for seen in self.observer.seen)
        self._view.tell(f"block {height} after {self.started_s:.1f} s")
        nursery.start_soon(self._sender.follow_up)
        await self._load.open_book()
        await self._house.refill()
        nursery.start_soon(self._house.run)
        await self.settlement.ready()
        self._view.tell("opening book and house quotes are in place")
        self._view.show_world(self.world)

    async def _finish(self, seconds: float, before: Counts) -> Document:
        stopped = self._stop.requests > 0
        await self._drain(stopped=stopped)
        sides: list[Comparison] = []

        async def compare_sides() -> None:
            sides.append(await self.settlement.backing(stopped=stopped))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(compare_sides)
            lost = await count_lost(
                self.tracker,
                self.observer.connections,
                nonce_window_ms=self.world.genesis.consensus.nonce_window_ms,
                stopped=stopped,
            )
            trades = await self._last_trades(before.trades)
            compared = await compare(
                self.observer,
                self.processes,
                least_height=self.tracker.highest_final,
                stopped=stopped,
            )
        (backing,) = sides
        money = (await self.settlement.last_count(stopped=stopped)).since(before.money)
        return final_document(
            self.tracker,
            Run(seconds, trades, money),
            lost=lost,
            compared=compared,
            backing=backing,
            observer=self.observer,
            processes=self.processes,
        )

    async def _drain(self, *, stopped: bool) -> None:
        """Wait for what is under way, telling how long that may take."""
        orders = sum(sent.orders for sent in self.tracker.pending.values())
        at_most_s = DRAIN_STOPPED_S if stopped else DRAIN_DEADLINE_S
        self._view.tell(
            f"waiting for {orders} orders to become final, at most {at_most_s:.0f} s; "
            f"Ctrl-C {'again ' if stopped else ''}stops now"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._rest, stopped)
            await drain(self.tracker, self._change, stopped=stopped)
        at_most_s = BACKING_STOPPED_S if stopped else BACKING_DEADLINE_S
        self._view.tell(
            f"comparing the validators, and both sides of the money, at most {at_most_s:.0f} s"
        )

    async def _last_trades(self, before: int) -> int:
        """Return how many trades the load made; as last shown, if nobody answers in time."""
        with trio.move_on_after(ANSWER_STOPPED_S):
            markets = await self._markets()
            if markets is not None:
                self._trades_made = trades_in(markets) - before
        return self._trades_made

    async def _rest(self, stopped: bool) -> None:  # noqa: FBT001 - of a task
        """Let the movers finish; one that can not is told, and its money is still counted."""
        with trio.move_on_after(REST_STOPPED_S if stopped else DRAIN_DEADLINE_S) as scope:
            await self.settlement.stop_moving()
        if scope.cancelled_caught and not stopped:
            self._view.tell("not every withdrawal was claimed in time")

    async def _markets(self) -> Document | None:
        answer: Document | None = await first_answer(
            self.observer.connections, lambda connection: connection.call("omni_getMarkets")
        )
        return answer

    async def _trades(self) -> int:
        return trades_in(await self._markets())

    async def _show(self, began_s: float, before: Counts) -> None:
        """Keep the view up to date."""
        while True:
            markets = await self._markets()
            if markets is not None:
                self._trades_made = trades_in(markets) - before.trades
            snapshot = Snapshot.take(
                self.tracker,
                self.observer,
                self.processes,
                seconds=trio.current_time() - began_s,
                now_s=trio.current_time(),
                trades=self._trades_made,
                money=self.settlement.counts.since(before.money),
                markets=market_rows(markets),
            )
            self._view.update(snapshot)
            await trio.sleep(self._view.interval_s)


def _run_name() -> str:
    """Return a text that no other run has: the time in milliseconds, in base 36."""
    number, text = time.time_ns() // 1_000_000, ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
