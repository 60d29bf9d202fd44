"""The end of a run: waiting until all is decided, asking the validators, and the final document.

Rules (PROTOCOL.md P8)
    R1. A transaction that a validator told to be final is in a block of that height. The report
        compares the app hashes of all validators at a height not below the highest such block, so
        every validator has it.
    R2. An acknowledged transaction that nobody told to be final is asked for at every validator.
        Final anywhere is final. Expired is what a validator proves: its chain time has passed the
        nonce's window, and it says so. Everything else is lost.
    R3. `ok` is: every validator has the same app hash at the same height, nothing is lost,
        something was final, and the tokens in the contract are what the exchange owes, to the last
        unit. Lost counts transactions of the opening book, the house and the movers, too. What is
        not ok has a `reason`. `supply_equal` is null where it could not be found out, because the
        chain did not answer, say: nothing is known to be wrong then, but nothing is ok either.
    R4. Deposits, withdrawals and checkpoints are counted as the network tells them: credited on the
        exchange, paid out by the contract, accepted by the contract.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from omninode.errors import UserError
from omninode.node.devnet.change import Change
from omninode.node.devnet.connection import Connection
from omninode.node.devnet.limits import (
    ANSWER_STOPPED_S,
    ASKED_MAX,
    DRAIN_DEADLINE_S,
    DRAIN_STOPPED_S,
    SAME_HEIGHT_DEADLINE_S,
    SAME_HEIGHT_STOPPED_S,
)
from omninode.node.devnet.money import Comparison, MoneyCounts, NotCompared
from omninode.node.devnet.observer import Observer
from omninode.node.devnet.processes import NodeProcess, resident_megabytes
from omninode.node.devnet.sender import transaction_state
from omninode.node.devnet.tracker import Sent, Tracker

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """All validators at one height: their app hashes, `None` where there was no answer."""

    height: int
    app_hashes: tuple[str | None, ...]

    @property
    def same(self) -> bool:
        """Whether every validator answered the same."""
        return None not in self.app_hashes and len(set(self.app_hashes)) == 1


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured while the load ran: how long, trades, and money over the chain (R4)."""

    seconds: float
    trades: int
    money: MoneyCounts


async def drain(tracker: Tracker, change: Change, *, stopped: bool) -> None:
    """Wait until nothing is under way, or for as long as a nonce may still count.

    Args:
        tracker: What is under way; its sender still follows up.
        change: Told when something is settled.
        stopped: Somebody pressed Ctrl-C and waits.
    """
    with trio.move_on_after(DRAIN_STOPPED_S if stopped else DRAIN_DEADLINE_S):
        await change.until(lambda: not tracker.pending)


async def count_lost(
    tracker: Tracker,
    connections: Sequence[Connection],
    *,
    nonce_window_ms: int,
    stopped: bool = False,
) -> int:
    """Return how many acknowledged operations are neither final nor provably expired (R2).

    Args:
        tracker: What is under way.
        connections: The validators, who are asked.
        nonce_window_ms: From genesis.
        stopped: Somebody pressed Ctrl-C and waits; who has not answered in time does not count.
    """
    unproven = dict(tracker.pending)
    asking = trio.CapacityLimiter(ASKED_MAX)

    async def judge(identifier: bytes, sent: Sent) -> None:
        async with asking:
            last_ms = sent.nonce + nonce_window_ms
            states = await _ask_everybody(identifier, connections, last_ms=last_ms)
        if "final" in states:
            tracker.final(identifier, now_s=trio.current_time())
        elif "expired" in states:
            tracker.expired(identifier)

    with trio.move_on_after(ANSWER_STOPPED_S if stopped else math.inf):
        async with trio.open_nursery() as nursery:
            for identifier, sent in unproven.items():
                nursery.start_soon(judge, identifier, sent)
    return sum(
        sent.orders
        for identifier, sent in unproven.items()
        if identifier in tracker.pending and sent.acknowledged and not sent.final_elsewhere
    )


