"""Each of the eight ways to break consensus is found (consensus.md §5.3)."""

from __future__ import annotations

import pytest
from tests.sim.mutants import MUTANTS, first_death


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_dies(name: str) -> None:
    mutant = MUTANTS[name]
    seed = first_death(mutant, [mutant.first_seed, *range(300)])
    assert seed is not None, f"{name} survives: the simulator is blind to it"
