from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.errors import PeerFault
from omninode.node.net.framing import FrameDecoder, VarintFrameDecoder, encode_frame


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0), max_size=20))
def test_frames_come_out_whole_however_the_bytes_are_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(encode_frame(frame) for frame in frames)
    decoder = FrameDecoder(300)
    assert [frame for piece in _pieces(data, cuts) for frame in decoder.feed(piece)] == frames
    assert decoder.pending_bytes == 0


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0), max_size=20))
def test_varint_frames_come_out_whole_however_the_bytes_are_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(_uvarint(len(frame)) + frame for frame in frames)
    decoder = VarintFrameDecoder(300)
    assert [frame for piece in _pieces(data, cuts) for frame in decoder.feed(piece)] == frames


def test_a_length_of_two_gigabytes_is_refused_before_anything_is_kept() -> None:
    decoder = FrameDecoder(1 << 20)
    with pytest.raises(PeerFault) as caught:
        decoder.feed((1 << 31).to_bytes(4, "big"))
    assert caught.value.reason == "oversized_frame"
    assert decoder.pending_bytes == 4


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    assert FrameDecoder(10).feed(encode_frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(PeerFault):
        FrameDecoder(10).feed(encode_frame(b"x" * 11))


def test_an_endless_varint_is_refused() -> None:
    with pytest.raises(PeerFault) as caught:
        VarintFrameDecoder(100).feed(b"\xff" * 5)
    assert caught.value.reason == "bad_length"


def test_a_counted_decoder_leaves_the_rest_alone() -> None:
    decoder = FrameDecoder(10, frames_max=1)
    assert decoder.feed(encode_frame(b"a") + b"\xff\xff\xff\xffrest") == [b"a"]
    assert decoder.take_rest() == b"\xff\xff\xff\xffrest"
    assert decoder.pending_bytes == 0
