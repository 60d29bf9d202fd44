"""Voting again after a restart (PROTOCOL.md P7).

Rules
    A1. No vote before validators with more than two thirds of the power, ourselves included, have
        told their view and what they remember of our votes.
    A2. What they remember and we do not is taken over, as if it had been in our log.
    A3. No vote in a view that an honest validator has already left behind.
    A4. If there was anything to take over, we have lost some of our memory: then no vote in a view
        that a validator has reached, nor in the next one, until every validator has answered.
    A5. The next epoch begins armed if this one did, or if nothing was lost here and its sealing
        block is of a view that no validator had passed when it answered: then no earlier life of
        ours can have voted in the next epoch, where our peers would not remember it yet (P6).
"""

from __future__ import annotations

from omninode.consensus.types import ValidatorSet


class Arming:
    """Gathers what the peers say until this validator may vote."""

    def __init__(self, validators: ValidatorSet, me: int, *, is_born_armed: bool = False) -> None:
        self._is_born_armed = is_born_armed
        self._validators = validators
        self._me = me
        self._views: dict[int, int] = {}
        self._lost_memory = False
        self.has_doubt = False
        """Whether an answer contradicted what we remember."""

    @property
    def unanswered(self) -> list[int]:
        """The validators that have not answered yet."""
        others = range(len(self._validators.validators))
        if self._is_born_armed:
            return []
        return [i for i in others if i != self._me and i not in self._views]

    @property
    def is_armed(self) -> bool:
        """Whether enough validators have answered (A1)."""
        powers = self._validators.powers
        heard = powers[self._me] + sum(powers[i] for i in self._views)
        return self._is_born_armed or self._validators.is_quorum(heard)

    def carries_over(self, sealing_view: int) -> bool:
        """Whether the next epoch begins armed (A5)."""
        return self._is_born_armed or (
            self.is_armed
            and not (self._lost_memory or self.has_doubt)
            and sealing_view >= max(self._views.values(), default=0)
        )

    @property
    def floor_view(self) -> int:
        """The lowest view to vote in (A3, A4)."""
        if self._lost_memory and self.unanswered:
            return max(self._views.values(), default=0) + 2
        heard = 0
        for view, validator in sorted(((v, i) for i, v in self._views.items()), reverse=True):
            heard += self._validators.powers[validator]
            if 3 * heard > self._validators.total_power:
                return view
        return 0

    def answered(self, validator: int, view: int, *, taught_us: bool) -> None:
        """Note an answer; `taught_us` if it held a vote that we did not remember (A2)."""
        self._views.setdefault(validator, view)
        self._lost_memory = self._lost_memory or taught_us
