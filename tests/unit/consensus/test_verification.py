"""Signatures of votes, proposals and certificates, rule by rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from omninode.bls import BeaconKey
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteKind,
    VotesSeen,
    beacon_message,
    body_root,
    genesis_header,
    vote_digest,
    votes_seen_root,
)
from omninode.consensus.verification import (
    FORGERY_PENALTY,
    check_beacon,
    check_certificate,
    check_proposal_shape,
    check_vote,
    is_whole,
)
from omninode.crypto import GROUP_ORDER, ZERO_HASH, SigningKey, keccak256
from omninode.errors import PeerFault

GENESIS = keccak256(b"a network")
KEYS = [SigningKey(keccak256(b"key%d" % n)) for n in range(4)]
SET = ValidatorSet(
    0,
    tuple(
        Validator(key.address, key.public_key, b"", f"peer{n}", f"node{n}", power, power)
        for n, (key, power) in enumerate(zip(KEYS, (40, 30, 20, 10), strict=True))
    ),
    seed=GENESIS,
)
BLOCK = keccak256(b"a block")
NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


def vote(
    who: int = 0,
    *,
    kind: VoteKind = NOTARIZE,
    view: int = 5,
    block_hash: bytes = BLOCK,
    genesis: bytes = GENESIS,
    key: int | None = None,
    epoch: int = 0,
) -> Vote:
    digest = vote_digest(genesis, kind, epoch=epoch, view=view, block_hash=block_hash)
    signature = KEYS[who if key is None else key].sign(digest)
    return Vote(kind, epoch, view, block_hash, who, signature)


def certificate(*signers: int, **fields: Any) -> Certificate:
    votes = [vote(who, **fields) for who in signers]
    first = votes[0]
    return Certificate(
        first.kind,
        first.epoch,
        first.view,
        first.block_hash,
        signers,
        tuple(v.signature for v in votes),
    )


def high_s(signature: bytes) -> bytes:
    """Return the other signature of the same key over the same digest."""
    s = GROUP_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((27 + (28 - signature[64]),))


def refusal(check: Callable[..., None], *arguments: object) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        check(*arguments)
    return caught.value


# Votes (V1).


@pytest.mark.parametrize("who", range(4))
@pytest.mark.parametrize(
    ("kind", "block_hash"), [(NOTARIZE, BLOCK), (FINALIZE, BLOCK), (NULLIFY, ZERO_HASH)]
)
def test_a_vote_of_each_kind_is_good(who: int, kind: VoteKind, block_hash: bytes) -> None:
    check_vote(vote(who, kind=kind, block_hash=block_hash), SET, GENESIS)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (vote(1, key=2), "bad_signature"),
        (replace(vote(1), validator=2), "bad_signature"),
        (replace(vote(), view=6), "bad_signature"),
        (replace(vote(), block_hash=keccak256(b"another")), "bad_signature"),
        (replace(vote(), kind=FINALIZE), "bad_signature"),
        (vote(genesis=keccak256(b"another network")), "bad_signature"),
        (replace(vote(), signature=high_s(vote().signature)), "bad_signature"),
        (replace(vote(), signature=vote().signature[:64] + b"\0"), "bad_signature"),
        (replace(vote(), signature=vote().signature[:64] + b"\x1d"), "bad_signature"),
        (replace(vote(), signature=vote().signature[:64] + b"\xff"), "bad_signature"),
        (replace(vote(), signature=bytes(64) + b"\x1b"), "bad_signature"),
        (replace(vote(), signature=b"\xff" * 64 + b"\x1b"), "bad_signature"),
        (replace(vote(), signature=b"\xff" * 32 + bytes(32) + b"\x1c"), "bad_signature"),
        (replace(vote(), signature=bytes(32) + b"\x01" * 32 + b"\x1c"), "bad_signature"),
        (vote(epoch=1), "unknown_validator"),
        (replace(vote(), epoch=2**63 - 1), "unknown_validator"),
        (replace(vote(), validator=4), "unknown_validator"),
        (replace(vote(), validator=2**63 - 1), "unknown_validator"),
        (vote(kind=NULLIFY, block_hash=BLOCK), "bad_vote"),
        (vote(kind=NOTARIZE, block_hash=ZERO_HASH), "bad_vote"),
        (vote(kind=FINALIZE, block_hash=ZERO_HASH), "bad_vote"),
    ],
)
def test_a_bad_vote_is_its_senders_fault(bad: Vote, reason: str) -> None:
    fault = refusal(check_vote, bad, SET, GENESIS)
    assert fault.reason == reason
    if reason == "bad_signature":
        assert fault.penalty == FORGERY_PENALTY


def test_the_high_s_twin_is_a_signature_of_the_same_key() -> None:
    # Otherwise the case above would test nothing: Ethereum's rule refuses it, not the mathematics.
    import coincurve

    signed = vote()
    digest = vote_digest(GENESIS, NOTARIZE, epoch=0, view=5, block_hash=BLOCK)
    twin = high_s(signed.signature)
    public_key = coincurve.PublicKey.from_signature_and_message(
        twin[:64] + bytes((twin[64] - 27,)), digest, hasher=None
    )
    assert public_key.format(compressed=True) == KEYS[0].public_key


# Certificates (V2).


@pytest.mark.parametrize("signers", [(0, 1), (0, 1, 2, 3), (0, 2, 3), (0, 1, 3)])
@pytest.mark.parametrize(
    ("kind", "block_hash"), [(NOTARIZE, BLOCK), (FINALIZE, BLOCK), (NULLIFY, ZERO_HASH)]
)
def test_a_quorum_of_power_is_good(
    signers: tuple[int, ...], kind: VoteKind, block_hash: bytes
) -> None:
    check_certificate(certificate(*signers, kind=kind, block_hash=block_hash), SET, GENESIS)


def test_exactly_two_thirds_is_no_quorum() -> None:
    equal = replace(SET, validators=tuple(replace(v, power=1) for v in SET.validators[:3]))
    assert refusal(check_certificate, certificate(0, 1), equal, GENESIS).penalty == FORGERY_PENALTY
    check_certificate(certificate(0, 1, 2), equal, GENESIS)


GOOD = certificate(0, 1, 2)


@pytest.mark.parametrize(
    "bad",
    [
        certificate(1, 2, 3),
        certificate(0),
        replace(GOOD, signers=(), signatures=()),
        replace(GOOD, signers=(0, 0, 1), signatures=(GOOD.signatures[0], *GOOD.signatures[:2])),
        replace(GOOD, signers=(1, 0, 2), signatures=tuple(GOOD.signatures[i] for i in (1, 0, 2))),
        replace(GOOD, signers=(0, 1, 4)),
        replace(GOOD, signers=(0, 1, 2**63 - 1)),
        replace(GOOD, signers=(0, 1)),
        replace(GOOD, signatures=GOOD.signatures[:2]),
        replace(GOOD, signers=(0, 1, 3)),
        replace(GOOD, signatures=(*GOOD.signatures[:2], high_s(GOOD.signatures[2]))),
        replace(GOOD, signatures=(*GOOD.signatures[:2], bytes(65))),
        replace(GOOD, view=6),
        replace(GOOD, kind=FINALIZE),
        replace(GOOD, block_hash=keccak256(b"another")),
        replace(GOOD, epoch=1),
        certificate(0, 1, epoch=1),
        certificate(0, 1, genesis=keccak256(b"another network")),
        certificate(0, 1, kind=NULLIFY, block_hash=BLOCK),
        certificate(0, 1, kind=FINALIZE, block_hash=ZERO_HASH),
    ],
)
def test_a_bad_certificate_is_its_senders_fault(bad: Certificate) -> None:
    refusal(check_certificate, bad, SET, GENESIS)


# Proposals (V3).

PARENT = genesis_header(GENESIS, time_ms=1, app_hash=ZERO_HASH, valset_hash=SET.hash)
IDS = (keccak256(b"one"), keccak256(b"two"))


def proposal(**changes: Any) -> Proposal:
    values: dict[str, Any] = {
        "view": 7,
        "height": 1,
        "parent_hash": PARENT.hash,
        "parent_view": 5,
        "time_ms": 2,
        "proposer": 1,
        "body_root": body_root(IDS),
    }
    header: Header = replace(PARENT, **(values | changes))
    own = vote(header.proposer, view=header.view, block_hash=header.hash)
    return Proposal(Block(header, IDS), own, certificate(0, 1, view=5, block_hash=PARENT.hash))


def test_a_proposal_whose_parts_belong_together_is_good() -> None:
    good = proposal()
    check_proposal_shape(good)
    check_vote(good.vote, SET, GENESIS)
    check_proposal_shape(replace(good, parent_certificate=None))
    final = certificate(0, 1, view=5, block_hash=PARENT.hash, kind=FINALIZE)
    check_proposal_shape(replace(good, parent_certificate=final))


@pytest.mark.parametrize(
    "bad",
    [
        replace(proposal(), vote=vote(2, view=7, block_hash=proposal().block.hash)),
        replace(proposal(), vote=replace(proposal().vote, kind=FINALIZE)),
        replace(proposal(), vote=replace(proposal().vote, view=8)),
        replace(proposal(), vote=replace(proposal().vote, epoch=1)),
        replace(proposal(), vote=replace(proposal().vote, block_hash=BLOCK)),
        replace(proposal(), vote=vote(1, view=7, kind=NULLIFY, block_hash=ZERO_HASH)),
        replace(proposal(), parent_certificate=certificate(0, 1, view=5, block_hash=BLOCK)),
        replace(proposal(), parent_certificate=certificate(0, 1, view=4, block_hash=PARENT.hash)),
        replace(
            proposal(),
            parent_certificate=certificate(0, 1, view=5, kind=NULLIFY, block_hash=ZERO_HASH),
        ),
        replace(proposal(), block=Block(proposal().block.header, IDS[::-1])),
        replace(proposal(), block=Block(proposal().block.header, ())),
        replace(proposal(), block=Block(proposal().block.header, (*IDS, keccak256(b"three")))),
    ],
)
def test_a_proposal_whose_parts_do_not_is_its_senders_fault(bad: Proposal) -> None:
    assert refusal(check_proposal_shape, bad).reason == "bad_proposal"


def header_of(index: int, validators: ValidatorSet, **fields: Any) -> Header:
    genesis = genesis_header(GENESIS, time_ms=1, app_hash=ZERO_HASH, valset_hash=validators.hash)
    return replace(genesis, view=7, proposer=index, **fields)


def test_a_beacon_proof_is_its_leaders() -> None:
    keys = [BeaconKey(bytes(31) + bytes((n + 1,))) for n in range(2)]
    members = [
        replace(member, beacon_key=key.public_key)
        for member, key in zip(SET.validators, keys, strict=False)
    ]
    mixed = ValidatorSet(0, (*members, *SET.validators[2:]), seed=GENESIS)
    header = header_of(0, mixed)
    proof = keys[0].sign(beacon_message(header))
    check_beacon(replace(header, beacon_proof=proof), mixed)
    check_beacon(header_of(2, mixed), mixed)
    wrong = [
        header,
        replace(header, beacon_proof=proof[:-1]),
        replace(header, beacon_proof=keys[1].sign(beacon_message(header))),
        replace(header, beacon_proof=proof, view=8),
        replace(header, beacon_proof=proof, parent_beacon=BLOCK),
        replace(header, beacon_proof=proof, proposer=1),
        header_of(2, mixed, beacon_proof=proof),
    ]
    for bad in wrong:
        with pytest.raises(PeerFault, match="beacon"):
            check_beacon(bad, mixed)


def test_a_block_is_what_its_header_names() -> None:
    seen = (VotesSeen(3, b"\1"),)
    header = header_of(0, SET, body_root=body_root((BLOCK,)), votes_seen_root=votes_seen_root(seen))
    assert is_whole(Block(header, (BLOCK,), seen))
    for other in (
        Block(header, (), seen),
        Block(header, (BLOCK,), ()),
        Block(header, (BLOCK,), (VotesSeen(3, b"\2"),)),
    ):
        assert not is_whole(other)
