"""`omninode status`, `peers` and `validators`: what a running node says about itself."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

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
VALIDATOR_COLUMNS: Final = ("moniker", "address", "status", "power", "stake", "score")
COMPONENTS: Final = ("votes", "blocks", "uptime", "dex", "ipfs", "chat", "stake", "tenure")
COMPONENT_COLUMNS: Final = ("component", "points", "of", "change", "now", "why")

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
def validators(
    address: Annotated[
        str | None,
        typer.Argument(help="One validator's vote key or owner: what its score is made of."),
    ] = None,
    rpc: RpcUrl = None,
) -> None:
    """The validator set, or why one validator has its score."""
    with connect(rpc) as node:
        if address is not None:
            shown: dict[str, Any] = node.call("omni_getParticipation", {"address": address})
        else:
            shown = node.call("omni_getValidators")
    emit(shown, lambda: _print_participation(shown) if address else _print_validators(shown))


def _print_validators(document: dict[str, Any]) -> None:
    """Print the set, with the points of each component behind the score."""
    rows = []
    for row in document["validators"]:
        points = row["components"] or {}
        mine = [row.get(column) for column in VALIDATOR_COLUMNS]
        rows.append([*mine, *(points.get(name) for name in COMPONENTS)])
    columns = [*VALIDATOR_COLUMNS, *(f"{name} pts" for name in COMPONENTS)]
    print_table(columns, rows, empty="no validators")


def _print_participation(document: dict[str, Any]) -> None:
    """Print one validator: the last cut's components, and what they would be now."""
    fields = {
        name: document[name] for name in ("moniker", "address", "owner", "status", "power", "score")
    }
    if document["scored_epoch"] is not None:
        fields["last cut"] = (
            f"epoch {document['scored_epoch']}: raw {document['raw']}, score "
            f"{document['previous_score']} -> {document['score']}, reward {document['reward']}"
        )
    print_fields(fields)
    running = {row["name"]: row for row in document["running"]}
    last = {row["name"]: row for row in document["components"]}
    rows = []
    for name in COMPONENTS:
        row, now = last.get(name), running.get(name)
        known = row or now
        if known is not None:
            cells = (None, None) if row is None else (row["points"], row["change"])
            present = None if now is None else now["points"]
            rows.append([name, cells[0], known["of"], cells[1], present, known["why"]])
    print()
    print_table(COMPONENT_COLUMNS, rows, empty="no score yet")


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
