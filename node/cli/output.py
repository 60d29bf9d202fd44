"""What a command prints: one JSON document with `--json`, else a few lines for people.

Only results go to stdout; everything else goes to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omninode.node.cli.invocation import current

Document = Mapping[str, Any]


def emit(document: Document, human: Callable[[], None]) -> None:
    """Print a command's result.

    Args:
        document: The result, JSON-ready.
        human: Prints the same for people.
    """
    if current().as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        human()


def note(text: str) -> None:
    """Tell people something that is not the result."""
    print(text, file=sys.stderr)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; `None` is shown as a dash."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        print(f"{name:<{width}}  {cell(value)}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table, or `empty` if it has no rows. Numbers stand to the right."""
    if not rows:
        print(empty)
        return
    texts = [[cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *texts]) for i in range(len(columns))]
    right = [all(_is_number(row[i]) for row in texts) for i in range(len(columns))]
    for row in [list(columns), *texts]:
        cells = (
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(row, widths, right, strict=True)
        )
        print("  ".join(cells).rstrip())


def cell(value: object) -> str:
    """Return a value as people read it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value) or "-"
    return str(value)


def short_hash(text: str | None) -> str:
    """Return the beginning of a hash, enough to tell two apart."""
    return "-" if not text else text[:14] + "…" if len(text) > 15 else text


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace(",", "").lstrip("+-").isdigit()
