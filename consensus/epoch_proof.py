"""How an epoch ended, told so that whoever knows its validators can check it.

Rules (PROTOCOL.md P6)
    E1. The proof's header seals the epoch. Each filler is the child of the header before it and
        repeats the seal; a finalization of the last one finalizes the sealing block.
    E2. The finalization is a quorum of the epoch's own set.
    E3. The seal names the next set by its hash and its seed; the set's epoch is the next one.

So a chain of proofs leads from a set that one trusts (of genesis, or of a checkpoint) to today's
set and to a state root in each epoch, without a block between them (consensus.md §1.6).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from omninode.consensus.types import (
    Certificate,
    Header,
    Seal,
    ValidatorSet,
    VoteKind,
    body_root,
)
from omninode.consensus.verification import check_certificate
from omninode.errors import PeerFault

FILLERS_MAX: Final = 4_096
"""Fillers of one proof. A network that needs more of them to finalize an epoch's end can not prove
it, neither to light clients nor to nodes that were away."""

_NO_BODY: Final = body_root(())


class EpochProof(msgspec.Struct, frozen=True, array_like=True):
    """The end of one epoch and the set of the next (E1, E3).

    `fillers` lead from the sealing block's child to the certified block; there are none where the
    sealing block itself is certified.
    """

    header: Header
    fillers: Annotated[tuple[Header, ...], msgspec.Meta(max_length=FILLERS_MAX)]
    certificate: Certificate
    validators: ValidatorSet

    @property
    def epoch(self) -> int:
        """The epoch that ended."""
        return self.header.epoch

    @property
    def seal(self) -> Seal:
        """What the sealing block says; checked proofs have one.

        Raises:
            PeerFault: It is not a sealing block.
        """
        if self.header.seal is None:
            raise _wrong("the header seals nothing")
        return self.header.seal


def check_epoch_proof(proof: EpochProof, validators: ValidatorSet, genesis_hash: bytes) -> None:
    """Check a proof against the set of the epoch that it ends.

    Raises:
        PeerFault: It proves nothing.
    """
    header, seal = proof.header, proof.seal
    if (header.genesis_hash, header.epoch, header.valset_hash) != (
        genesis_hash,
        validators.epoch,
        validators.hash,
    ):
        raise _wrong("another network, epoch or set")
    last = header
    for filler in proof.fillers:
        if not is_filler(filler, last):
            raise _wrong("a header does not follow the sealing block")
        last = filler
    certificate = proof.certificate
    if (certificate.kind, certificate.view, certificate.block_hash) != (
        VoteKind.FINALIZE,
        last.view,
        last.hash,
    ):
        raise _wrong("the certificate does not finalize the end of the epoch")
    check_certificate(certificate, validators, genesis_hash)
    following = proof.validators
    if (following.epoch, following.hash, following.seed) != (
        validators.epoch + 1,
        seal.next_valset_hash,
        seal.next_seed,
    ):
        raise _wrong("the next set is not the sealed one")


def is_filler(header: Header, parent: Header) -> bool:
    """Whether a header may follow a sealing block or one of its fillers (E1)."""
    return (
        header.seal is not None
        and header.seal == parent.seal
        and (header.epoch, header.genesis_hash, header.valset_hash)
        == (parent.epoch, parent.genesis_hash, parent.valset_hash)
        and (header.parent_hash, header.parent_view) == (parent.hash, parent.view)
        and header.height == parent.height + 1
        and header.view > parent.view
        and header.body_root == _NO_BODY
    )


def follow(
    proofs: Iterable[EpochProof], validators: ValidatorSet, genesis_hash: bytes
) -> ValidatorSet:
    """Follow proofs of one epoch after the other from a trusted set; return the newest set.

    Raises:
        PeerFault: One of them proves nothing.
    """
    for proof in proofs:
        check_epoch_proof(proof, validators, genesis_hash)
        validators = proof.validators
    return validators


def _wrong(why: str) -> PeerFault:
    return PeerFault("bad_epoch_proof", why)
