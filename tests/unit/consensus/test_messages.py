"""Frames of the vote plane: what decodes, and that nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.messages import (
    CertificateMessage,
    EpochMessage,
    MemoryAnswer,
    MemoryRequest,
    Message,
    NeedMessage,
    PendingMessage,
    ProposalMessage,
    VoteMessage,
)
from omninode.consensus.types import (
    Block,
    Certificate,
    Proposal,
    ValidatorSet,
    Vote,
    VoteKind,
    VotesSeen,
    genesis_header,
)
from omninode.crypto import ZERO_HASH
from omninode.encoding import decode, encode
from omninode.errors import Malformed

SIZE_MAX = 4 << 20
SIGNATURE = bytes(65)
VOTE = Vote(VoteKind.NOTARIZE, 0, 1, b"\1" * 32, 0, SIGNATURE)
CERTIFICATE = Certificate(VoteKind.FINALIZE, 0, 1, b"\1" * 32, (0, 1), (SIGNATURE, SIGNATURE))
HEADER = genesis_header(b"\2" * 32, time_ms=1, app_hash=ZERO_HASH, valset_hash=ZERO_HASH)
PROPOSAL = Proposal(Block(HEADER, (b"\3" * 32,)), VOTE, CERTIFICATE)
MESSAGES = [
    VoteMessage(VOTE),
    CertificateMessage(CERTIFICATE),
    ProposalMessage(PROPOSAL),
    ProposalMessage(Proposal(Block(HEADER, ()), VOTE, None)),
    ProposalMessage(Proposal(Block(HEADER, (), (VotesSeen(3, b"\1"),)), VOTE, None, (VOTE,))),
    NeedMessage(0, 2**63 - 1, 7),
    MemoryRequest(7),
    MemoryAnswer(5, (VOTE,), 7),
    MemoryAnswer(5, ()),
    EpochMessage(EpochProof(HEADER, (HEADER,), CERTIFICATE, ValidatorSet(1, (), ZERO_HASH))),
    PendingMessage((b"raw", b"")),
]

counts = st.integers(0, 2**63 - 1)
hashes = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=65, max_size=65)
votes = st.builds(Vote, st.sampled_from(VoteKind), counts, counts, hashes, counts, signatures)
certificates = st.builds(
    Certificate,
    st.sampled_from(VoteKind),
    counts,
    counts,
    hashes,
    st.lists(counts, max_size=5).map(tuple),
    st.lists(signatures, max_size=5).map(tuple),
)
messages = st.one_of(
    st.builds(VoteMessage, votes),
    st.builds(CertificateMessage, certificates),
    st.builds(NeedMessage, counts, counts, counts),
    st.builds(MemoryRequest, counts),
    st.builds(MemoryAnswer, counts, st.lists(votes, max_size=3).map(tuple), counts),
    st.builds(PendingMessage, st.lists(st.binary(max_size=9), max_size=5).map(tuple)),
)


def read(frame: bytes) -> Message:
    message: Message = decode(frame, Message, size_max=SIZE_MAX)  # type: ignore[arg-type]
    return message


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert read(encode(message)) == message


@given(message=messages)
def test_any_message_comes_back_as_it_was(message: Message) -> None:
    assert read(encode(message)) == message


@given(message=messages, data=st.data())
def test_a_changed_frame_is_another_message_or_none(message: Message, data: Any) -> None:
    frame = bytearray(encode(message))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    try:
        other = read(bytes(frame))
    except Malformed:
        return
    assert other != message
    assert encode(other) == bytes(frame)


@given(frame=st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(frame: bytes) -> None:
    try:
        message = read(frame)
    except Malformed:
        return
    assert encode(message) == frame


def _vote(**changes: Any) -> list[Any]:
    values: dict[str, Any] = {
        "kind": "N",
        "epoch": 0,
        "view": 1,
        "block_hash": b"\1" * 32,
        "validator": 0,
        "signature": SIGNATURE,
    }
    return ["vote", list((values | changes).values())]


@pytest.mark.parametrize(
    "value",
    [
        _vote(kind="Y"),
        _vote(kind="n"),
        _vote(kind=1),
        _vote(epoch=-1),
        _vote(view=2**63),
        _vote(view=1.0),
        _vote(view=True),
        _vote(view=None),
        _vote(block_hash=b"\1" * 31),
        _vote(block_hash=b"\1" * 33),
        _vote(block_hash="1" * 32),
        _vote(signature=bytes(64)),
        _vote(signature=bytes(66)),
        _vote(extra=1),
        ["vote"],
        ["vote", None],
        ["vote", _vote()[1][:-1]],
        ["votes", _vote()[1]],
        ["need", 1],
        ["need", -1, 1],
        ["need", 1, 2],
        ["need", 1, 2, 3, 4],
        ["memory", 1],
        ["memory?"],
        ["memory?", 1, 2],
        ["pending", [1]],
        ["pending", ["text"]],
        ["certificate", ["N", 0, 1, b"\1" * 32, [0], [bytes(3)]]],
        ["certificate", ["N", 0, 1, b"\1" * 32, [-1], [SIGNATURE]]],
        {"vote": 1},
        [],
        "vote",
        1,
        None,
    ],
)
def test_what_is_no_message_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        read(encode(value))


@pytest.mark.parametrize("message", MESSAGES)
def test_bytes_before_behind_and_missing_are_malformed(message: Message) -> None:
    frame = encode(message)
    for bad in (frame + b"\0", frame + frame, frame[:-1], frame[1:], b""):
        with pytest.raises(Malformed):
            read(bad)


def test_other_encodings_of_the_same_message_are_malformed() -> None:
    frame = encode(NeedMessage(1, 2))
    assert frame == b"\x94\xa4need\x01\x02\x00"
    for other in (
        b"\x93\xa4need\x01\x02",  # an epoch left out
        b"\x94\xa4need\xcc\x01\x02\x00",  # 1 in two bytes
        b"\x94\xd9\x04need\x01\x02\x00",  # a long text header
        b"\xdc\x00\x04\xa4need\x01\x02\x00",  # a long array header
        b"\x94\xc4\x04need\x01\x02\x00",  # bytes for text
        b"\x94\xa4need\xd3\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00",  # a signed integer
    ):
        with pytest.raises(Malformed):
            read(other)


def test_a_long_frame_is_not_even_looked_at() -> None:
    with pytest.raises(Malformed, match="at most"):
        read(bytes(SIZE_MAX + 1))


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\xdd\xff\xff\xff\xff", b"\x81", b"\xc9\xff\xff\xff\xff\1"]
)
def test_nesting_and_false_lengths_are_malformed(opening: bytes) -> None:
    for frame in (
        opening * 100_000,
        b"\x92\xa7pending" + opening,
        b"\x92\xa7pending" + opening * 9,
    ):
        with pytest.raises(Malformed):
            read(frame)
