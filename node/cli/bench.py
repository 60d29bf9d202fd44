"""`omninode bench`: the benchmarks of docs/benchmarks.md, one command each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.output import emit, note, print_fields, print_table

if TYPE_CHECKING:
    from omninode.dex.replay import Replay

app = typer.Typer(no_args_is_help=True)

Seconds = Annotated[float, typer.Option("--seconds", min=1, help="How long the load runs.")]
PackMs = Annotated[
    float,
    typer.Option(
        "--batch-ms",
        min=0,
        help="Put what an account does within this time under one signature; 0 signs each.",
    ),
]


@app.command("replay")
def replay_(
    file: Annotated[
        Path | None, typer.Argument(help="Order events. Default: the shipped recording.")
    ] = None,
) -> None:
    """Feed recorded orders through the exchange and compare with the trades that were printed."""
    from omninode.node.bench.replay import bench_replay

    document = bench_replay(file)
    if document["trades_reproduced_in_sequence"] != document["trades_expected"]:
        raise CommandFailed(
            "not_reproduced",
            f"{document['trades_reproduced_in_sequence']} of {document['trades_expected']} trades "
            "were made in sequence",
            document=document,
        )
    emit(document, lambda: print_fields(document))


@app.command("matching")
def matching() -> None:
    """Measure matching on three flows, pure and compiled, beside liquibook in the same run."""
    from omninode.node.bench.compiled import compiled_engine
    from omninode.node.bench.engine import bench_matching

    with compiled_engine() as engine:
        compiled = _compiled(engine)
        rows = bench_matching(compiled, tell=note)
    columns = ("flow", "engine", "operations_per_second", "to_liquibook", "to_liquibook_untold")
    _emit_rows(rows, columns)


@app.command("path")
def path() -> None:
    """Measure whole blocks on 20 markets, signatures apart, pure and compiled."""
    from omninode.node.bench.compiled import compiled_engine
    from omninode.node.bench.engine import bench_path

    with compiled_engine() as engine:
        compiled = _compiled(engine)
        rows = bench_path(compiled, tell=note)
    columns = ("orders", "engine", "operations_per_second", "block_ms_p50", "block_ms_max")
    _emit_rows(rows, columns)


@app.command("admission")
def admission() -> None:
    """Measure what one core admits: one order a signature, and ten."""
    from omninode.node.bench.engine import bench_admission

    columns = ("orders_per_signature", "orders_per_second", "signatures_per_second")
    _emit_rows(bench_admission(tell=note), columns)


@app.command("fairness")
def fairness(
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="Blocks of each lane.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="What everything is drawn from.")] = 1,
) -> None:
    """Measure what a leader gains by knowing its beacon, in the open and in the sealed lane."""
    from omninode.node.bench.fairness import bench_fairness

    document = bench_fairness(rounds, seed)
    emit(document, lambda: print_fields(document))


@app.command("devnet")
def devnet(
    seconds: Seconds = 60,
    speed: Annotated[
        float, typer.Option(min=0.01, max=1000, help="How much faster than it was recorded.")
    ] = 1.0,
    batch_ms: PackMs = 0,
    silent: Annotated[
        int, typer.Option(min=0, max=4, help="So many of the 4 validators are dead.")
    ] = 0,
) -> None:
    """Measure order to final on a network of 4 validators on this machine."""
    from omninode.node.bench.network import Trial, make_pace, run_trial

    pace = make_pace(speed, seconds, batch_ms / 1_000)
    document = run_trial(Trial(pace, silent), _shipped(), tell=note)
    if not document["ok"]:
        raise CommandFailed("not_ok", "orders were lost or validators differ", document=document)
    emit(document, lambda: print_fields(document))


@app.command("settlement")
def settlement(seconds: Seconds = 30) -> None:
    """Measure fill to checkpoint, deposits and withdrawals on a network with its own EVM chain."""
    from omninode.node.bench.settlement import run_settlement

    document = run_settlement(seconds, _shipped(), tell=note)
    if not document["ok"]:
        raise CommandFailed("not_ok", "orders were lost or validators differ", document=document)
    emit(document, lambda: _print_settlement(document))


@app.command("rate")
def rate(seconds: Seconds = 300, batch_ms: PackMs = 50) -> None:
    """Find the highest rate that stays final, then hold it."""
    from omninode.node.bench.network import climb, keeps_up

    documents = climb(_shipped(), hold_s=seconds, pack_s=batch_ms / 1_000, tell=note)
    rows = [
        {
            "speed": document["speed"],
            "seconds": document["seconds"],
            "orders_per_second": document["orders_per_second"],
            "p50_ms": document["finality_ms"]["p50"],
            "p99_ms": document["finality_ms"]["p99"],
            "lost": document["orders"]["lost"],
            "refused": document["orders"]["refused"],
            "rss_mb": document["rss_mb"]["last"],
            "kept_up": keeps_up(document),
        }
        for document in documents
    ]
    emit({"runs": documents}, lambda: print_table(tuple(rows[0]), _cells(rows), empty=""))


def _print_settlement(document: dict[str, Any]) -> None:
    """Print the waits as one table, the calls as another, and the rest as it is."""
    waits = {name: row for name, row in document.items() if name.endswith("_ms") and "count" in row}
    columns = ("wait_ms", "count", "open", "p50", "p99")
    rows = [
        [name.removesuffix("_ms"), *(row[column] for column in columns[1:])]
        for name, row in waits.items()
    ]
    print_table(columns, rows, empty="")
    calls = document["calls_per_chain_block"]
    table = [["all", calls["all"]], *([name, value] for name, value in calls["methods"].items())]
    print()
    print_table(("calls_per_chain_block", "per_validator"), table, empty="")
    print()
    rest = {name: value for name, value in document.items() if not isinstance(value, dict)}
    chain = {f"chain_{name}": value for name, value in document["chain"].items()}
    finality = {f"finality_ms_{name}": value for name, value in document["finality_ms"].items()}
    print_fields({**rest, **chain, **finality, "rss_mb": document["rss_mb"]["last"]})


def _shipped() -> Replay:
    from omninode.node.devnet.replay_file import read_replay

    return read_replay(None)


def _compiled(engine: Path | str) -> Path | None:
    """Return where the compiled engine is, or say why there is none."""
    if isinstance(engine, Path):
        return engine
    note(f"not compiled: {engine}")
    return None


def _emit_rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    table = [[row.get(column) for column in columns] for row in rows]
    emit({"rows": rows}, lambda: print_table(columns, table, empty="nothing was measured"))


def _cells(rows: list[dict[str, Any]]) -> list[list[object]]:
    return [list(row.values()) for row in rows]
