"""Who this node is among peers: an Ed25519 key in a file, and the peer id that follows from it.

The file is the private-key protobuf of the libp2p peer-id specification, as Kubo writes it. The id
is the identity multihash of the public-key protobuf in base58, of the same specification.
This module does not import libp2p: `init` and `keys` must be quick.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from omninode.errors import ConfigError

PeerId = str
"""A libp2p peer id in base58."""

_PRIVATE_PREFIX: Final = bytes.fromhex("08011240")
_PUBLIC_PREFIX: Final = bytes.fromhex("08011220")
_MULTIHASH_PREFIX: Final = bytes.fromhex("0024")
_SEED_BYTES: Final = 32
_PEER_ID_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True)
class NodeIdentity:
    """A node's key among peers.

    Attributes:
        seed: The 32 secret bytes of the Ed25519 key.
        peer_id: The public name that follows from it.
    """

    seed: bytes = field(repr=False)
    peer_id: PeerId

    @classmethod
    def from_seed(cls, seed: bytes) -> NodeIdentity:
        """Derive the identity of 32 secret bytes."""
        return cls(seed=seed, peer_id=peer_id_of(_public_key(seed)))

    @classmethod
    def create(cls, path: Path) -> NodeIdentity:
        """Make a new key and write it to `path` with mode 0600.

        Raises:
            ConfigError: The file exists or can not be written.
        """
        seed = os.urandom(_SEED_BYTES)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(_PRIVATE_PREFIX + seed + _public_key(seed))
                file.flush()
                os.fsync(handle)
        except FileExistsError:
            raise ConfigError(
                f"{path} exists already", hint="keep it, or move it away for a new peer id"
            ) from None
        except OSError as error:
            raise ConfigError(f"can not write {path}: {error.strerror}") from None
        return cls.from_seed(seed)

    @classmethod
    def load(cls, path: Path) -> NodeIdentity:
        """Read the key that `create` wrote.

        Raises:
            ConfigError: No such file, open to other users, or not a key of this kind.
        """
        try:
            mode = path.stat().st_mode
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"can not read the node key {path}: {error.strerror}",
                hint="`omninode init` makes one",
            ) from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path} can be read by other users", hint=f"chmod 600 {path}")
        seed, public = data[4 : 4 + _SEED_BYTES], data[4 + _SEED_BYTES :]
        if len(data) != 68 or data[:4] != _PRIVATE_PREFIX or _public_key(seed) != public:
            raise ConfigError(f"{path} is not an Ed25519 libp2p key", hint="restore it from a copy")
        return cls.from_seed(seed)


def is_peer_id(text: str) -> bool:
    """Say whether a text is the peer id of an Ed25519 key, the only kind that our nodes have."""
    if not 40 <= len(text) <= _PEER_ID_CHARACTERS_MAX or not text.isascii():
        return False
    try:
        data = base58.b58decode(text)
    except ValueError:
        return False
    prefix = _MULTIHASH_PREFIX + _PUBLIC_PREFIX
    return len(data) == len(prefix) + _SEED_BYTES and data.startswith(prefix)


def peer_id_of(public_key: bytes) -> PeerId:
    """Return the peer id of a 32-byte Ed25519 public key."""
    return base58.b58encode(_MULTIHASH_PREFIX + _PUBLIC_PREFIX + public_key).decode()


def _public_key(seed: bytes) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
