"""Each way to break consensus that `mutants.py` knows is found (consensus.md §5.3)."""

from __future__ import annotations

import pytest
from tests.sim.mutants import MUTANTS, death


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_dies(name: str) -> None:
    mutant = MUTANTS[name]
    seeds = [mutant.first_seed, *range(300)]
    why = next((why for why in (death(mutant, seed) for seed in seeds) if why is not None), None)
    assert why is not None, f"{name} survives: the simulator is blind to it"
    assert not why.startswith(("TypeError", "AttributeError", "NameError")), why
