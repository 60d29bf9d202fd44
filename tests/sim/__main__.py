"""`python -m tests.sim`: look for the first schedule that kills each mutant, or a named one."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.mutants import MUTANTS, death


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("mutants", nargs="*", default=[*MUTANTS], help=", ".join(MUTANTS))
    parser.add_argument("--count", type=int, default=300, help="how many seeds to try")
    arguments = parser.parse_args()
    survivors = 0
    for name in arguments.mutants:
        started = time.perf_counter()
        deaths = ((seed, death(MUTANTS[name], seed)) for seed in range(arguments.count))
        seed, why = next(((s, w) for s, w in deaths if w is not None), (-1, "survives"))
        survivors += seed < 0
        print(f"{name}: {seed} ({time.perf_counter() - started:.1f} s) {why[:150]}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
