"""The options of every command: `--home DIR`, `--json`, `--debug`, before or after its name.

They are taken out of the arguments before the command line is parsed, so that they mean the same
everywhere and hold also while a wrong command line is reported. After `--` nothing is taken out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omninode.errors import ConfigError
from omninode.node.home import Home, default_home

COMMON_HELP: Final = (
    "Every command takes --home DIR (default ~/.omninode, environment OMNINODE_HOME), "
    "--json (one JSON document on stdout, nothing else there) and --debug (show tracebacks)."
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """The common options of this call; `home_path` is `None` unless `--home` was given."""

    home_path: Path | None = None
    as_json: bool = False
    debug: bool = False

    @property
    def home(self) -> Home:
        """The home to use: `--home`, else `$OMNINODE_HOME`, else `~/.omninode`."""
        return Home(self.home_path or default_home(os.environ))


_current = Invocation()


def current() -> Invocation:
    """Return the common options of the running command."""
    return _current


def use(invocation: Invocation) -> None:
    """Make these the common options of the running command; `main` calls it once."""
    global _current  # noqa: PLW0603 - one process runs one command
    _current = invocation


def take_invocation(arguments: Sequence[str]) -> tuple[Invocation, list[str], str | None]:
    """Split the common options from the rest.

    Returns:
        The options, the other arguments in their order, and what is wrong with the options, if
        anything: the caller reports it in the form that `--json` asks for.
    """
    rest: list[str] = []
    home: str | None = None
    as_json = debug = False
    wrong: str | None = None
    pending = list(arguments)
    while pending:
        argument = pending.pop(0)
        if argument == "--":
            rest += [argument, *pending]
            break
        if argument == "--json":
            as_json = True
        elif argument == "--debug":
            debug = True
        elif argument == "--home":
            home, wrong = (pending.pop(0), wrong) if pending else (None, "--home needs a folder")
        elif argument.startswith("--home="):
            home = argument.removeprefix("--home=")
        else:
            rest.append(argument)
    if home == "":
        wrong = "--home needs a folder"
    path = Path(home).expanduser() if home else None
    return Invocation(path, as_json, debug), rest, wrong


def require_home() -> Home:
    """Return this call's home.

    Raises:
        ConfigError: There is no node in it.
    """
    home = current().home
    home.require()
    return home


def not_supported(flag: str, *, hint: str = "") -> ConfigError:
    """Return the error for a flag that a later version will understand."""
    return ConfigError(f"{flag} is not supported by this version", hint=hint)
