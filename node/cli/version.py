"""`omninode version`."""

from __future__ import annotations

import platform

import typer

from omninode import __version__
from omninode.node.cli.output import emit

app = typer.Typer()


@app.command()
def version() -> None:
    """The version of this program."""
    document = {"version": __version__, "python": platform.python_version()}
    emit(document, lambda: print(f"omninode {__version__} (Python {document['python']})"))
