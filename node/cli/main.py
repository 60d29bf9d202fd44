"""The program `omninode`: loads the called command only, turns every failure into an exit code.

A command lives in `omninode.node.cli.<name>` as `app`, a Typer application with either one command
(then it is the command) or several (then it is a group). The table below holds what the overview
needs, so `omninode --help` loads none of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import typer

from omninode.node.cli import failures
from omninode.node.cli.invocation import COMMON_HELP, take_invocation, use

COMMANDS: Final[Mapping[str, str]] = {
    "init": "Create a node's home: configuration, keys, genesis.",
    "start": "Run the node in the foreground until SIGTERM or Ctrl-C.",
    "devnet": "Run a whole network on this machine, with live order flow.",
    "status": "What this node is doing.",
    "peers": "Who this node is connected with.",
    "validators": "The validator set.",
    "keys": "Keystores: new, list, show, import, export, rearm; new-psk.",
    "market": "Markets: list, book, trades.",
    "account": "Accounts: balances, fills, transfers, deposits, withdrawals.",
    "stake": "Stake: register, deposit, withdraw, exit, unjail, status.",
    "order": "Orders: place, cancel, cancel-all, list, show.",
    "config": "Configuration: show, check.",
    "replay": "Execute the stored blocks again and compare every app hash.",
    "verify": "Compare all balances with the tokens in the contract.",
    "prune": "Drop old blocks of a stopped node.",
    "reset": "Back to genesis; keys and signer guard stay.",
    "simulate": "Networks on virtual time, by seed; every rule is judged.",
    "bench": "The benchmarks of the performance page.",
    "version": "The version of this program.",
}
HIDDEN: Final[Mapping[str, str]] = {
    "chain": "Run the settlement chain of a devnet; `omninode devnet` starts it.",
}
"""Commands that other commands run."""

MODULES: Final[Mapping[str, str]] = {"peers": "status", "validators": "status"}
"""Commands that live in another command's module, as `NAME_app`."""

COMPLETION_VARIABLE: Final = "_OMNINODE_COMPLETE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; default `sys.argv`.

    Returns:
        The exit code.
    """
    invocation, rest, wrong = take_invocation(sys.argv[1:] if arguments is None else arguments)
    use(invocation)
    if wrong is not None:
        failures.show(failures.Failure(failures.USAGE, "wrong_usage", (wrong,)), invocation)
        return failures.USAGE
    try:
        command = typer.main.get_command(build(rest))
        if not rest and not invocation.as_json:
            command.main(args=["--help"], prog_name="omninode", standalone_mode=False)
            return failures.USAGE
        result = command.main(args=rest, prog_name="omninode", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`omninode … | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost boundary
        failure = failures.failure_of(error)
        failures.show(failure, invocation, error)
        return failure.code
    if result == failures.INTERRUPTED:  # how typer reports a KeyboardInterrupt
        failures.show(failures.failure_of(KeyboardInterrupt()), invocation)
    return result if isinstance(result, int) else failures.DONE


def build(arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the called command loaded, and only named ones beside it.

    Args:
        arguments: The command line without common options; its first word that is no option is the
            command.
    """
    words = arguments
    if COMPLETION_VARIABLE in os.environ:
        line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
        words = line.split()[1:]
    called = next((word for word in words if not word.startswith("-")), None)
    app = typer.Typer(
        help="One daemon that makes this machine a full member of a decentralised exchange.",
        epilog=COMMON_HELP,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for name, summary in COMMANDS.items():
        if name == called:
            _add(app, name, summary)
        else:
            app.command(name, help=summary)(_named_only)
    if called is not None and called in HIDDEN:
        _add(app, called, HIDDEN[called])
    return app


def _root() -> None:
    """Take no options of its own; the common ones are in `invocation.py`."""


def _named_only() -> None:
    """Stand for a command that was not called."""


def _add(app: typer.Typer, name: str, summary: str) -> None:
    module = import_module(f"omninode.node.cli.{MODULES.get(name, name)}")
    loaded: typer.Typer = getattr(module, f"{name}_app" if name in MODULES else "app")
    if len(loaded.registered_commands) == 1 and not loaded.registered_groups:
        callback: Callable[..., Any] | None = loaded.registered_commands[0].callback
        if callback is not None and loaded.registered_callback is None:
            app.command(name, epilog=COMMON_HELP)(callback)
            return
    for command in loaded.registered_commands:
        command.epilog = command.epilog or COMMON_HELP
    app.add_typer(loaded, name=name, help=summary, epilog=COMMON_HELP)
