from __future__ import annotations

import pytest

from omninode.errors import PeerFault
from omninode.node.net.negotiation import OpeningAnswer, ProtocolRefused, opening

HEADER = b"\x13/multistream/1.0.0\n"
NAME = b"\x05/a/1\n"


def test_the_opening_names_header_and_protocol() -> None:
    assert opening("/a/1") == HEADER + b"\x05/a/1\n"


@pytest.mark.parametrize("size", range(1, 30))
def test_what_follows_the_agreement_comes_through_however_it_is_cut(size: int) -> None:
    answer = OpeningAnswer("/a/1")
    data = HEADER + NAME + b"\xff\xff\xff\xffpayload"
    rest = b"".join(answer.feed(data[i : i + size]) for i in range(0, len(data), size))
    assert rest == b"\xff\xff\xff\xffpayload"
    assert answer.is_agreed


def test_not_available_is_a_refusal() -> None:
    answer = OpeningAnswer("/a/1")
    with pytest.raises(ProtocolRefused):
        answer.feed(HEADER + b"\x03na\n")


@pytest.mark.parametrize("data", [b"\x05hello", HEADER + HEADER, b"\xff" * 8, b"\x00"])
def test_any_other_answer_costs_the_peer(data: bytes) -> None:
    answer = OpeningAnswer("/a/1")
    with pytest.raises(PeerFault):
        answer.feed(data)
