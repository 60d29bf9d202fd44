"""Simulated epochs: a machine that cuts by height, and sets whose powers change.

The members stay, so an index is the same validator in every epoch. A faulty one gains no power, so
less than a third of it is faulty in each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from omninode.consensus.types import Block, NextEpoch, Seal, ValidatorSet
from omninode.encoding import decode, encode
from omninode.node.simulation.machines import HashChain, HashChainWorkload

EPOCH_BLOCKS: Final = 3
"""Blocks from an epoch's start to its cut."""

_STATE_KEY: Final = b"state"
_RECORD_BYTES_MAX: Final = 1_024


class _Record(msgspec.Struct, frozen=True, array_like=True):
    height: int
    app_hash: bytes
    epoch: int
    start: int
    cut_height: int
    cut_hash: bytes


class EpochChain(HashChain):
    """A chain of hashes whose epochs end."""

    def __init__(self, sets: Sets, record: bytes | None) -> None:
        super().__init__(None)
        self._sets = sets
        state = _Record(0, bytes(32), 0, 0, 0, b"")
        if record is not None:
            state = decode(record, _Record, size_max=_RECORD_BYTES_MAX)
        self.height, self.app_hash, self.epoch = state.height, state.app_hash, state.epoch
        self._start, self._cut_height, self._cut_hash = (
            state.start,
            state.cut_height,
            state.cut_hash,
        )
        self._decide()

    def apply(self, block: Block, transactions: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Take a block into the hash; cut or begin an epoch where it is due."""
        super().apply(block, transactions)
        if block.header.seal is not None:
            self.epoch, self._start = block.header.epoch + 1, self.height
            self._cut_height, self._cut_hash = 0, b""
        elif not self._cut_height and self.height - self._start >= EPOCH_BLOCKS:
            self._cut_height, self._cut_hash = self.height, self.app_hash
        self._decide()
        record = _Record(
            self.height, self.app_hash, self.epoch, self._start, self._cut_height, self._cut_hash
        )
        return {_STATE_KEY: encode(record)}

    def _decide(self) -> None:
        self.following = None
        if self._cut_height:
            chosen = self._sets.of(self.epoch + 1)
            roots = [hashlib.sha256(self._cut_hash + kind).digest() for kind in (b"b", b"s")]
            seal = Seal(self._cut_height, chosen.hash, chosen.seed, *roots)
            self.following = NextEpoch(seal, chosen)


class Sets:
    """The set of each epoch: some honest validators gain power, and lose it again."""

    def __init__(self, first: ValidatorSet, weak: Iterable[int]) -> None:
        self._first = first
        self._weak = frozenset(weak)
        self._made = {0: first}

    def of(self, epoch: int) -> ValidatorSet:
        """Return the set of an epoch."""
        made = self._made.get(epoch)
        if made is None:
            members = []
            for index, validator in enumerate(self._first.validators):
                gain = 0 if index in self._weak else (epoch * 5 + index * 3) % 4
                power = validator.power + gain
                members.append(replace(validator, power=power, weight=power))
            seed = hashlib.sha256(self._first.seed + epoch.to_bytes(8, "big")).digest()
            made = self._made[epoch] = ValidatorSet(epoch, tuple(members), seed)
        return made


class EpochWorkload(HashChainWorkload):
    """Numbered transactions, and machines that cut epochs."""

    def __init__(self) -> None:
        self.sets: Sets | None = None

    def begin(self, sets: Sets | None) -> None:
        """Cut epochs, if the schedule has them."""
        self.sets = sets

    def machine(self, records: dict[bytes, bytes]) -> HashChain:
        """Return a machine at the state of these records."""
        if self.sets is None:
            return super().machine(records)
        return EpochChain(self.sets, records.get(_STATE_KEY))
