"""BLS signatures on BLS12-381 for the beacon: one key and one message have exactly one signature.

Rules
    B1. Keys are 48 bytes (G1), signatures 96 bytes (G2), both compressed; the scheme is the IETF
        draft's message augmentation, `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_AUG_`.
    B2. Whatever a stranger sends is answered with a bool: wrong lengths, points off the curve or
        outside of the subgroup, the point at infinity and bytes that are not the canonical
        encoding of their point are refused. So a proof can not be written in two ways, and nobody
        chooses between two values of the beacon.
    B3. A key counts only with a proof that its owner has the secret: without it, a key made from
        other people's keys could be claimed. The proof is a signature over a tagged hash of the
        key, which no block's message can equal.

The library behind it takes 10 MB and a moment to load: it is loaded when first used.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from omninode.crypto import tagged_hash
from omninode.errors import Malformed

if TYPE_CHECKING:
    from chia_rs import G1Element

SECRET_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 48
SIGNATURE_BYTES: Final = 96
GROUP_ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
_POSSESSION_TAG: Final = "omni/beacon-possession/1"
_INFINITY_FLAG: Final = 0x40


@cache
def _library() -> Any:  # noqa: ANN401 - a module
    return importlib.import_module("chia_rs")


class BeaconKey:
    """A BLS private key. Its representation never shows the secret."""

    def __init__(self, secret: bytes) -> None:
        """Take a secret scalar: 32 bytes, big end first.

        Raises:
            Malformed: It is not between 1 and the group's order.
        """
        if len(secret) != SECRET_BYTES or not 0 < int.from_bytes(secret, "big") < GROUP_ORDER:
            raise Malformed("not a BLS secret: 32 bytes between 1 and the group's order")
        self._key = _library().PrivateKey.from_bytes(secret)
        self.public_key: Final[bytes] = bytes(self._key.get_g1())

    @classmethod
    def from_seed(cls, seed: bytes) -> BeaconKey:
        """Derive a key from at least 32 random bytes: HKDF modulo the order, the library's own.

        Raises:
            Malformed: The seed is too short.
        """
        if len(seed) < SECRET_BYTES:
            raise Malformed(f"a seed has at least {SECRET_BYTES} bytes, not {len(seed)}")
        return cls(bytes(_library().AugSchemeMPL.key_gen(seed)))

    def __repr__(self) -> str:
        return f"BeaconKey(0x{self.public_key.hex()})"

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for keystores only."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the one signature of this key over a message, 96 bytes; about 0.4 ms."""
        return bytes(_library().AugSchemeMPL.sign(self._key, message))

    def prove_possession(self) -> bytes:
        """Return the proof that this key's owner has its secret (B3), 96 bytes."""
        return self.sign(_possession_message(self.public_key))


def is_public_key(public_key: bytes) -> bool:
    """Whether these bytes are a key that can sign: a point of the subgroup, not infinity (B2)."""
    return _point(public_key) is not None


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is this key's over this message (B2); about 1 ms."""
    point = _point(public_key)
    if point is None or len(signature) != SIGNATURE_BYTES:
        return False
    library = _library()
    try:
        element = library.G2Element.from_bytes(signature)
    except ValueError:
        return False
    if bytes(element) != signature:
        return False
    return bool(library.AugSchemeMPL.verify(point, message, element))


def verify_possession(public_key: bytes, proof: bytes) -> bool:
    """Whether the owner of this key has shown to have its secret (B3)."""
    return verify(public_key, _possession_message(public_key), proof)


def _possession_message(public_key: bytes) -> bytes:
    return tagged_hash(_POSSESSION_TAG, public_key)


def _point(public_key: bytes) -> G1Element | None:
    """Decode a key, or return None (B2). The library takes infinity for a point."""
    if len(public_key) != PUBLIC_KEY_BYTES or public_key[0] & _INFINITY_FLAG:
        return None
    try:
        point: G1Element = _library().G1Element.from_bytes(public_key)
    except ValueError:
        return None
    return point if bytes(point) == public_key else None
