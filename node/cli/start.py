"""`omninode start`: run the daemon until somebody stops it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from omninode import __version__
from omninode.node.cli.accounts import PasswordFile
from omninode.node.cli.invocation import current, require_home
from omninode.node.cli.output import emit

if TYPE_CHECKING:
    import trio

    from omninode.node.config import NodeConfig
    from omninode.node.home import Home
    from omninode.node.keys.node_keys import NodeKeys

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer()

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override one key of omninode.toml for this run; may be repeated.",
        show_default=False,
    ),
]


class _StopRequested(BaseException):
    """A stop signal came before the node ran: leave at once, nothing has begun."""


class _StopSignals:
    """Takes SIGINT and SIGTERM from first to last, also if they were inherited as ignored.

    Before trio runs, a signal ends the start. While trio runs it listens itself. After that a
    further signal means
    nothing: the stop is under way, and a terminal's Ctrl-C often comes with a supervisor's SIGTERM.
    """

    def __init__(self) -> None:
        self._starting = True
        self.requested = False
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._starting:
            self._starting = False
            raise _StopRequested

    def hand_over(self) -> None:
        """From here on trio listens; it looks at `requested` once it does."""
        self._starting = False


@app.command()
def start(settings: Settings = None, password_file: PasswordFile = None) -> None:
    """Run the node in the foreground until SIGTERM or Ctrl-C, then stop cleanly."""
    signals = _StopSignals()
    try:
        home = require_home()
        with home.locked():
            _run(home, settings or [], password_file, signals)
    except _StopRequested:
        pass
    emit({"stopped": True, "home": str(current().home.path)}, lambda: None)


def _run(
    home: Home, settings: list[str], password_file: Path | None, signals: _StopSignals
) -> None:
    from omninode.node.config_file import load_config
    from omninode.node.log import configure_logging, get_logger

    config = load_config(home.config, environment=os.environ, settings=settings)
    configure_logging(level=config.log.level, form=config.log.format, levels=config.log.levels)
    log = get_logger("node")
    log.info("node_starting", version=__version__, home=str(home.path), process=os.getpid())

    from omninode.node.keys.node_keys import load_node_keys

    validator = config.node.mode == "validator"
    settlement = config.settlement
    keys = load_node_keys(
        home,
        validator=validator,
        relayer=settlement.relay and bool(settlement.endpoints),
        password_file=password_file,
    )

    import trio

    signals.hand_over()
    trio.run(_run_until_signal, config, home, keys, signals)
    log.info("node_stopped")


async def _run_until_signal(
    config: NodeConfig, home: Home, keys: NodeKeys, signals: _StopSignals
) -> None:
    import trio

    from omninode.errors import BrokenInvariant
    from omninode.node.runtime import run_node

    with trio.open_signal_receiver(*STOP_SIGNALS) as received:
        if signals.requested:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, received, nursery.cancel_scope)
            await run_node(config, home, keys)
            if not nursery.cancel_scope.cancel_called:
                raise BrokenInvariant("the node ended by itself")


async def _stop_on_signal(received: AsyncIterable[int], scope: trio.CancelScope) -> None:
    from omninode.node.log import get_logger

    async for number in received:
        if not scope.cancel_called:
            get_logger("node").info("node_stopping", signal=signal.Signals(number).name)
            scope.cancel()
