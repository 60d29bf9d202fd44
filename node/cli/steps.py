"""What a command waits for, shown on stderr: a line that changes on a terminal, else lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omninode.node.cli.output import note

Tell = Callable[[str], None]


@contextmanager
def shown_steps() -> Iterator[Tell]:
    """Show steps while the block runs; the same step again changes nothing."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("") as status:
            yield status.update
        return
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            note(text)

    yield tell
