"""The state machines that a simulated node executes final blocks on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from omninode.consensus.types import Block, NextEpoch

if TYPE_CHECKING:
    from omninode.node.simulation.epochs import Sets


class StateMachine(Protocol):
    """Executes final blocks in height order."""

    @property
    def height(self) -> int:
        """The last executed height."""

    @property
    def app_hash(self) -> bytes:
        """The hash of the state."""

    @property
    def epoch(self) -> int:
        """The epoch that the next block belongs to."""

    @property
    def following(self) -> NextEpoch | None:
        """What the cut of that epoch decided, once it is executed."""

    def apply(self, block: Block, transactions: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Execute a block; return the records to store."""
        ...

    def effective(self) -> Sequence[bytes]:
        """Return the ids that had an effect in the newest block; each may have one once."""
        ...

    def check(self) -> None:
        """Raise `BrokenInvariant` if the state contradicts itself."""
        ...

    def flip(self) -> None:
        """Turn one bit of the state over, as a broken memory does."""
        ...


class Workload(Protocol):
    """Where a schedule's transactions and state machines come from."""

    def begin(self, sets: Sets | None) -> None:
        """Take the validator sets of the epochs to come, if the schedule has epochs."""

    def machine(self, records: dict[bytes, bytes]) -> StateMachine:
        """Return the machine at the state of these records; genesis if there are none."""
        ...

    def transaction(self, number: int, time_ms: int) -> tuple[bytes, bytes]:
        """Return the id and the bytes of some client's next transaction."""
        ...


_STATE_KEY = b"state"


class HashChain:
    """The cheapest machine whose state depends on everything: a hash over heights and ids."""

    epoch = 0
    following: NextEpoch | None = None

    def __init__(self, record: bytes | None) -> None:
        self.height = 0 if record is None else int.from_bytes(record[:8], "big")
        self.app_hash = bytes(32) if record is None else record[8:]

    def apply(self, block: Block, transactions: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Take a block into the hash; return the records to store."""
        self.height += 1
        assert self.height == block.header.height
        digest = hashlib.sha256(self.app_hash + block.hash)
        for transaction in transactions:
            digest.update(transaction)
        self.app_hash = digest.digest()
        return {_STATE_KEY: self.height.to_bytes(8, "big") + self.app_hash}

    def effective(self) -> Sequence[bytes]:
        """A hash takes everything, as often as it comes."""
        return ()

    def check(self) -> None:
        """A hash can not contradict itself."""

    def flip(self) -> None:
        """Turn one bit of the hash over."""
        self.app_hash = bytes((self.app_hash[0] ^ 1,)) + self.app_hash[1:]


class HashChainWorkload:
    """Numbered transactions for `HashChain`."""

    def begin(self, sets: Sets | None) -> None:
        """Cut no epochs."""

    def machine(self, records: dict[bytes, bytes]) -> HashChain:
        """Return a hash chain at the state of these records."""
        return HashChain(records.get(_STATE_KEY))

    def transaction(self, number: int, time_ms: int) -> tuple[bytes, bytes]:
        """Return the id and the bytes of a numbered transaction."""
        raw = b"transaction %d at %d" % (number, time_ms)
        return hashlib.sha256(raw).digest(), raw
