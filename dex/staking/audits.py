"""The audits of two epochs: commitments in the one, verdicts shown in the next, then the median.

Rules are those of `consensus.participation.audits`. A validator commits once and shows once; what
was not shown by the next cut does not count.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omninode.consensus.participation.audits import AUDITORS_MAX, duties, median
from omninode.consensus.types import ValidatorSet
from omninode.dex.staking.statements import Verdict

POINTS_BP: Final = 100
"""Verdicts are in points of a hundred."""


class AuditRecord(msgspec.Struct, frozen=True, array_like=True):
    """One auditor's commitment, whom it examines, and its verdicts once it has shown them."""

    hash: bytes
    duties: tuple[bytes, ...]
    auditors: int
    verdicts: tuple[Verdict, ...] = ()
    is_shown: bool = False


class Audits:
    """Commitments by (epoch, auditor), and how many probes each auditor sent in this epoch.

    Attributes:
        records: The commitments of this and the last epoch.
        probes: Probes by auditor in this epoch.
        changed: Keys of `records` that changed since they were last taken.
    """

    def __init__(self) -> None:
        self.records: Final[dict[tuple[int, bytes], AuditRecord]] = {}
        self.probes: Final[dict[bytes, int]] = {}
        self.changed: Final[set[tuple[int, bytes]]] = set()
        self.changed_probes: Final[set[bytes]] = set()
        self._duties: dict[bytes, tuple[bytes, ...]] = {}
        self._duties_of: ValidatorSet | None = None

    def duties(self, auditor: bytes, validators: ValidatorSet) -> tuple[bytes, ...]:
        """Return whom a validator examines in this epoch, by address."""
        if self._duties_of is not validators:
            addresses = [validator.address for validator in validators.validators]
            lists = duties(validators.seed, validators.powers)
            self._duties = {
                address: tuple(addresses[index] for index in mine)
                for address, mine in zip(addresses, lists, strict=True)
            }
            self._duties_of = validators
        return self._duties.get(auditor, ())

    def put(self, epoch: int, auditor: bytes, record: AuditRecord) -> None:
        """Keep a commitment or what was shown of it."""
        self.records[epoch, auditor] = record
        self.changed.add((epoch, auditor))

    def add_probe(self, auditor: bytes) -> None:
        """Count a probe."""
        self.probes[auditor] = self.probes.get(auditor, 0) + 1
        self.changed_probes.add(auditor)

    def results(self, epoch: int) -> dict[bytes, dict[str, int]]:
        """Return the results of an epoch's audits in basis points, by audited address."""
        points: dict[tuple[bytes, str], list[int]] = {}
        count = AUDITORS_MAX
        for (of_epoch, _), record in self.records.items():
            if of_epoch == epoch and record.is_shown:
                count = record.auditors
                for address, service, value in record.verdicts:
                    points.setdefault((address, service), []).append(value)
        results: dict[bytes, dict[str, int]] = {}
        for (address, name), values in points.items():
            result = median(values, count)
            if result is not None:
                results.setdefault(address, {})[name] = result * POINTS_BP
        return results

    def drop(self, before: int) -> None:
        """Forget the audits of epochs before one."""
        for key in [key for key in self.records if key[0] < before]:
            del self.records[key]
            self.changed.add(key)

    def begin_epoch(self) -> None:
        """Let everybody send probes again."""
        self.changed_probes.update(self.probes)
        self.probes.clear()
