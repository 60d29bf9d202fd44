"""What consensus needs of the rest of the node; `node/runtime.py` supplies it.

Consensus treats a transaction as bytes with an id that another part has checked; what it means is
the ledger's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.records import WalRecord
from omninode.consensus.types import Block, Certificate, Header, NextEpoch, Vote

Clock = Callable[[], int]
"""Returns the wall clock in milliseconds since the epoch."""


class Body(Protocol):
    """One checked transaction: well formed, rightly signed."""

    @property
    def hash(self) -> bytes:
        """Its id in blocks."""
        ...

    @property
    def raw(self) -> bytes:
        """The signed bytes."""
        ...


class Pool(Protocol):
    """The transactions that this node holds and has not seen final."""

    def body(self, transaction_id: bytes) -> Body | None:
        """Return a held transaction."""
        ...

    async def wait_for(self, ids: Sequence[bytes]) -> None:
        """Return when all of these are held (the caller sets the deadline)."""
        ...

    async def check(self, raws: Sequence[bytes]) -> Sequence[Body]:
        """Decode and verify transactions of a block, without keeping them.

        Raises:
            Malformed: One of them can never be part of a valid block.
        """
        ...

    def select(self, excluded: Collection[bytes]) -> tuple[bytes, ...]:
        """Choose transactions for the next block (inclusion policy, PROTOCOL.md P3)."""
        ...

    def oldest_ms(self, excluded: Collection[bytes]) -> int | None:
        """When the oldest includable transaction outside `excluded` arrived, if there is one."""
        ...

    def stale(self, excluded: Collection[bytes], *, before_ms: int, bytes_max: int) -> list[bytes]:
        """Return bytes of transactions that arrived before a time, for the leader (P3)."""
        ...

    async def receive(self, peer: str, raws: Sequence[bytes]) -> object:
        """Take transactions from a peer; raises `PeerFault` for rubbish."""
        ...

    def newest_ms(self, ids: Iterable[bytes]) -> int | None:
        """When the newest of these arrived, as far as they are held."""
        ...

    def spread(self, raws: Iterable[bytes]) -> None:
        """Send held transactions to the peers once more."""
        ...

    async def changed(self) -> None:
        """Return after the next arrival of a transaction; the wait begins with the call."""
        ...


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Final blocks of one epoch with their transactions.

    `certificate` finalizes the last one, or the last of the `fillers` after it if it ends the
    epoch.
    """

    blocks: Sequence[tuple[Block, Sequence[bytes]]]
    certificate: Certificate
    fillers: tuple[Header, ...] = ()


class Ledger(Protocol):
    """Executes finalized blocks in height order and keeps them."""

    def execute(
        self,
        block: Block,
        bodies: Sequence[Body],
        certificate: Certificate | None,
        *,
        proof: EpochProof | None = None,
    ) -> bytes:
        """Execute the next block; returns the app hash.

        `certificate` finalizes the block, or a later one of its run. `proof` comes with the block
        that ends an epoch, and is kept for ever (PROTOCOL.md P6).
        """
        ...

    async def next_epoch(self) -> NextEpoch | None:
        """Return what the block executed last decided about the next epoch, if it did.

        Waits until that block is stored and the snapshot after it has its root: nothing is executed
        meanwhile.
        """
        ...

    def epoch_proof(self, epoch: int) -> EpochProof | None:
        """Return how an epoch ended."""
        ...

    async def store(self) -> None:
        """Hand what was executed to storage; waits while storage is behind (back-pressure)."""
        ...

    def stored_block(self, block_hash: bytes) -> tuple[Block, list[bytes]] | None:
        """Return a finalized block with its transactions."""
        ...

    def stored_run(self, from_height: int, *, count_max: int, bytes_max: int) -> StoredRun | None:
        """Return finalized blocks of one epoch from a height on."""
        ...

    @property
    def height(self) -> int:
        """The height of the newest executed block."""
        ...


class Peers(Protocol):
    """Connections to the other validators, by libp2p peer id."""

    def send(self, peer: str, frame: bytes) -> bool:
        """Queue a frame on the vote stream; false if there is no stream or its queue is full."""
        ...

    def broadcast(self, frame: bytes) -> int:
        """Queue a frame to every connected validator; returns to how many."""
        ...

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        """Ask one peer.

        Raises:
            PeerFault: There is no answer. Who is to blame for that has paid already.
        """
        ...

    def connected(self) -> Iterable[str]:
        """The validator peers connected now."""
        ...

    def penalize(self, peer: str, reason: str, penalty: int) -> None:
        """Lower a peer's score."""
        ...


class VoteLog(Protocol):
    """Durable memory of what this validator signed: WAL and signer guard together."""

    def append(self, record: WalRecord) -> None:
        """Buffer a WAL record."""
        ...

    def floor_view(self, epoch: int) -> int:
        """Return the lowest view of an epoch in which the guard allows a vote."""
        ...

    def guard(self, vote: Vote) -> None:
        """Check a vote against the signer guard and buffer it there.

        Raises:
            BrokenInvariant: It contradicts an earlier vote.
        """
        ...

    def sync(self) -> None:
        """Make everything buffered durable; called in a worker thread while others append."""
        ...
