from __future__ import annotations

import pytest

from omninode.errors import PeerFault
from omninode.node.net.hello import Hello, Refusal, decode_hello, encode_hello, refusal_reason

OURS = Hello(version=1, network_tag="ab" * 32, moniker="alice")


def test_what_is_said_is_understood() -> None:
    for message in (OURS, Refusal("no")):
        assert decode_hello(encode_hello(message)) == message


def test_only_the_same_network_and_version_are_accepted() -> None:
    assert refusal_reason(OURS, Hello(1, OURS.network_tag, "bob")) == ""
    assert refusal_reason(OURS, Hello(1, "cd" * 32, "bob")).startswith("network cdcd")
    assert "peer protocol 2" in refusal_reason(OURS, Hello(2, OURS.network_tag, "bob"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"garbage",
        b"\xff" * 2000,
        encode_hello(OURS) + b"\x00",
        encode_hello(Hello(1, "ab", "x" * 65)),
        encode_hello(Hello(1, "ab", "red \x1b[31m")),
        b"\x91\x07",
        b"\x94\x00\xcc\x01\xa2ab\xa1x",
    ],
    ids=["empty", "nil", "text", "long", "rest", "name", "escape", "tag", "not-canonical"],
)
def test_what_is_no_hello_costs_the_peer(data: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        decode_hello(data)
    assert caught.value.reason == "bad_hello"


def test_a_long_refusal_is_cut() -> None:
    message = decode_hello(encode_hello(Refusal("n" * 10_000)))
    assert isinstance(message, Refusal)
    assert len(message.reason) == 200
