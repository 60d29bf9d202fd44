"""What a person sees of a devnet: steps, a table of URLs and accounts, then how it goes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TextIO

from omninode.crypto import checksum_address
from omninode.node.devnet import accounts
from omninode.node.devnet.limits import PLAIN_INTERVAL_S, RECENT_S, VIEW_INTERVAL_S
from omninode.node.devnet.money import MoneyCounts
from omninode.node.devnet.observer import Observer
from omninode.node.devnet.processes import NodeProcess, resident_megabytes
from omninode.node.devnet.tracker import Tracker, quantile_ms
from omninode.node.devnet.world import ACCOUNTS_FOLDER, World

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live


@dataclass(frozen=True, slots=True)
class MarketRow:
    """The top of one market's book; `None` where there is nothing."""

    name: str
    bid: str | None
    ask: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class ValidatorRow:
    """How one validator fares."""

    moniker: str
    state: str
    height: int
    app_hash: str
    resident_mb: float | None
    starts: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A devnet at one moment; latencies and rate are of the last `RECENT_S`."""

    seconds: float
    height: int
    p50_ms: float | None
    p99_ms: float | None
    orders_per_second: float
    sent: int
    final: int
    refused: int
    under_way: int
    trades: int
    money: MoneyCounts
    markets: tuple[MarketRow, ...]
    validators: tuple[ValidatorRow, ...]

    @classmethod
    def take(
        cls,
        tracker: Tracker,
        observer: Observer,
        processes: Sequence[NodeProcess],
        *,
        seconds: float,
        now_s: float,
        trades: int,
        money: MoneyCounts,
        markets: tuple[MarketRow, ...],
    ) -> Self:
        """Gather everything that a view shows."""
        latencies = [ms for when_s, ms in tracker.recent if when_s > now_s - RECENT_S]
        counts = tracker.counts
        return cls(
            seconds=seconds,
            height=max(seen.height for seen in observer.seen),
            p50_ms=quantile_ms(latencies, 0.50),
            p99_ms=quantile_ms(latencies, 0.99),
            orders_per_second=len(latencies) / max(1.0, min(seconds, RECENT_S)),
            sent=counts.sent,
            final=counts.final,
            refused=counts.refused,
            under_way=len(tracker.pending),
            trades=trades,
            money=money,
            markets=markets,
            validators=tuple(
                ValidatorRow(
                    process.node.moniker,
                    _state(process, connected=connection.connected, ready=connection.ready),
                    seen.height,
                    seen.app_hash,
                    resident_megabytes(process.process_id),
                    process.starts,
                )
                for process, connection, seen in zip(
                    processes, observer.connections, observer.seen, strict=True
                )
            ),
        )


def _state(process: NodeProcess, *, connected: bool, ready: bool) -> str:
    if process.process_id is None:
        return "down"
    if not connected:
        return "starting"
    return "running" if ready else "silent"


def market_rows(markets: dict[str, Any] | None) -> tuple[MarketRow, ...]:
    """Read an answer of `omni_getMarkets`."""
    rows = [] if markets is None else markets["markets"]
    return tuple(
        MarketRow(row["market"], row["best_bid"], row["best_ask"], row["last_price"])
        for row in rows
    )


class View(Protocol):
    """Shows a devnet."""

    interval_s: float

    def tell(self, text: str) -> None:
        """Show a step or an event."""

    def show_world(self, world: World) -> None:
        """Show URLs and accounts."""

    def update(self, snapshot: Snapshot) -> None:
        """Show how it goes."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainView:
    """Lines, for everything that is no terminal.

    Args:
        out: Where they go.
        tables: Whether the table of URLs and accounts is wanted.
    """

    interval_s = PLAIN_INTERVAL_S

    def __init__(self, out: TextIO, *, tables: bool) -> None:
        self._out = out
        self._tables = tables

    def tell(self, text: str) -> None:
        """Show a step or an event."""
        print(f"devnet: {text}", file=self._out, flush=True)

    def show_world(self, world: World) -> None:
        """Show URLs and accounts."""
        if self._tables:
            for line in world_lines(world):
                print(line, file=self._out)
            self._out.flush()

    def update(self, snapshot: Snapshot) -> None:
        """Show how it goes, in one line."""
        self.tell(summary_line(snapshot))

    def close(self) -> None:
        """Do nothing: lines stay."""


