"""`omninode simulate`: whole networks on virtual time, with every fault that a seed can bring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.output import emit, note, print_fields
from omninode.node.simulation.options import EVERYTHING, Fault, Options, Tier

if TYPE_CHECKING:
    from omninode.node.simulation.report import Totals

VALIDATORS_MAX: Final = 100
SEED_MAX: Final = 2**63
PLAIN_PROGRESS_SCHEDULES: Final = 1_000
"""Without a terminal one line says so after each of these schedules."""
_NONE: Final = "none"

app = typer.Typer()


@app.command()
def simulate(
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=SEED_MAX, help="Run this schedule.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="A..B", help="Run these schedules, both ends included."),
    ] = None,
    validators: Annotated[
        int | None,
        typer.Option(min=4, max=VALIDATORS_MAX, help="How many. Default: drawn from the seed."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="End each schedule after so many inputs. Default: at its goal."),
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help=f"What may go wrong, with commas between: {', '.join(Fault)}; or none. "
            "Default: all of it.",
        ),
    ] = None,
    tier: Annotated[
        Tier, typer.Option(help="Whole nodes with the real exchange, or the core of consensus.")
    ] = Tier.WHOLE,
    trace: Annotated[
        bool, typer.Option("--trace", help="Tell the schedule; for one --seed.")
    ] = False,
) -> None:
    """Simulate networks by seed and judge all that their nodes do; the same seed, the same run.

    Exit code 1 if anything is violated, with the command that shows it again.
    """
    chosen = _seeds(seed, seeds)
    options = Options(validators, steps, _faults(faults), tier)
    if trace and len(chosen) != 1:
        raise typer.BadParameter("goes with one --seed", param_hint="--trace")
    totals = _tell(chosen[0], options) if trace else _run(chosen, options)
    document = _document(totals, options)
    if totals.violations:
        for failure in totals.failures:
            note(f"seed {failure.seed}, {failure.profile}: {failure.violation}")
            note(f"  show it again: {options.command(failure.seed)}")
        raise CommandFailed(
            "violated",
            f"{totals.violations} of {totals.schedules} schedules violate what must hold; the "
            f"first again: {options.command(totals.failures[0].seed)}",
            document=document,
        )
    emit(document, lambda: print_fields(_flat(document)))


def _seeds(seed: int | None, seeds: str | None) -> range:
    """Read the seeds to run."""
    if (seed is None) == (seeds is None):
        raise typer.BadParameter("give one of the two", param_hint="--seed / --seeds")
    if seed is not None:
        return range(seed, seed + 1)
    first, dots, last = (seeds or "").partition("..")
    if not (dots and first.isdecimal() and last.isdecimal()):
        raise typer.BadParameter(f"{seeds} is not like 0..999", param_hint="--seeds")
    chosen = range(int(first), int(last) + 1)
    if not chosen or int(last) > SEED_MAX:
        raise typer.BadParameter(f"{seeds} holds no seed, or too great ones", param_hint="--seeds")
    return chosen


def _faults(names: str | None) -> frozenset[Fault]:
    """Read the list of faults."""
    if names is None:
        return EVERYTHING
    known = {str(fault): fault for fault in Fault}
    words = [word.strip() for word in names.split(",")]
    unknown = [word for word in words if word not in known]
    if words == [_NONE]:
        return frozenset()
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: there are {', '.join(known)} and {_NONE}", param_hint="--faults"
        )
    return frozenset(known[word] for word in words)


def _tell(seed: int, options: Options) -> Totals:
    """Run one schedule and tell it: on stderr, which is not the result."""
    from omninode.node.simulation.report import total
    from omninode.node.simulation.simulator import simulate as run

    return total([run(seed, options, tell=note)])


def _run(seeds: range, options: Options) -> Totals:
    from omninode.node.simulation.campaign import run_seeds
    from omninode.node.simulation.report import Totals

    totals = Totals()
    with _progress(len(seeds)) as progress:
        for report in run_seeds(seeds, options):
            totals.add(report)
            progress(totals)
    return totals


@contextmanager
def _progress(count: int) -> Iterator[Callable[[Totals], None]]:
    """Show progress on stderr: a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _say_sometimes
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda totals: bar.update(
            task, completed=totals.schedules, description=_violated(totals)
        )


def _say_sometimes(totals: Totals) -> None:
    if totals.schedules % PLAIN_PROGRESS_SCHEDULES == 0:
        note(f"{totals.schedules} schedules, {_violated(totals)}")


def _violated(totals: Totals) -> str:
    return f"{totals.violations} violations"


def _document(totals: Totals, options: Options) -> dict[str, Any]:
    """Return the result; with violations, each with the command that shows it again."""
    document = {"tier": str(options.tier), **totals.document()}
    if totals.failures:
        document["failures"] = [
            {
                "seed": failure.seed,
                "profile": failure.profile,
                "violation": failure.violation,
                "command": options.command(failure.seed),
            }
            for failure in totals.failures
        ]
    return document


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Return the result for people: what was covered in line with the rest."""
    covered = dict(document["covered"])
    profiles = covered.pop("profiles")
    flat = {
        name: value for name, value in document.items() if name not in {"covered", "trace_hash"}
    }
    about = ", ".join(f"{count} {name}" for name, count in profiles.items())
    return {**flat, **covered, "about": about, "trace_hash": document["trace_hash"]}
