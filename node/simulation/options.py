"""What a caller can ask of a batch of schedules, and the command that asks for it again."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Tier(enum.StrEnum):
    """How much of a node is simulated."""

    CORE = "core"
    """Consensus, log and guard over a chain of hashes: fast."""
    WHOLE = "whole"
    """The same with the real exchange, real signed transactions and its stored records."""


class Fault(enum.StrEnum):
    """What can go wrong. A schedule has any mixture of the first ones and at most one story."""

    LOSS = "loss"
    DELAY = "delay"
    DUPLICATES = "duplicates"
    REORDERING = "reordering"
    PARTITIONS = "partitions"
    SKEW = "skew"
    CRASHES = "crashes"
    TWINS = "twins"
    LIARS = "liars"
    SILENT = "silent"
    EPOCHS = "epochs"
    """The validator set changes, again and again (core tier)."""
    # Stories.
    STORM = "storm"
    APPENDS = "appends"
    FULL_DISK = "full-disk"
    LOST_DISK = "lost-disk"
    OLD_DISK = "old-disk"
    BIT_FLIP = "bit-flip"
    OUTAGE = "outage"
    OVERLOAD = "overload"


STORIES: Final = (
    Fault.STORM,
    Fault.APPENDS,
    Fault.FULL_DISK,
    Fault.LOST_DISK,
    Fault.OLD_DISK,
    Fault.BIT_FLIP,
    Fault.OUTAGE,
    Fault.OVERLOAD,
)
MIXTURE: Final = frozenset(fault for fault in Fault if fault not in STORIES)
EVERYTHING: Final = frozenset(Fault)


@dataclass(frozen=True, slots=True)
class Options:
    """What every schedule of a batch has in common.

    Attributes:
        validators: How many; `None` draws them.
        steps: Events after which a schedule ends, finished or not; `None` runs it to its goal.
        faults: What may go wrong.
        tier: How much of a node is simulated.
    """

    validators: int | None = None
    steps: int | None = None
    faults: frozenset[Fault] = EVERYTHING
    tier: Tier = Tier.WHOLE

    def command(self, seed: int) -> str:
        """Return the command line that runs one schedule again and tells it."""
        words = ["omninode simulate", f"--seed {seed}"]
        if self.validators is not None:
            words.append(f"--validators {self.validators}")
        if self.steps is not None:
            words.append(f"--steps {self.steps}")
        if self.faults != EVERYTHING:
            names = ",".join(fault for fault in Fault if fault in self.faults)
            words.append(f"--faults {names or 'none'}")
        if self.tier is not Tier.WHOLE:
            words.append(f"--tier {self.tier}")
        return " ".join([*words, "--trace"])
