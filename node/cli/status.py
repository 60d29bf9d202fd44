"""`omninode status`, `peers` and `validators`: what a running node says about itself."""

from __future__ import annotations

import time
from typing import Any, Final

import typer

from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.output import cell, emit, print_fields, print_table, short_hash

PEER_COLUMNS: Final = (
    "moniker",
    "role",
    "state",
    "ping_ms",
    "score",
    "address",
    "peer_id",
    "why",
)
VALIDATOR_COLUMNS: Final = ("moniker", "address", "power", "score", "jailed", "peer_id")

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
    """Who this node is connected with, and whom it has banned, why, and for how long."""
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getPeers")
    now_ms = time.time_ns() // 1_000_000
    rows = [_peer_row(peer, now_ms=now_ms) for peer in document["peers"]]
    emit(document, lambda: print_table(PEER_COLUMNS, rows, empty="no peers"))


@validators_app.command()
def validators(rpc: RpcUrl = None) -> None:
    """The validator set."""
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getValidators")
    rows = [[row.get(column) for column in VALIDATOR_COLUMNS] for row in document["validators"]]
    emit(document, lambda: print_table(VALIDATOR_COLUMNS, rows, empty="no validators"))


def _peer_row(peer: dict[str, Any], *, now_ms: int) -> list[object]:
    """Return a peer as `PEER_COLUMNS` show it."""
    role = "validator" if peer["is_validator"] else "named" if peer["is_persistent"] else "peer"
    left_ms = (peer["banned_until_ms"] or 0) - now_ms
    if left_ms > 0:
        state, why = f"banned for {_duration(left_ms)}", peer["ban_reason"]
    elif peer["connected"]:
        state, why = peer["direction"], peer["last_error"]
    else:
        state, why = "away", peer["last_error"]
    shown = (peer["ping_ms"], peer["score"], peer["address"], peer["peer_id"])
    return [peer["moniker"], role, state, *shown, why]


def _duration(duration_ms: int) -> str:
    """Return a duration as people say it, in one unit."""
    for unit, length_ms in (("h", 3_600_000), ("min", 60_000)):
        if duration_ms >= length_ms:
            return f"{duration_ms // length_ms} {unit}"
    return f"{-(-duration_ms // 1_000)} s"


def _print_status(document: dict[str, Any]) -> None:
    fields = dict(document)
    for name in ("block_hash", "app_hash"):
        fields[name] = short_hash(fields.get(name))
    settlement = fields.pop("settlement", None)
    if isinstance(settlement, dict):
        fields["settlement"] = _settlement_text(settlement)
    validator = fields.pop("validator", None)
    if isinstance(validator, dict):
        fields["validator"] = f"{validator.get('address')} (power {validator.get('power')})"
    print_fields(fields)


def _settlement_text(settlement: dict[str, Any]) -> str:
    """Return how a node fares with the settlement chain, in one line."""
    parts = [
        str(settlement["state"]),
        f"chain {settlement['chain_id']} at block {cell(settlement['chain_height'])}",
        f"confirmed to {cell(settlement['confirmed_height'])}",
        f"checkpoint {cell(settlement['checkpoint'])} of {cell(settlement['certified'])}",
    ]
    if settlement["detail"]:
        parts.insert(1, str(settlement["detail"]))
    return ", ".join(parts)
