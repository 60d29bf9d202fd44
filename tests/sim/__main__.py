"""`python -m tests.sim`: run schedules by seed, say how fast, print each violation with its
command."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.oracles import Violation
from tests.sim.schedule import Profile
from tests.sim.simulator import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--profile", choices=[p.value for p in Profile], default="mixed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    arguments = parser.parse_args()
    profile = Profile(arguments.profile)
    started = time.perf_counter()
    reports, failures = [], 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        try:
            reports.append(simulate(seed, profile))
        except Violation as violation:
            failures += 1
            print(f"{profile.value} {seed}: {violation}")
    seconds = time.perf_counter() - started
    steps = sum(r.steps for r in reports)
    print(
        f"{len(reports)} good, {failures} bad; {steps} steps, "
        f"{sum(r.height for r in reports)} blocks, "
        f"{sum(r.executed for r in reports)} transactions, "
        f"{sum(r.views for r in reports)} views, {sum(r.crashes for r in reports)} crashes, "
        f"{sum(r.convicted for r in reports)} convicted, {sum(r.fork for r in reports)} forks; "
        f"{seconds:.1f} s"
    )
    if arguments.count == 1 and reports:
        print(reports[0])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
