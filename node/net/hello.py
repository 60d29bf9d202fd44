"""The first words on a connection: which network, which version, what name. No input or output.

Rules
    H1. The side that dialled opens `/omninode/hello/1` and sends one hello; the other side answers
        with its own hello or a refusal. Nothing else of ours is served on the connection before.
    H2. Both sides judge the other's hello by the same function, so they agree on the outcome.
    H3. A refusal carries a reason for people; it is no fault: the peer is on another network.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.net.limits import (
    HELLO_BYTES_MAX,
    MONIKER_CHARACTERS_MAX,
    PENALTY_MALFORMED,
    REFUSAL_CHARACTERS_MAX,
)

HELLO_PROTOCOL: Final = "/omninode/hello/1"
HELLO_VERSION: Final = 1


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True):
    """Who speaks.

    Attributes:
        version: Version of the peer protocols as a whole.
        network_tag: Hex of the genesis hash.
        moniker: A name for people.
    """

    version: int
    network_tag: str
    moniker: str


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Why the speaker will not talk to this peer."""

    reason: str


def refusal_reason(ours: Hello, theirs: Hello) -> str:
    """Return why two nodes can not talk, or an empty text (H2)."""
    if theirs.version != ours.version:
        return f"peer protocol {theirs.version}, this node speaks {ours.version}"
    if theirs.network_tag != ours.network_tag:
        return f"network {theirs.network_tag[:16]}…, this node is on {ours.network_tag[:16]}…"
    return ""


def encode_hello(message: Hello | Refusal) -> bytes:
    """Encode canonically; an overlong refusal is cut."""
    if isinstance(message, Refusal):
        message = Refusal(message.reason[:REFUSAL_CHARACTERS_MAX])
    return encode(message)


def decode_hello(data: bytes) -> Hello | Refusal:
    """Decode and check what a peer said.

    Raises:
        PeerFault: Not a hello or a refusal, or a name that is too long or can not be shown.
    """
    try:
        message: Hello | Refusal = decode(data, Hello | Refusal, size_max=HELLO_BYTES_MAX)  # type: ignore[arg-type]
    except Malformed as error:
        raise PeerFault("bad_hello", str(error), penalty=PENALTY_MALFORMED) from None
    text, most = (
        (message.reason, REFUSAL_CHARACTERS_MAX)
        if isinstance(message, Refusal)
        else (message.moniker, MONIKER_CHARACTERS_MAX)
    )
    # What a peer calls itself ends up on a terminal: no control characters.
    if len(text) > most or not text.isprintable():
        raise PeerFault("bad_hello", "text too long or not printable", penalty=PENALTY_MALFORMED)
    return message
