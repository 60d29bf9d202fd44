"""`python -m tests.sim`: run schedules by seed and print each violation with its command."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.mutants import MUTANTS, first_death

from omninode.node.simulation.oracles import Violation
from omninode.node.simulation.schedule import Profile
from omninode.node.simulation.simulator import Report, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--profile", choices=[p.value for p in Profile], default="mixed")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--mutant", choices=MUTANTS, help="find the first seed that kills it")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    if arguments.mutant is not None:
        print(f"{arguments.mutant}: {first_death(MUTANTS[arguments.mutant], seeds)}")
        return 0
    started = time.perf_counter()
    reports, failures = [], 0
    for seed in seeds:
        try:
            reports.append(simulate(seed, Profile(arguments.profile)))
        except Violation as violation:
            failures += 1
            print(f"{arguments.profile} {seed}: {violation}")
    print(f"{failures} bad, {summary(reports)}; {time.perf_counter() - started:.1f} s")
    if arguments.count == 1 and reports:
        print(reports[0])
    return 1 if failures else 0


def summary(reports: list[Report]) -> str:
    """Add up what happened."""
    totals = {
        "steps": sum(r.steps for r in reports),
        "blocks": sum(r.height for r in reports),
        "transactions": sum(r.executed for r in reports),
        "views": sum(r.views for r in reports),
        "crashes": sum(r.crashes for r in reports),
        "convicted": sum(r.convicted for r in reports),
        "forks": sum(r.fork for r in reports),
    }
    counts = ", ".join(f"{count} {name}" for name, count in totals.items())
    return f"{len(reports)} good: {counts}"


if __name__ == "__main__":
    sys.exit(main())
