"""`omninode status`, `peers` and `validators`: what a running node says about itself."""

from __future__ import annotations

from typing import Any

import typer

from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.output import emit, print_fields, print_table, short_hash

app = typer.Typer()
peers_app = typer.Typer()
validators_app = typer.Typer()


@app.command()
def status(rpc: RpcUrl = None) -> None:
    """What this node is doing."""
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_status")
    emit(document, lambda: _print_status(document))


@peers_app.command()
def peers(rpc: RpcUrl = None) -> None:
    """Who this node is connected with."""
    with connect(rpc) as node:
        rows: list[dict[str, Any]] = node.call("omni_getPeers")
    columns = ["peer_id", "moniker", "address", "score", "ping_ms"]
    emit({"peers": rows}, lambda: _print_rows(columns, rows, empty="no peers"))


@validators_app.command()
def validators(rpc: RpcUrl = None) -> None:
    """The validator set."""
    with connect(rpc) as node:
        rows: list[dict[str, Any]] = node.call("omni_getValidators")
    columns = ["moniker", "address", "power", "peer_id"]
    emit({"validators": rows}, lambda: _print_rows(columns, rows, empty="no validators"))


def _print_status(document: dict[str, Any]) -> None:
    fields = dict(document)
    for name in ("block_hash", "app_hash"):
        fields[name] = short_hash(fields.get(name))
    validator = fields.pop("validator", None)
    if isinstance(validator, dict):
        fields["validator"] = f"{validator.get('address')} (power {validator.get('power')})"
    print_fields(fields)


def _print_rows(columns: list[str], rows: list[dict[str, Any]], *, empty: str) -> None:
    present = [column for column in columns if any(column in row for row in rows)]
    print_table(present, [[row.get(column) for column in present] for row in rows], empty=empty)
