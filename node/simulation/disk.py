"""A node's storage: log, signer guard and chain store, and what a crash leaves of them.

Records of the log are durable once synced. A crash keeps what was synced and, depending on its
kind, nothing, a prefix or all of what was buffered. The guard is a file of its own that is durable
just after the log. The chain store commits a block atomically.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from omninode.consensus.chain import FinalizedTip
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.records import WalBlock, WalCertificate, WalRecord, WalVote
from omninode.consensus.types import VOTES_SEEN_MAX, Block, Certificate, Vote

GUARD_VIEWS = 48
Place = tuple[int, int]
"""Epoch and view."""


class Crash(enum.Enum):
    """What a crash leaves of the buffered records."""

    CLEAN = "nothing of it"
    TORN = "a prefix"
    AFTER_WRITE = "all, though nothing was sent"


@dataclass
class Committed:
    """One block of the chain store."""

    block: Block
    transactions: tuple[bytes, ...]
    certificate: Certificate | None
    app_hash: bytes
    proof: EpochProof | None = None


@dataclass
class Disk:
    """What survives."""

    genesis_app_hash: bytes
    log: list[WalRecord] = field(default_factory=list)
    buffered: list[WalRecord] = field(default_factory=list)
    guard: dict[Place, list[Vote]] = field(default_factory=dict)
    proofs: dict[int, EpochProof] = field(default_factory=dict)
    """How epochs ended."""
    chain: list[Committed] = field(default_factory=list)
    records: dict[bytes, bytes] = field(default_factory=dict)
    executed: set[bytes] = field(default_factory=set)
    """Ids of the transactions in `chain`."""
    appends: int = 0
    is_full: bool = False
    on_durable: Callable[[Vote], None] | None = None

    def append(self, record: WalRecord) -> None:
        """Buffer a record of the log."""
        self.appends += 1
        self.buffered.append(record)

    def sync(self, count: int) -> None:
        """Make the oldest `count` buffered records durable."""
        self.log += self.buffered[:count]
        self._teach_guard(self.buffered[:count])
        del self.buffered[:count]

    def _teach_guard(self, records: list[WalRecord]) -> None:
        for record in records:
            if not isinstance(record, WalVote):
                continue
            votes = self.guard.setdefault((record.vote.epoch, record.vote.view), [])
            if record.vote not in votes:
                votes.append(record.vote)
                if self.on_durable is not None:
                    self.on_durable(record.vote)
            while len(self.guard) > GUARD_VIEWS:
                del self.guard[min(self.guard)]

    def copy(self) -> Disk:
        """Return a copy of what is durable."""
        return Disk(
            self.genesis_app_hash,
            log=list(self.log),
            guard={place: list(votes) for place, votes in self.guard.items()},
            proofs=dict(self.proofs),
            chain=list(self.chain),
            records=dict(self.records),
            executed=set(self.executed),
            appends=self.appends,
            on_durable=self.on_durable,
        )

    def crash(self, kind: Crash, rng: random.Random) -> bool:
        """Lose what was buffered, or part of it; return whether the log is torn."""
        kept, written = 0, len(self.buffered)
        if kind is Crash.TORN:
            kept = rng.randrange(len(self.buffered) + 1)
        elif kind is Crash.AFTER_WRITE:
            kept = len(self.buffered)
        if rng.random() < 0.5:
            self.sync(kept)
        else:
            # Between the two syncs: the log is there, the guard is not.
            self.log += self.buffered[:kept]
        self.buffered.clear()
        return 0 < kept < written

    def lose(self) -> None:
        """The data disk dies; the guard lies elsewhere."""
        self.log.clear()
        self.buffered.clear()
        self.chain.clear()
        self.records.clear()
        self.executed.clear()
        self.proofs.clear()

    def commit(self, committed: Committed, writes: dict[bytes, bytes | None]) -> None:
        """Store a block and the records it changed, atomically."""
        self.chain.append(committed)
        if committed.proof is not None:
            self.proofs[committed.proof.epoch] = committed.proof
        self.executed.update(committed.block.transaction_ids)
        for key, value in writes.items():
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value

    def prune(self) -> None:
        """Drop records of the log that the chain store makes superfluous."""
        if not self.chain:
            return
        header = self.chain[-1].block.header
        final = (header.epoch, header.view)

        def is_needed(record: WalRecord) -> bool:
            match record:
                case WalBlock(block, _):
                    return block.header.height > header.height
                case WalVote(vote):
                    return (vote.epoch, vote.view) > final
                case WalCertificate(certificate):
                    return (certificate.epoch, certificate.view) > final

        self.log = [record for record in self.log if is_needed(record)]

    def replayed(self) -> list[WalRecord]:
        """What a restarted core gets: the log, then votes that only the guard knows."""
        self._teach_guard(self.log)
        logged = {r.vote for r in self.log if isinstance(r, WalVote)}
        votes = [v for place in sorted(self.guard) for v in self.guard[place]]
        return [*self.log, *(WalVote(v) for v in votes if v not in logged)]

    def tip(self) -> FinalizedTip | None:
        """Return where a restarted core begins; `None` is genesis."""
        if not self.chain:
            return None
        newest = self.chain[-1]
        header = newest.block.header
        hashes = [(0, self.genesis_app_hash)] if header.executed_height == 0 else []
        first = max(header.executed_height, 1)
        hashes += [
            (height, self.chain[height - 1].app_hash) for height in range(first, header.height + 1)
        ]
        recent = tuple(
            committed.block
            for committed in self.chain[-VOTES_SEEN_MAX:]
            if committed.block.header.epoch == header.epoch and header.seal is None
        )
        return FinalizedTip(header, newest.certificate, tuple(hashes), recent)
