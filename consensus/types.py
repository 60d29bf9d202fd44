"""What consensus is about: headers, blocks, votes, certificates, proposals, and the validator set.

Rules (PROTOCOL.md)
    T1. A digest binds `genesis_hash`; a vote key signs `vote`, `proposal` and `checkpoint` digests
        and nothing else (P1).
    T2. A header names its transactions through `body_root`, the hash of the ordered transaction ids
        (P2).
    T3. A quorum is strictly more than two thirds of the power: `3 * power > 2 * total`, in
        integers.
    T4. A certificate is a quorum of equal votes; its signers ascend by validator index, each once.
    T5. A block's beacon value follows from its parent's and from its leader's proof alone:
        `R = H(R_parent | H(proof))`; without a proof it stays (consensus.md §4.3).
    T6. `votes_seen` names ancestors by view, ascending, and in a bitmap the validators whose
        notarize or finalize votes for them the leader shows; the first validator is the lowest bit
        of the first byte.

Everything here is data with its hash; the protocol is in `consensus.core`.
"""

from __future__ import annotations

import enum
from functools import cached_property
from typing import Annotated, Final

import msgspec

from omninode.crypto import ZERO_HASH, keccak256, tagged_hash
from omninode.encoding import encode

PROTOCOL_VERSION: Final = 1
BEACON_KEY_BYTES: Final = 48
BEACON_PROOF_BYTES: Final = 96
"""A compressed BLS12-381 public key and signature."""

VALIDATORS_MAX: Final = 1_000
SIGNERS_BYTES_MAX: Final = (VALIDATORS_MAX + 7) // 8
VOTES_SEEN_MAX: Final = 8
"""How many ancestors a block may speak of: later votes earn nothing (consensus.md §3.2)."""

LATE_VOTES_MAX: Final = VALIDATORS_MAX
FIRST_SCORE: Final = 5_000
"""A new validator's score in hundredths of a point."""

FULL_SCORE: Final = 10_000
"""A hundred points."""


Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class VoteKind(enum.StrEnum):
    """The three votes of Simplex."""

    NOTARIZE = "N"
    NULLIFY = "X"
    FINALIZE = "F"


