"""The contract's events that matter to a node, and what follows from them.

Rules
    V1. Deposits, and entries of stake among them, are numbered from 0 without gaps, and each
        carries the rolling hash over all so far; logs that do not continue both are not the
        contract's, whoever tells them.
    V2. Numbers of checkpoints and epochs only rise. A withdrawal is paid once.

Pure: `abi` decodes, `confirmed` stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from omninode.contracts.wire import Log
from omninode.dex.bridge.deposits import Cursor, LogEntry, next_deposit_hash
from omninode.errors import Malformed


@dataclass(frozen=True, slots=True)
class Deposited:
    """A deposit, or an entry of stake; `hash` is the rolling hash after it."""

    index: int
    deposit: LogEntry
    hash: bytes


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """The contract took a checkpoint."""

    number: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A withdrawal was paid out."""

    index: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """Another validator set has taken over."""

    epoch: int


ContractEvent: TypeAlias = Deposited | Checkpointed | Withdrawn | Rotated
"""What `abi` decodes; the contract's other events are passed over."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the contract's events add up to.

    Attributes:
        deposits: How many deposits, and their rolling hash.
        checkpoint: Number of the newest checkpoint; 0 before the first.
        epoch: The epoch of the validators that it trusts.
    """

    deposits: Cursor
    checkpoint: int = 0
    epoch: int = 0


def fold(ledger: Ledger, events: Sequence[tuple[Log, ContractEvent]]) -> Ledger:
    """Add events to a ledger.

    Raises:
        Malformed: They do not continue it (V1, V2).
    """
    count, rolling = ledger.deposits.count, ledger.deposits.hash
    checkpoint, epoch = ledger.checkpoint, ledger.epoch
    for log, event in events:
        match event:
            case Deposited():
                after = next_deposit_hash(rolling, count, event.deposit)
                if (event.index, event.hash) != (count, after):
                    raise Malformed(
                        f"deposit {event.index} in block {log.block_number} does not continue "
                        f"the {count} before it"
                    )
                count, rolling = count + 1, after
            case Checkpointed():
                if event.number <= checkpoint:
                    raise Malformed(
                        f"checkpoint {event.number} after {checkpoint} in block {log.block_number}"
                    )
                checkpoint = event.number
            case Rotated():
                if event.epoch <= epoch:
                    raise Malformed(
                        f"epoch {event.epoch} after {epoch} in block {log.block_number}"
                    )
                epoch = event.epoch
            case Withdrawn():
                pass
    return Ledger(Cursor(count, rolling), checkpoint, epoch)