class LiveView:
    """A screen that is kept up to date, for a terminal."""

    interval_s = VIEW_INTERVAL_S

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - loaded for a terminal only

        self._console: Final = Console()
        self._live: Live | None = None

    def tell(self, text: str) -> None:
        """Show a step or an event, above the screen."""
        self._console.print(f"[green]•[/green] {text}", highlight=False)

    def show_world(self, world: World) -> None:
        """Show URLs and accounts."""
        for line in world_lines(world):
            self._console.print(line, highlight=False, markup=False)

    def update(self, snapshot: Snapshot) -> None:
        """Draw the screen anew."""
        from rich.live import Live  # noqa: PLC0415

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(_screen(snapshot), refresh=True)

    def close(self) -> None:
        """Leave the last screen standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def make_view(*, as_json: bool) -> View:
    """Return the view that fits: a screen on a terminal, else lines, on stderr beside JSON."""
    if as_json:
        return PlainView(sys.stderr, tables=False)
    return LiveView() if sys.stdout.isatty() else PlainView(sys.stdout, tables=True)


def world_lines(world: World) -> list[str]:
    """Return the table of URLs and accounts."""
    folder = world.home.path / ACCOUNTS_FOLDER
    shown = (*accounts.PEOPLE, accounts.HOUSE)
    program = f"omninode --home {world.home.path}"
    return [
        "",
        f"chain {world.genesis.chain_id}, seed {world.seed}",
        "",
        *(f"  {node.moniker:<8} {node.rpc_url}   {node.metrics_url}" for node in world.nodes),
        "",
        f"  chain    {world.chain.url}   id {world.chain.chain_id}",
        f"  contract {checksum_address(world.plan.contract)}",
        *(f"  {name:<8} {checksum_address(token)}" for name, token in world.plan.tokens.items()),
        "",
        *(f"  {name:<8} {checksum_address(world.keys[name].address)}" for name in shown),
        f"  keystores of these and of {len(accounts.NAMES) - len(shown)} others: {folder}",
        "",
        f"  {program} order place --from alice --market XOM-USDC --side buy --size 10 --price 1",
        f"  {program} account deposit --from alice --asset USDC --amount 10",
        f"  {program} verify",
        "  Ctrl-C stops everything and keeps it; --reset starts anew.",
        "",
    ]


def summary_line(snapshot: Snapshot) -> str:
    """Return how a devnet goes, in one line."""
    tops = ", ".join(
        f"{row.name} {_or_dash(row.bid)}/{_or_dash(row.ask)}" for row in snapshot.markets
    )
    heights = " ".join(
        f"{row.moniker}:{row.height}:{row.app_hash[2:8]}:{row.state}" for row in snapshot.validators
    )
    return (
        f"{snapshot.seconds:.0f} s, height {snapshot.height}, {snapshot.orders_per_second:.0f} "
        f"orders/s, final after {_or_dash(snapshot.p50_ms)}/{_or_dash(snapshot.p99_ms)} ms, "
        f"{snapshot.final} final, {snapshot.refused} refused, {snapshot.trades} trades, "
        f"{snapshot.money.deposits} deposits, {snapshot.money.withdrawals} withdrawals, "
        f"{snapshot.money.checkpoints} checkpoints; "
        f"{tops}; {heights}"
    )


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _screen(snapshot: Snapshot) -> Group:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    flow = Table(
        "height", "orders/s", "final p50/p99 ms", "final", "refused", "under way", "trades"
    )
    flow.add_row(
        str(snapshot.height),
        f"{snapshot.orders_per_second:.0f}",
        f"{_or_dash(snapshot.p50_ms)} / {_or_dash(snapshot.p99_ms)}",
        str(snapshot.final),
        str(snapshot.refused),
        str(snapshot.under_way),
        str(snapshot.trades),
    )
    money = Table("deposits credited", "withdrawals claimed", "checkpoints on the chain")
    money.add_row(
        str(snapshot.money.deposits),
        str(snapshot.money.withdrawals),
        str(snapshot.money.checkpoints),
    )
    books = Table("market", "best bid", "best ask", "last")
    for row in snapshot.markets:
        books.add_row(row.name, _or_dash(row.bid), _or_dash(row.ask), _or_dash(row.last))
    nodes = Table("validator", "state", "height", "app hash", "MiB", "starts")
    for node in snapshot.validators:
        nodes.add_row(
            node.moniker,
            node.state,
            str(node.height),
            node.app_hash[:14],
            _or_dash(node.resident_mb),
            str(node.starts),
        )
    return Group(flow, money, books, nodes)