class Seal(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """What an epoch's sealing block adds to its header (P6); its fillers repeat it.

    `cut_height` is E, the block whose state decides the next set; both roots are of that state.
    """

    cut_height: Count
    next_valset_hash: Hash
    next_seed: Hash
    state_root: Hash
    snapshot_root: Hash

    @cached_property
    def hash(self) -> bytes:
        """Identifies what was sealed."""
        return tagged_hash("omni/seal/1", encode(self))


class Header(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A block's header (P2).

    `executed_height` and `app_hash` commit to a finalized ancestor's state (P3); `parent_beacon` is
    the beacon value before this block.
    """

    version: Count
    genesis_hash: Hash
    epoch: Count
    view: Count
    height: Count
    parent_hash: Hash
    parent_view: Count
    time_ms: Count
    proposer: Count
    body_root: Hash
    evidence_root: Hash
    votes_seen_root: Hash
    parent_beacon: Hash
    beacon_proof: Annotated[bytes, msgspec.Meta(max_length=BEACON_PROOF_BYTES)]
    executed_height: Count
    executed_final_view: Count
    app_hash: Hash
    valset_hash: Hash
    seal: Seal | None = None

    @cached_property
    def hash(self) -> bytes:
        """The block hash."""
        return tagged_hash("omni/header/1", encode(self))

    @cached_property
    def beacon(self) -> bytes:
        """The beacon value after this block (T5)."""
        if not self.beacon_proof:
            return self.parent_beacon
        return tagged_hash("omni/beacon/1", self.parent_beacon, keccak256(self.beacon_proof))


class VotesSeen(msgspec.Struct, frozen=True, array_like=True):
    """Who voted for the ancestor of one view, as a later leader shows it (T6)."""

    view: Count
    signers: Annotated[bytes, msgspec.Meta(min_length=1, max_length=SIGNERS_BYTES_MAX)]


class Block(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A header, the ids of its transactions in the leader's order, and the votes it shows.

    The transactions themselves travel and are stored beside it.
    """

    header: Header
    transaction_ids: tuple[Hash, ...]
    votes_seen: Annotated[tuple[VotesSeen, ...], msgspec.Meta(max_length=VOTES_SEEN_MAX)] = ()

    @property
    def hash(self) -> bytes:
        """The block hash (the header's)."""
        return self.header.hash


def body_root(transaction_ids: tuple[bytes, ...]) -> bytes:
    """Hash the ordered transaction ids (T2)."""
    return tagged_hash("omni/body/1", b"".join(transaction_ids))


def votes_seen_root(votes_seen: tuple[VotesSeen, ...]) -> bytes:
    """Hash what a block shows of earlier votes; zero where it shows none (T6)."""
    return tagged_hash("omni/votes-seen/1", encode(votes_seen)) if votes_seen else ZERO_HASH


def beacon_message(header: Header) -> bytes:
    """Return what a block's leader signs with its beacon key (T5)."""
    place = header.epoch.to_bytes(8, "big") + header.view.to_bytes(8, "big")
    return tagged_hash("omni/vrf/1", header.genesis_hash, place, header.parent_beacon)


class Vote(msgspec.Struct, frozen=True, array_like=True):
    """One signed vote; `block_hash` is 32 zero bytes for a nullify vote."""

    kind: VoteKind
    epoch: Count
    view: Count
    block_hash: Hash
    validator: Count
    signature: Signature


def vote_digest(
    genesis_hash: bytes, kind: VoteKind, *, epoch: int, view: int, block_hash: bytes
) -> bytes:
    """Return what a vote key signs for a vote (T1)."""
    place = epoch.to_bytes(8, "big") + view.to_bytes(8, "big")
    return tagged_hash("omni/vote/1", genesis_hash, kind.value.encode(), place, block_hash)


class Certificate(msgspec.Struct, frozen=True, array_like=True):
    """A quorum of equal votes (T4): notarization, nullification or finalization by `kind`."""

    kind: VoteKind
    epoch: Count
    view: Count
    block_hash: Hash
    signers: tuple[Count, ...]
    signatures: tuple[Signature, ...]


class Proposal(msgspec.Struct, frozen=True, array_like=True):
    """A leader's block with its own notarize vote and the parent's notarization.

    `parent_certificate` is `None` only where the parent is the block that the epoch began with (P2:
    no nullifications travel here). `late_votes` show what `votes_seen` says beyond its signers.
    """

    block: Block
    vote: Vote
    parent_certificate: Certificate | None
    late_votes: Annotated[tuple[Vote, ...], msgspec.Meta(max_length=LATE_VOTES_MAX)] = ()


class Validator(msgspec.Struct, frozen=True, array_like=True):
    """One member: `power` in whole stake units, `address` of its vote key, libp2p `peer_id`.

    `weight` is its chance to lead: power times 10,000 plus its score in hundredths of a point, so
    that a score moves it by a factor of two at most (consensus.md §3.4).
    """

    address: Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
    public_key: Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
    beacon_key: Annotated[bytes, msgspec.Meta(max_length=48)]
    peer_id: str
    moniker: str
    power: Count
    weight: Count


class ValidatorSet(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The validators of one epoch in a fixed order; a validator's index is its place here.

    `seed` draws the epoch's leaders: the beacon value at the cut of the epoch before.
    """

    epoch: Count
    validators: tuple[Validator, ...]
    seed: Hash

    @cached_property
    def hash(self) -> bytes:
        """Identifies the set in headers and checkpoints."""
        return tagged_hash("omni/valset/1", encode(self))

    @cached_property
    def powers(self) -> tuple[int, ...]:
        """Power by validator index."""
        return tuple(v.power for v in self.validators)

    @cached_property
    def total_power(self) -> int:
        """The sum of all powers."""
        return sum(self.powers)

    def is_quorum(self, power: int) -> bool:
        """Whether `power` is strictly more than two thirds of the total (T3)."""
        return 3 * power > 2 * self.total_power

    def index_of(self, address: bytes) -> int | None:
        """Return the index of the validator with this vote address, if it is one."""
        for index, validator in enumerate(self.validators):
            if validator.address == address:
                return index
        return None


class NextEpoch(msgspec.Struct, frozen=True, array_like=True):
    """What execution of an epoch's cut decided: the seal to come, and whose set it names."""

    seal: Seal
    validators: ValidatorSet


def genesis_header(
    genesis_hash: bytes, *, time_ms: int, app_hash: bytes, valset_hash: bytes
) -> Header:
    """Return the block at height 0, which nobody voted for and everybody knows."""
    return Header(
        version=PROTOCOL_VERSION,
        genesis_hash=genesis_hash,
        epoch=0,
        view=0,
        height=0,
        parent_hash=ZERO_HASH,
        parent_view=0,
        time_ms=time_ms,
        proposer=0,
        body_root=body_root(()),
        evidence_root=ZERO_HASH,
        votes_seen_root=ZERO_HASH,
        parent_beacon=tagged_hash("omni/beacon/0", genesis_hash),
        beacon_proof=b"",
        executed_height=0,
        executed_final_view=0,
        app_hash=app_hash,
        valset_hash=valset_hash,
    )
