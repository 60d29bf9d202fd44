"""Opening a stream for one protocol without waiting for the peer to agree. No libp2p here.

multistream-select lets the opener send its header, the protocol's name and the first data at once;
the answer is looked at when it comes. That saves two round trips on every request.
"""

from __future__ import annotations

from typing import Final

from omninode.errors import PeerFault
from omninode.node.net.framing import VarintFrameDecoder
from omninode.node.net.limits import NEGOTIATION_BYTES_MAX, PENALTY_MALFORMED

_HEADER: Final = b"/multistream/1.0.0\n"
_NOT_AVAILABLE: Final = b"na\n"


class ProtocolRefused(Exception):
    """The peer does not speak the protocol."""


def opening(protocol: str) -> bytes:
    """Return the bytes that open a stream for `protocol`."""
    name = protocol.encode() + b"\n"
    return bytes([len(_HEADER)]) + _HEADER + bytes([len(name)]) + name


class OpeningAnswer:
    """Read the peer's answer to `opening`, and give back what follows it.

    Args:
        protocol: The protocol asked for.
    """

    def __init__(self, protocol: str) -> None:
        self._expected = [_HEADER, protocol.encode() + b"\n"]
        self._decoder = VarintFrameDecoder(NEGOTIATION_BYTES_MAX, frames_max=2)

    @property
    def is_agreed(self) -> bool:
        """Whether the peer has agreed."""
        return not self._expected

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the stream; return those that belong to the protocol itself.

        Raises:
            ProtocolRefused: The peer does not speak it.
            PeerFault: The answer is no multistream answer.
        """
        if not self._expected:
            return data
        for message in self._decoder.feed(data):
            if message == _NOT_AVAILABLE:
                raise ProtocolRefused
            if message != self._expected.pop(0):
                raise PeerFault("bad_negotiation", repr(message[:40]), penalty=PENALTY_MALFORMED)
        return b"" if self._expected else self._decoder.take_rest()
