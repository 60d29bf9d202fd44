"""`omninode devnet`: a whole network on this machine, with live order flow."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterable, Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.invocation import current
from omninode.node.cli.output import emit, note, print_fields

if TYPE_CHECKING:
    from omninode.node.devnet.layout import WorldOptions
    from omninode.node.devnet.service import Devnet, Pace, Stop
    from omninode.node.home import Home

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
DEFAULT_FOLDER = "devnet"

app = typer.Typer()


@app.command()
def devnet(
    validators: Annotated[
        int | None, typer.Option(help="How many validator processes. Default: 4.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Start anew instead of going on.")] = False,
    for_s: Annotated[
        float | None,
        typer.Option(
            "--for", metavar="SECONDS", min=0.1, help="Measure so long, then check and stop."
        ),
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(help="First port; node i has it + 10·i and the next two. Default: 36650."),
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="embedded|anvil|URL",
            help="Settlement chain: our own, anvil, or a developer's by URL. Default: embedded.",
        ),
    ] = None,
    chain_port: Annotated[
        int | None, typer.Option(help="Port of the settlement chain. Default: 5 below the first.")
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Order flow to send. Default: the shipped recording."),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, max=1000, help="How much faster than it was recorded.")
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="What the accounts' keys derive from. Default: 1.")
    ] = None,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Leave a validator that dies dead.")
    ] = False,
) -> None:
    """Run a whole network on this machine until Ctrl-C, with live order flow."""
    signals = _EarlySignals()
    from omninode.node.devnet.layout import WorldOptions
    from omninode.node.devnet.service import Pace

    home = _home()
    options = WorldOptions(
        validators=validators,
        seed=seed,
        base_port=base_port,
        chain=chain,
        chain_port=chain_port,
        reset=reset,
    )
    pace = Pace(speed=speed, for_s=for_s)
    document = _run(home, options, pace, replay, signals, restart=not no_restart)
    if document is None:
        emit({"ok": False, "stopped": True}, lambda: None)
        return
    if document["ok"] or signals.requested:
        emit(document, lambda: _print_document(document))
        if not document["ok"]:
            note(f"devnet: not ok: {document['reason']}")
        return
    if not current().as_json:
        _print_document(document)
    raise CommandFailed("not_ok", document["reason"], document=document)


class _EarlySignals:
    """Takes SIGINT and SIGTERM until trio listens, also if they were inherited as ignored."""

    def __init__(self) -> None:
        self.requested = False
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True


def _home() -> Home:
    """Return `--home`, else `$OMNINODE_HOME`, else `~/.omninode/devnet`."""
    from omninode.node.home import HOME_VARIABLE, Home

    home = current().home
    if current().home_path is None and not os.environ.get(HOME_VARIABLE):
        return Home(home.path / DEFAULT_FOLDER)
    return home


def _run(
    home: Home,
    options: WorldOptions,
    pace: Pace,
    replay: Path | None,
    signals: _EarlySignals,
    *,
    restart: bool,
) -> dict[str, Any] | None:
    import trio

    from omninode.node.devnet.replay_file import read_replay
    from omninode.node.devnet.service import Devnet
    from omninode.node.devnet.view import make_view
    from omninode.node.devnet.world import opened_world

    flow = read_replay(replay)
    view = make_view(as_json=current().as_json)
    try:
        with opened_world(home, options, step=view.tell) as world:
            devnet = partial(Devnet, world, flow, pace, restart=restart, view=view)
            return trio.run(_run_until_signal, devnet, signals)
    finally:
        view.close()


async def _run_until_signal(
    make: Callable[..., Devnet], signals: _EarlySignals
) -> dict[str, Any] | None:
    import trio

    from omninode.node.devnet.service import Stop

    stop = Stop()
    with trio.open_signal_receiver(*STOP_SIGNALS) as received:
        if signals.requested:
            return None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, received, stop, signals)
            document = await make(stop=stop).run()
            nursery.cancel_scope.cancel()
    return document


async def _stop_on_signal(received: AsyncIterable[int], stop: Stop, signals: _EarlySignals) -> None:
    async for _ in received:
        signals.requested = True
        stop.request()


def _print_document(document: dict[str, Any]) -> None:
    orders, finality = document["orders"], document["finality_ms"]
    supply_equal = document["supply_equal"]
    hashes = {validator["app_hash"] for validator in document["validators"]}
    print_fields(
        {
            "ok": document["ok"],
            "seconds": document["seconds"],
            "height": document["height"],
            "app hash": f"{', '.join(map(str, hashes))} at height {document['compared_height']}",
            "orders": ", ".join(f"{count} {name}" for name, count in orders.items()),
            "orders per second": document["orders_per_second"],
            "order to final, ms": f"p50 {finality['p50']}, p99 {finality['p99']}",
            "trades": document["trades"],
            "deposits credited": document["deposits"],
            "withdrawals claimed": document["withdrawals"],
            "checkpoints on the chain": document["checkpoints"],
            "both sides equal": "not compared" if supply_equal is None else supply_equal,
            **({} if document["ok"] else {"reason": document["reason"]}),
        }
    )
