"""The benchmarks of the exchange alone: matching beside liquibook, the full path, admission."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from omninode.errors import BrokenInvariant
from omninode.node.bench.flows import SHAPES, draw_flow, save_flow
from omninode.node.bench.rounds import (
    Document,
    Variant,
    measure_rounds,
    median_of,
    median_ratio,
)

SEED: Final = 1
MATCHING_OPERATIONS: Final = 1_000_000
PATH_OPERATIONS: Final = 100_000
ADMISSION_ORDERS: Final = 50_000
BATCH: Final = 10
RATE: Final = "operations_per_second"

Tell = Callable[[str], None]
Row = dict[str, Any]


def bench_matching(compiled: Path | None, *, tell: Tell) -> list[Row]:
    """Measure matching on the three flows, pure, compiled, and beside liquibook if it is there.

    Args:
        compiled: Where a compiled engine lies, if there is one.
        tell: Told the progress.

    Raises:
        BrokenInvariant: liquibook found another number of fills than we did.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="omninode-flows-") as folder:
        for name in SHAPES:
            tell(f"flow {name}: drawing {MATCHING_OPERATIONS} operations")
            file = Path(folder) / name
            save_flow(draw_flow(name, MATCHING_OPERATIONS, SEED), file)
            rows += _matching_rows(file, compiled, tell)
    return rows


def _matching_rows(file: Path, compiled: Path | None, tell: Tell) -> list[Row]:
    flow, arguments = file.name, {"flow": str(file)}
    variants = _both("matching", "matching", arguments, compiled)
    peers = []
    if find_spec("liquibook") is not None:
        for label, tells in (("liquibook", True), ("liquibook, fills not told", False)):
            peers.append(Variant(label, "liquibook", {**arguments, "tells_fills": tells}))
    measured = measure_rounds([*variants, *peers], tell=lambda text: tell(f"flow {flow}, {text}"))
    ours, theirs = measured[: len(variants)], measured[len(variants) :]
    if theirs and theirs[0][0]["fills"] != ours[0][0]["fills"]:
        raise BrokenInvariant(f"flow {flow}: another number of fills than liquibook")
    rows = []
    for variant, documents in zip([*variants, *peers], measured, strict=True):
        row: Row = {
            "flow": flow,
            "engine": variant.label.replace("matching", "ours"),
            RATE: round(median_of(documents, RATE)),
        }
        if documents in ours and theirs:
            row["to_liquibook"] = round(median_ratio(documents, theirs[0], RATE), 2)
            row["to_liquibook_untold"] = round(median_ratio(documents, theirs[1], RATE), 2)
        rows.append(row)
    return rows


def bench_path(compiled: Path | None, *, tell: Tell) -> list[Row]:
    """Measure whole blocks without signatures, one order a transaction and ten.

    Raises:
        BrokenInvariant: The compiled engine made another app hash.
    """
    rows = []
    for per_transaction in (1, BATCH):
        arguments = {"count": PATH_OPERATIONS, "per_transaction": per_transaction, "seed": SEED}
        variants = _both("path", f"{per_transaction} a transaction", arguments, compiled)
        measured = measure_rounds(variants, tell=tell)
        if len({document["app_hash"] for row in measured for document in row}) != 1:
            raise BrokenInvariant("the compiled engine made another app hash than the source")
        for variant, documents in zip(variants, measured, strict=True):
            rows.append(
                {
                    "orders": per_transaction,
                    "engine": "compiled" if variant.path else "pure",
                    RATE: round(median_of(documents, RATE)),
                    "block_ms_p50": round(median_of(documents, "block_ms_p50"), 1),
                    "block_ms_max": round(median_of(documents, "block_ms_max"), 1),
                }
            )
    return rows


def bench_admission(*, tell: Tell) -> list[Row]:
    """Measure what one core admits, one order a signature and ten."""
    rows = []
    for per_transaction in (1, BATCH):
        arguments = {"count": ADMISSION_ORDERS, "per_transaction": per_transaction}
        label = f"{per_transaction} a signature"
        (documents,) = measure_rounds([Variant(label, "admission", arguments)], tell=tell)
        rows.append(
            {
                "orders_per_signature": per_transaction,
                "orders_per_second": round(median_of(documents, "orders_per_second")),
                "signatures_per_second": round(median_of(documents, "signatures_per_second")),
            }
        )
    return rows


def _both(measure: str, label: str, arguments: Document, compiled: Path | None) -> list[Variant]:
    """Return the pure variant, and the compiled one if there is a compiled engine."""
    variants = [Variant(f"{label}, pure", measure, arguments)]
    if compiled is not None:
        variants.append(Variant(f"{label}, compiled", measure, arguments, compiled))
    return variants
