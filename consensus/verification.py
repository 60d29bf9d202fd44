"""Checks signatures of votes, proposals and certificates against a validator set; pure.

Rules
    V1. A vote is signed over `vote_digest` by the vote key of the validator it names.
    V2. A certificate's signers ascend, each is a member, and together they are a quorum (T4).
        A nullify vote or certificate names no block, every other one names one.
    V3. A proposal's vote notarizes its own block in its own view and is signed by the block's
        proposer; the parent's certificate notarizes or finalizes the block's parent. The header
        names the transactions and the votes that the block shows.
    V4. A beacon proof is the signature of the proposer's beacon key, if the set has one of it; else
        there is none (consensus.md §4.3).
"""

from __future__ import annotations

from itertools import pairwise

from omninode import bls
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    Proposal,
    ValidatorSet,
    Vote,
    VoteKind,
    beacon_message,
    body_root,
    vote_digest,
    votes_seen_root,
)
from omninode.crypto import ZERO_HASH, recover_address
from omninode.errors import Malformed, PeerFault

FORGERY_PENALTY = 100
"""A wrong signature is never an accident of the network: one is enough to disconnect."""


def check_vote(vote: Vote, validators: ValidatorSet, genesis_hash: bytes) -> None:
    """Check one vote (V1).

    Raises:
        PeerFault: Unknown validator, wrong epoch, a nullification that names a block, or a wrong
        signature.
    """
    if vote.epoch != validators.epoch or vote.validator >= len(validators.validators):
        raise PeerFault("unknown_validator", f"validator {vote.validator} of epoch {vote.epoch}")
    if not _names_rightly(vote):
        raise PeerFault("bad_vote", "a nullify vote names no block, every other vote names one")
    digest = vote_digest(
        genesis_hash, vote.kind, epoch=vote.epoch, view=vote.view, block_hash=vote.block_hash
    )
    _check_signature(digest, vote.signature, validators.validators[vote.validator].address)


def check_certificate(
    certificate: Certificate, validators: ValidatorSet, genesis_hash: bytes
) -> None:
    """Check a certificate (V2).

    Raises:
        PeerFault: Wrong epoch, no quorum, signers out of order, a nullification that names a block,
        or a wrong signature.
    """
    signers = certificate.signers
    if certificate.epoch != validators.epoch or len(signers) != len(certificate.signatures):
        raise PeerFault("bad_certificate", "wrong epoch or number of signatures")
    if not _names_rightly(certificate):
        raise PeerFault("bad_certificate", "a nullification names no block, all others name one")
    if any(a >= b for a, b in pairwise(signers)) or (
        signers and signers[-1] >= len(validators.validators)
    ):
        raise PeerFault("bad_certificate", "signers are unknown or out of order")
    if not validators.is_quorum(sum(validators.powers[i] for i in signers)):
        raise PeerFault("bad_certificate", "less than a quorum", penalty=FORGERY_PENALTY)
    digest = vote_digest(
        genesis_hash,
        certificate.kind,
        epoch=certificate.epoch,
        view=certificate.view,
        block_hash=certificate.block_hash,
    )
    for index, signature in zip(signers, certificate.signatures, strict=True):
        _check_signature(digest, signature, validators.validators[index].address)


def check_proposal_shape(proposal: Proposal) -> None:
    """Check everything of a proposal that needs no signature (V3).

    Raises:
        PeerFault: The parts do not belong together.
    """
    header, vote = proposal.block.header, proposal.vote
    if (
        vote.kind is not VoteKind.NOTARIZE
        or vote.validator != header.proposer
        or (vote.epoch, vote.view, vote.block_hash) != (header.epoch, header.view, header.hash)
    ):
        raise PeerFault("bad_proposal", "the vote is not the proposer's for this block")
    parent = proposal.parent_certificate
    if parent is not None and (
        parent.kind is VoteKind.NULLIFY
        or (parent.block_hash, parent.view) != (header.parent_hash, header.parent_view)
    ):
        raise PeerFault("bad_proposal", "the certificate is not the parent's")
    if not is_whole(proposal.block):
        raise PeerFault("bad_proposal", "the roots do not match the block's contents")


def is_whole(block: Block) -> bool:
    """Whether a block's contents are those that its header names (V3)."""
    header = block.header
    return header.body_root == body_root(
        block.transaction_ids
    ) and header.votes_seen_root == votes_seen_root(block.votes_seen)


def check_beacon(header: Header, validators: ValidatorSet) -> None:
    """Check the beacon proof of a block whose proposer leads its view (V4).

    Raises:
        PeerFault: It is missing, wrong, or there should be none.
    """
    key, proof = validators.validators[header.proposer].beacon_key, header.beacon_proof
    if not key and not proof:
        return
    if not key or not bls.verify(key, beacon_message(header), proof):
        raise PeerFault(
            "bad_beacon", "the beacon proof is not the leader's", penalty=FORGERY_PENALTY
        )


def _names_rightly(item: Vote | Certificate) -> bool:
    return (item.kind is VoteKind.NULLIFY) == (item.block_hash == ZERO_HASH)


def _check_signature(digest: bytes, signature: bytes, address: bytes) -> None:
    try:
        signer = recover_address(digest, signature)
    except Malformed as error:
        raise PeerFault("bad_signature", str(error), penalty=FORGERY_PENALTY) from None
    if signer != address:
        raise PeerFault("bad_signature", "signed by another key", penalty=FORGERY_PENALTY)
