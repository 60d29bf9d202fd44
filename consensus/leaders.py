"""Who leads a view, and who has been silent lately.

Rules
    L1. `leader(view)` is a pure function of the epoch's set, with its seed, and the view: drawn by
        weight, in integers.
    L2. Skipping a silent leader is a local matter of patience: it never touches what is valid or
        safe.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from omninode.consensus.limits import MISSED_TURNS, MISSED_TURNS_CHANCE, SILENT_VIEWS
from omninode.consensus.types import ValidatorSet
from omninode.crypto import tagged_hash


class LeaderSchedule:
    """Draws each view's leader with a chance in proportion to its weight (L1)."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._seed = tagged_hash("omni/leaders/1", validators.seed, validators.hash)
        self._bounds = list(accumulate(v.weight for v in validators.validators))

    def leader(self, view: int) -> int:
        """Return the index of the validator that leads `view`."""
        draw = tagged_hash("omni/leader/1", self._seed, view.to_bytes(8, "big"))
        return bisect_right(self._bounds, int.from_bytes(draw, "big") % self._bounds[-1])


class LeaderWatch:
    """Counts silence: a dead leader costs the network its patience once, not at each turn (L2)."""

    def __init__(self, validator_count: int) -> None:
        self._silent_views = [0] * validator_count
        self._missed_turns = [0] * validator_count

    def heard(self, validator: int) -> None:
        """A vote for a current view arrived."""
        self._silent_views[validator] = 0

    def proposed(self, validator: int) -> None:
        """A proposal of this leader arrived."""
        self._missed_turns[validator] = 0

    def passed(self, leader: int, *, proposal_seen: bool) -> None:
        """We went from one view to the next."""
        silent = self._silent_views
        for validator in range(len(silent)):
            silent[validator] += 1
        if not proposal_seen:
            self._missed_turns[leader] += 1

    def jumped(self) -> None:
        """We skipped views and do not know who spoke in them."""
        self._silent_views = [0] * len(self._silent_views)

    def is_quiet(self, validator: int) -> bool:
        """Whether no vote of it was heard since the view began."""
        return self._silent_views[validator] > 0

    def is_silent(self, leader: int) -> bool:
        """Whether to waste no patience on this leader."""
        missed = self._missed_turns[leader]
        return self._silent_views[leader] > SILENT_VIEWS or (
            missed >= MISSED_TURNS and missed % MISSED_TURNS_CHANCE != 0
        )