async def _ask_everybody(
    identifier: bytes, connections: Sequence[Connection], *, last_ms: int
) -> list[str | None]:
    states: list[str | None] = []

    async def ask(connection: Connection) -> None:
        states.append(await transaction_state(connection, identifier, last_ms=last_ms))

    async with trio.open_nursery() as nursery:
        for connection in connections:
            if connection.connected:
                nursery.start_soon(ask, connection)
    return states


async def compare(
    observer: Observer, processes: Sequence[NodeProcess], *, least_height: int, stopped: bool
) -> Compared:
    """Ask every validator for its app hash at one height that all have reached (R1).

    Args:
        observer: The validators.
        processes: Theirs; one that is down for good is not waited for.
        least_height: The height is not below it.
        stopped: Somebody pressed Ctrl-C and waits.
    """
    with trio.move_on_after(SAME_HEIGHT_STOPPED_S if stopped else SAME_HEIGHT_DEADLINE_S):
        highest = max(least_height, *(seen.height for seen in observer.seen))
        await observer.all_at(highest, processes)
    there = [
        seen.height
        for connection, seen in zip(observer.connections, observer.seen, strict=True)
        if connection.connected
    ]
    height = max(least_height, min(there, default=0))
    hashes: list[str | None] = [None] * len(observer.connections)

    async def ask(place: int, connection: Connection) -> None:
        hashes[place] = await _app_hash(connection, height)

    async with trio.open_nursery() as nursery:
        for place, connection in enumerate(observer.connections):
            nursery.start_soon(ask, place, connection)
    return Compared(height, tuple(hashes))


async def _app_hash(connection: Connection, height: int) -> str | None:
    if not connection.connected:
        return None
    try:
        block = await connection.call("omni_getBlock", {"height": height})
    except UserError:
        return None
    return str(block["app_hash"])


def final_document(
    tracker: Tracker,
    run: Run,
    *,
    lost: int,
    compared: Compared,
    backing: Comparison,
    observer: Observer,
    processes: Sequence[NodeProcess],
) -> Document:
    """Return the document that ends a devnet (INTERFACES §1)."""
    counts = tracker.counts
    failures = "; ".join(_failures(lost, counts.final, compared, backing))
    document = {
        "ok": not failures,
        "seconds": round(run.seconds, 1),
        "height": max(seen.height for seen in observer.seen),
        "validators": [
            {
                "moniker": process.node.moniker,
                "height": seen.height,
                "app_hash": app_hash,
                "rss_mb": resident_megabytes(process.process_id),
            }
            for process, seen, app_hash in zip(
                processes, observer.seen, compared.app_hashes, strict=True
            )
        ],
        "compared_height": compared.height,
        "orders": {
            "sent": counts.sent,
            "acknowledged": counts.acknowledged,
            "refused": counts.refused,
            "final": counts.final,
            "expired": counts.expired,
            "lost": lost,
        },
        "trades": run.trades,
        "finality_ms": {
            "p50": tracker.latencies.quantile(0.50),
            "p99": tracker.latencies.quantile(0.99),
        },
        "orders_per_second": round(counts.final / run.seconds, 1) if run.seconds else 0.0,
        "deposits": run.money.deposits,
        "withdrawals": run.money.withdrawals,
        "checkpoints": run.money.checkpoints,
        "supply_equal": None if isinstance(backing, NotCompared) else backing.is_equal,
    }
    return {**document, "reason": failures} if failures else document


def _failures(lost: int, final: int, compared: Compared, backing: Comparison) -> Iterator[str]:
    """Yield everything that keeps a run from being ok, for people (R3)."""
    if lost:
        yield f"{lost} acknowledged orders are neither final nor provably expired"
    if None in compared.app_hashes:
        yield f"not every validator reached height {compared.height}"
    elif not compared.same:
        yield f"the validators differ at height {compared.height}"
    if isinstance(backing, NotCompared):
        yield f"both sides were not compared: {backing.why}"
    elif not backing.is_equal:
        yield "the tokens in the contract are not what the exchange owes: see `omninode verify`"
    if not final:
        yield "no order became final"
