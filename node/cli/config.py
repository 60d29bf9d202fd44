"""`omninode config`: what the node would run with, and where each value comes from."""

from __future__ import annotations

import os
from typing import Any

import typer

from omninode.node.cli.invocation import require_home
from omninode.node.cli.output import emit, print_table
from omninode.node.cli.start import Settings

app = typer.Typer()


@app.command("check")
def check(settings: Settings = None) -> None:
    """Read the configuration as `start` does and report every error in it."""
    from omninode.node.config_file import resolve_config

    home = require_home()
    resolve_config(home.config, environment=os.environ, settings=settings or [])
    document = {"ok": True, "file": str(home.config)}
    emit(document, lambda: print(f"{home.config} is right."))


@app.command("show")
def show(settings: Settings = None) -> None:
    """Show every value and where it comes from: default, file, environment or flag."""
    from omninode.node.config_file import resolve_config, toml_value

    home = require_home()
    resolved = resolve_config(home.config, environment=os.environ, settings=settings or [])
    document: dict[str, dict[str, Any]] = {}
    rows = []
    for (section, key), origin in resolved.origins.items():
        value = getattr(getattr(resolved.config, section), key)
        entry = {"value": value, "origin": origin.kind, "place": origin.place}
        document.setdefault(section, {})[key] = entry
        rows.append([f"{section}.{key}", toml_value(value), origin.place])
    emit(document, lambda: print_table(["key", "value", "from"], rows, empty="no keys"))
