"""What a schedule did, and what a batch of them did together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

FAILURES_TOLD_MAX: Final = 100
"""Violations that a result tells one by one; more are only counted."""


@dataclass(slots=True)
class Counts:
    """What happened, in numbers that add up over schedules."""

    commits: int = 0
    """Blocks that somebody honest called final."""
    views: int = 0
    nullified_views: int = 0
    epochs: int = 0
    """Changes of the validator set."""
    transactions: int = 0
    """Executed by the network."""
    acknowledged: int = 0
    """Told `received` to a client: each must become final."""
    events: int = 0
    messages: int = 0
    lost: int = 0
    duplicates: int = 0
    partitions: int = 0
    crashes: int = 0
    crashes_in_mid_step: int = 0
    """At an append, with the rest of the step undone."""
    torn_logs: int = 0
    """Restarts from a log that lost its end but not all that was being written."""
    full_disks: int = 0
    """Stops because nothing could be written."""
    lost_disks: int = 0
    old_disks: int = 0
    flipped_bits: int = 0
    halts: int = 0
    """Of nodes whose state was not the network's."""
    outages: int = 0
    byzantine: int = 0
    evidence: int = 0
    """Contradictions that honest nodes reported."""
    convicted: int = 0
    """Validators that were found out."""
    forks_attempted: int = 0
    """Schedules with a third of the power or more against the rest."""
    forks: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One schedule."""

    seed: int
    profile: str
    counts: Counts
    trace_hash: str
    violation: str | None = None


@dataclass(slots=True)
class Totals:
    """A batch of schedules, added in the order of their seeds."""

    schedules: int = 0
    violations: int = 0
    counts: Counts = field(default_factory=Counts)
    profiles: dict[str, int] = field(default_factory=dict)
    failures: list[Report] = field(default_factory=list)
    _hash: Any = field(default_factory=hashlib.sha256)

    def add(self, report: Report) -> None:
        """Count one more schedule."""
        self.schedules += 1
        for counted in _NAMES:
            more = getattr(report.counts, counted)
            setattr(self.counts, counted, getattr(self.counts, counted) + more)
        self.profiles[report.profile] = self.profiles.get(report.profile, 0) + 1
        self._hash.update(f"{report.seed} {report.trace_hash}\n".encode())
        if report.violation is not None:
            self.violations += 1
            if len(self.failures) < FAILURES_TOLD_MAX:
                self.failures.append(report)

    @property
    def trace_hash(self) -> str:
        """Depends on every event of every schedule."""
        return str(self._hash.hexdigest())

    def document(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        counts = asdict(self.counts)
        promised = ("commits", "views", "crashes", "partitions", "evidence", "epochs")
        return {
            "schedules": self.schedules,
            "violations": self.violations,
            **{name: counts.pop(name) for name in promised},
            "covered": {**counts, "profiles": dict(sorted(self.profiles.items()))},
            "trace_hash": self.trace_hash,
        }


_NAMES = tuple(count.name for count in fields(Counts))


def total(reports: Iterable[Report]) -> Totals:
    """Add reports up."""
    totals = Totals()
    for report in reports:
        totals.add(report)
    return totals
