"""Measuring in rounds: every variant once per round, each in a fresh process, then medians.

Machines are noisy; taking turns lets the noise fall on all alike, and ratios are taken within a
round before the median.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omninode.errors import UserError

ROUNDS: Final = 3
WORKER_TIMEOUT_S: Final = 600

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to measure: a function of `worker` with its arguments.

    `path` goes in front on the module path: where a compiled engine lies.
    """

    label: str
    measure: str
    arguments: Mapping[str, Any]
    path: Path | None = None


def measure(variant: Variant) -> Document:
    """Measure once, in a process of its own.

    Raises:
        UserError: `benchmark_failed`.
    """
    environment = dict(os.environ)
    if variant.path is not None:
        environment["PYTHONPATH"] = str(variant.path)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "omninode.node.bench.worker",
            variant.measure,
            json.dumps(dict(variant.arguments)),
        ],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=WORKER_TIMEOUT_S,
    )
    if done.returncode != 0:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise UserError("benchmark_failed", f"{variant.label}: {last}")
    document: Document = json.loads(done.stdout)
    return document


def measure_rounds(
    variants: Sequence[Variant], *, tell: Callable[[str], None], rounds: int = ROUNDS
) -> list[list[Document]]:
    """Measure all variants in turns.

    Returns:
        For each variant its documents, one a round.
    """
    measured: list[list[Document]] = [[] for _ in variants]
    for number in range(rounds):
        for place, variant in enumerate(variants):
            tell(f"round {number + 1} of {rounds}: {variant.label}")
            measured[place].append(measure(variant))
    return measured


def median_of(documents: Sequence[Document], key: str) -> float:
    """Return the median of one figure."""
    return statistics.median(float(document[key]) for document in documents)


def median_ratio(documents: Sequence[Document], others: Sequence[Document], key: str) -> float:
    """Return the median of the rounds' ratios of one figure."""
    pairs = zip(documents, others, strict=True)
    return statistics.median(float(mine[key]) / float(theirs[key]) for mine, theirs in pairs)
