"""Writes docs/reference/cli.md from the commands: `python -m omninode.node.cli.reference`.

A test compares the page with what this returns, so it can not grow old.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any, Final

import typer

from omninode.node.cli.invocation import COMMON_HELP
from omninode.node.cli.main import COMMANDS, build, main

COLUMNS: Final = "80"

HEAD: Final = f"""\
# Command line

Written by `python -m omninode.node.cli.reference` from the program itself.

{COMMON_HELP}
Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the operation failed, 2 wrong
usage or configuration, 130 interrupted. A failure prints one line `error: …` that says what to do
next; with `--json` stdout holds `{{"error": {{"reason", "message", "hint"}}}}`.
"""


def reference() -> str:
    """Return the page."""
    os.environ["COLUMNS"] = COLUMNS
    pieces = [HEAD]
    for words in _commands():
        name = " ".join(words)
        pieces.append(f"\n## omninode {name}\n\n```\n{_help(words)}\n```\n")
    return "".join(pieces)


def _commands() -> Iterator[list[str]]:
    for name in COMMANDS:
        root: Any = typer.main.get_command(build([name]))
        command = root.commands[name]
        yield [name]
        for inner in getattr(command, "commands", {}):
            yield [name, inner]


def _help(words: list[str]) -> str:
    with redirect_stdout(io.StringIO()) as out:
        code = main([*words, "--help"])
    if code != 0:
        raise SystemExit(code)
    epilog = COMMON_HELP.split()[0:3]
    lines = out.getvalue().rstrip().splitlines()
    end = next((i for i, line in enumerate(lines) if line.split()[0:3] == epilog), len(lines))
    return "\n".join(line.rstrip() for line in lines[:end]).strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
