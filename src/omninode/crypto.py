"""Hashing, secp256k1 signatures and addresses, as Ethereum has them.

Signatures are 65 bytes `r | s | v` with `s` in the lower half of the group order (EIP-2) and `v` 27
or 28, so each signed digest has one accepted form per signature and an EVM's `ecrecover` takes it
as it is. Signing is deterministic (RFC 6979): the same key and digest always give the same bytes.
"""

from __future__ import annotations

from typing import Final

import coincurve
import sha3

from omninode.errors import Malformed

HASH_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
SIGNATURE_BYTES: Final = 65
ZERO_HASH: Final = bytes(HASH_BYTES)
GROUP_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER_BYTES: Final = (GROUP_ORDER // 2).to_bytes(32, "big")


def keccak256(data: bytes) -> bytes:
    """Hash with Keccak-256 (the original padding, as Ethereum uses it)."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Hash length-prefixed parts under a domain tag, so that no two uses can be confused."""
    pieces = [len(tag).to_bytes(4, "big"), tag.encode()]
    for part in parts:
        pieces.append(len(part).to_bytes(4, "big"))
        pieces.append(part)
    return keccak256(b"".join(pieces))


def address_of(public_key: coincurve.PublicKey) -> bytes:
    """Return the 20-byte EVM address of a public key."""
    return keccak256(public_key.format(compressed=False)[1:])[-ADDRESS_BYTES:]


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """Return the address whose key signed `digest`.

    Raises:
        Malformed: Wrong length, high `s`, a recovery value other than 27 or 28, or no such point.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise Malformed(f"a signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    if signature[32:64] > _HALF_ORDER_BYTES:
        raise Malformed("signature with high s (EIP-2)")
    recovery = signature[64] - 27
    if recovery not in (0, 1):
        raise Malformed("signature with v other than 27 or 28")
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            signature[:64] + bytes((recovery,)), digest, hasher=None
        )
    except ValueError:
        raise Malformed("no key made this signature") from None
    return address_of(key)


class SigningKey:
    """A secp256k1 private key. Its representation never shows the secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = coincurve.PrivateKey(secret)
        self.address: Final = address_of(self._key.public_key)
        self.public_key: Final = self._key.public_key.format(compressed=True)

    def __repr__(self) -> str:
        return f"SigningKey(0x{self.address.hex()})"

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for keystores only."""
        return self._key.secret

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest; 65 bytes `r | s | v`, low `s`, `v` 27 or 28."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes((signature[64] + 27,))


def checksum_address(address: bytes) -> str:
    """Return the EIP-55 text of an address."""
    text = address.hex()
    digest = keccak256(text.encode()).hex()
    return "0x" + "".join(
        c.upper() if int(d, 16) >= 8 else c for c, d in zip(text, digest, strict=False)
    )


def parse_address(text: str) -> bytes:
    """Read an address: lower case, upper case, or with a right EIP-55 checksum.

    Raises:
        Malformed: Not 20 hex bytes after 0x, or a wrong checksum.
    """
    digits = text[2:]
    if len(text) != 2 + 2 * ADDRESS_BYTES or text[:2] != "0x":
        raise Malformed(f"not an address: {text[:64]!r}")
    try:
        address = bytes.fromhex(digits)
    except ValueError:
        raise Malformed(f"not an address: {text[:64]!r}") from None
    if digits not in (digits.lower(), digits.upper()) and checksum_address(address) != text:
        raise Malformed(f"wrong EIP-55 checksum: {text}")
    return address
