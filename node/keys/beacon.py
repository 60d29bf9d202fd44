"""The beacon key on disk: a keystore v3 with a BLS secret, and its public key in the clear.

The public key is there so that a genesis or a registration can be written without the password. It
is compared when the secret is read.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from omninode.bls import SECRET_BYTES, BeaconKey, is_public_key
from omninode.errors import ConfigError, Malformed
from omninode.node.keys.keystore import (
    decrypt_secret,
    encrypt_secret,
    read_document,
    write_secret_file,
)

PUBLIC_KEY_FIELD: Final = "beacon_key"


def new_beacon_key() -> BeaconKey:
    """Return a new random key."""
    return BeaconKey.from_seed(secrets.token_bytes(SECRET_BYTES))


def write_beacon_keystore(
    path: Path, key: BeaconKey, password: str, *, light: bool = False
) -> None:
    """Encrypt a key into a new file with mode 0600; `light` is for a devnet: fast and weak.

    Raises:
        UserError: `key_exists`, there is such a file.
        StorageFault: It can not be written.
    """
    document = encrypt_secret(key.secret, password, light=light)
    document[PUBLIC_KEY_FIELD] = key.public_key.hex()
    write_secret_file(path, json.dumps(document, indent=2) + "\n")


def beacon_public_key(path: Path) -> bytes:
    """Return the 48-byte key that a keystore says it holds, without its password.

    Raises:
        ConfigError: The file is missing, unreadable or not a beacon key's keystore.
    """
    text = read_document(path).get(PUBLIC_KEY_FIELD)
    try:
        public_key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        public_key = b""
    if not is_public_key(public_key):
        raise ConfigError(f"{path}: not the keystore of a beacon key")
    return public_key


def read_beacon_keystore(path: Path, password: str) -> BeaconKey:
    """Decrypt a beacon key.

    Raises:
        UserError: `wrong_password`.
        ConfigError: The file is missing, unreadable or not a beacon key's keystore, or its public
            key is another's.
    """
    claimed = beacon_public_key(path)
    try:
        key = BeaconKey(decrypt_secret(path, password))
    except Malformed as error:
        raise ConfigError(f"{path}: {error}") from None
    if key.public_key != claimed:
        raise ConfigError(f"{path}: the public key in it is another's", hint="restore the file")
    return key
