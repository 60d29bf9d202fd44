"""What validators tell the exchange about themselves and each other, as parts of a transaction.

They travel as transactions of scheme 2 (rule X5 of `dex.transaction`): gossip, inclusion and
finality come with that. Whether one holds is judged in execution.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from omninode.consensus.types import Count, Hash, Vote
from omninode.crypto import HASH_BYTES
from omninode.dex.staking.limits import AUDITED_MAX

Address = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
Salt = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Service = Literal["dex", "ipfs", "chat"]
Points = Annotated[int, msgspec.Meta(ge=0, le=100)]
Verdict = tuple[Address, Service, Points]
"""An audited validator's vote address, the service, and what it was worth."""


class Synced(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A registered candidate says that it has caught up and would vote."""


class ReportEvidence(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Two votes of one key that contradict each other (`consensus.participation.evidence`)."""

    first: Vote
    second: Vote


class CommitAudits(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """An auditor's commitment to its verdicts of the present epoch."""

    epoch: Count
    hash: Hash


class RevealAudits(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The verdicts behind the commitment of the epoch before, ascending and each once."""

    epoch: Count
    salt: Salt
    verdicts: Annotated[tuple[Verdict, ...], msgspec.Meta(max_length=AUDITED_MAX)]

    def __post_init__(self) -> None:
        """Refuse verdicts out of order or given twice."""
        subjects = [verdict[:2] for verdict in self.verdicts]
        if subjects != sorted(set(subjects)):
            raise ValueError("verdicts ascend by address and service, each once")


class AuditProbe(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """A transaction that an auditor hands to the audited node alone, to see it become final."""

    epoch: Count
    audited: Address
    salt: Salt
