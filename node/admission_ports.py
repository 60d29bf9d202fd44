"""What admission needs of the rest of the node; `node/runtime.py` supplies it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from omninode.dex.actions import Action
from omninode.storage.records import JournalEntry


class AdmissionState(Protocol):
    """What admission asks of the newest executed state."""

    @property
    def chain_time_ms(self) -> int:
        """Time of the newest executed block."""
        ...

    def is_funded(self, account: bytes) -> bool:
        """Whether an account owns anything."""
        ...

    def is_nonce_used(self, account: bytes, signer: bytes, nonce: int) -> bool:
        """Whether an executed transaction used this nonce."""
        ...

    def is_authorised(self, account: bytes, signer: bytes) -> bool:
        """Whether a key may act for an account."""
        ...

    def may_state(self, account: bytes, action: Action) -> bool:
        """Whether a validator's statement may come from the address of a vote key."""
        ...


class AcknowledgedLog(Protocol):
    """Durable memory of what was acknowledged (`storage.journal.Journal`)."""

    def __contains__(self, transaction_hash: object) -> bool:
        """Whether a transaction is kept, or on its way to the disk."""
        ...

    async def add(self, entries: Sequence[tuple[bytes, JournalEntry]]) -> None:
        """Keep transactions by hash; returns when they are durable."""
        ...

    async def remove(self, hashes: Iterable[bytes]) -> None:
        """Forget transactions that can not count any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPorts:
    """What admission needs of the rest of the node.

    Args:
        state: The newest executed state.
        journal: Where acknowledged transactions are kept.
        is_final: Whether the stored chain holds a transaction; asked only when its nonce is used.
        broadcast: Queues a frame on the data plane to every connected validator.
        now_ms: The wall clock.
    """

    state: AdmissionState
    journal: AcknowledgedLog
    is_final: Callable[[bytes], bool]
    broadcast: Callable[[bytes], object]
    now_ms: Callable[[], int]
