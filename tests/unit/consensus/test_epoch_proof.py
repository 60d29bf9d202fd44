"""The end of an epoch can be proven to whoever knows its set, and nothing else can."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from omninode.consensus.epoch_proof import EpochProof, check_epoch_proof, follow
from omninode.consensus.types import (
    Certificate,
    Header,
    Seal,
    Validator,
    ValidatorSet,
    VoteKind,
    body_root,
    genesis_header,
    vote_digest,
)
from omninode.crypto import ZERO_HASH, SigningKey, keccak256
from omninode.encoding import decode, encode
from omninode.errors import PeerFault

GENESIS = keccak256(b"a network")
KEYS = [SigningKey(keccak256(b"key %d" % n)) for n in range(5)]
replace = msgspec.structs.replace


def a_set(epoch: int, members: tuple[int, ...]) -> ValidatorSet:
    return ValidatorSet(
        epoch,
        tuple(
            Validator(KEYS[i].address, KEYS[i].public_key, b"", f"peer{i}", f"v{i}", 10, 10)
            for i in members
        ),
        seed=keccak256(b"seed %d" % epoch),
    )


SETS = [a_set(0, (0, 1, 2, 3)), a_set(1, (1, 2, 3, 4)), a_set(2, (1, 2, 3, 4))]


def certificate(header: Header, members: tuple[int, ...], signers: int = 3) -> Certificate:
    digest = vote_digest(
        GENESIS, VoteKind.FINALIZE, epoch=header.epoch, view=header.view, block_hash=header.hash
    )
    return Certificate(
        VoteKind.FINALIZE,
        header.epoch,
        header.view,
        header.hash,
        tuple(range(signers)),
        tuple(KEYS[members[i]].sign(digest) for i in range(signers)),
    )


def sealing(epoch: int) -> Header:
    following = SETS[epoch + 1]
    base = genesis_header(GENESIS, time_ms=1, app_hash=ZERO_HASH, valset_hash=SETS[epoch].hash)
    seal = Seal(90, following.hash, following.seed, keccak256(b"state"), keccak256(b"snapshot"))
    return replace(
        base, epoch=epoch, view=100, height=95, parent_hash=keccak256(b"parent"), seal=seal
    )


def filler(parent: Header, views: int = 1) -> Header:
    return replace(
        parent,
        view=parent.view + views,
        height=parent.height + 1,
        parent_hash=parent.hash,
        parent_view=parent.view,
        time_ms=parent.time_ms + 1,
    )


MEMBERS = ((0, 1, 2, 3), (1, 2, 3, 4))


def proof(epoch: int = 0, fillers: int = 0) -> EpochProof:
    headers = [sealing(epoch)]
    for _ in range(fillers):
        headers.append(filler(headers[-1], views=3))
    return EpochProof(
        headers[0],
        tuple(headers[1:]),
        certificate(headers[-1], MEMBERS[epoch]),
        SETS[epoch + 1],
    )


@pytest.mark.parametrize("fillers", [0, 1, 5])
def test_the_end_of_an_epoch_is_proven(fillers: int) -> None:
    made = proof(0, fillers)
    check_epoch_proof(made, SETS[0], GENESIS)
    assert decode(encode(made), EpochProof, size_max=100_000) == made


def test_a_chain_of_proofs_leads_to_the_newest_set() -> None:
    assert follow([proof(0, 2), proof(1)], SETS[0], GENESIS) == SETS[2]
    assert follow([], SETS[0], GENESIS) == SETS[0]
    with pytest.raises(PeerFault, match="another network, epoch or set"):
        follow([proof(1)], SETS[0], GENESIS)
    with pytest.raises(PeerFault, match="another network, epoch or set"):
        check_epoch_proof(proof(), SETS[0], keccak256(b"another network"))


def _with_header(made: EpochProof, **fields: object) -> EpochProof:
    header = replace(made.header, **fields)
    return replace(made, header=header, certificate=certificate(header, MEMBERS[0]))


def _with_filler(made: EpochProof, **fields: object) -> EpochProof:
    changed = replace(made.fillers[-1], **fields)
    fillers = (*made.fillers[:-1], changed)
    return replace(made, fillers=fillers, certificate=certificate(changed, MEMBERS[0]))


WRONG: dict[str, Callable[[EpochProof], EpochProof]] = {
    "no seal": lambda p: _with_header(replace(p, fillers=()), seal=None),
    "another epoch": lambda p: _with_header(replace(p, fillers=()), epoch=1),
    "another set": lambda p: _with_header(replace(p, fillers=()), valset_hash=ZERO_HASH),
    "fillers left out": lambda p: replace(p, fillers=p.fillers[1:]),
    "the certified filler left out": lambda p: replace(p, fillers=p.fillers[:-1]),
    "a filler with a body": lambda p: _with_filler(p, body_root=body_root((ZERO_HASH,))),
    "a filler without the seal": lambda p: _with_filler(p, seal=None),
    "a filler with another seal": lambda p: _with_filler(
        p, seal=replace(p.seal, state_root=ZERO_HASH)
    ),
    "a filler of another epoch": lambda p: _with_filler(p, epoch=1),
    "a filler at another height": lambda p: _with_filler(p, height=200),
    "a filler not above its parent": lambda p: _with_filler(p, view=p.fillers[0].view),
    "a filler with another parent view": lambda p: _with_filler(p, parent_view=1),
    "signed by too few": lambda p: replace(
        p, certificate=certificate(p.fillers[-1], MEMBERS[0], signers=2)
    ),
    "signed by the next set": lambda p: replace(
        p, certificate=certificate(p.fillers[-1], MEMBERS[1])
    ),
    "a notarization": lambda p: replace(
        p, certificate=replace(p.certificate, kind=VoteKind.NOTARIZE)
    ),
    "a certificate of another view": lambda p: replace(
        p, certificate=replace(p.certificate, view=p.certificate.view + 1)
    ),
    "another next set": lambda p: replace(p, validators=a_set(1, (0, 1, 2, 4))),
    "another next seed": lambda p: replace(p, validators=replace(SETS[1], seed=ZERO_HASH)),
    "the next set of a later epoch": lambda p: replace(p, validators=SETS[2]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_anything_else_proves_nothing(wrong: Callable[[EpochProof], EpochProof]) -> None:
    with pytest.raises(PeerFault):
        check_epoch_proof(wrong(proof(0, 2)), SETS[0], GENESIS)
