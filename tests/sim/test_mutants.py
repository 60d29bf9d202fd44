"""Each way to break consensus that `mutants.py` knows is found (consensus.md §5.3)."""

from __future__ import annotations

import pytest
from tests.sim.mutants import MUTANTS, death


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_dies(name: str) -> None:
    mutant = MUTANTS[name]
    seeds = [mutant.first_seed, *range(300)]
    deaths = (death(mutant, seed) for seed in seeds)
    assert any(deaths), f"{name} survives: the simulator is blind to it"
