"""The dev chain as a program, whichever command starts it: until a signal, and failing plainly.

Exit codes are the command's; here every expected failure is one error, not a group of them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

import trio

from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.errors import ConfigError, OmniNodeError, StorageFault

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run_program(settings: ChainSettings, *, on_listening: Callable[[str], None]) -> None:
    """Run a dev chain until SIGINT or SIGTERM; to be called in the main thread.

    Args:
        settings: What it is started with.
        on_listening: Told the URL once it answers.

    Raises:
        ConfigError: A setting is wrong, the port is taken, or the folder's chain began with
            something else.
        StorageFault: The folder is in use or damaged, or the disk failed.
    """
    try:
        trio.run(_run_until_signal, settings, on_listening)
    except ExceptionGroup as group:
        expected, other = group.split((ConfigError, StorageFault))
        if expected is None or other is not None:
            raise
        raise _first(expected) from None


async def _run_until_signal(settings: ChainSettings, on_listening: Callable[[str], None]) -> None:
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            on_listening(await nursery.start(run_chain, settings))
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


def _first(group: ExceptionGroup[OmniNodeError]) -> OmniNodeError:
    error: OmniNodeError | ExceptionGroup[OmniNodeError] = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
