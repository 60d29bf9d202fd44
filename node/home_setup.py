"""Making a node's home: what `omninode init` and the devnet write.

Rules
    I1. `omninode.toml` is written last: a home without it is unfinished and may be set up again.
    I2. Existing keys are kept, also with `force`: a lost vote key is lost stake.
    I3. A signer guard is made only together with a new vote key, and never touched afterwards
        (PROTOCOL.md P7).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from omninode.consensus.guard import SignerGuard, sync_directory
from omninode.crypto import SigningKey
from omninode.errors import ConfigError, StorageFault
from omninode.node.config import NodeConfig
from omninode.node.config_file import render_config
from omninode.node.home import Home
from omninode.node.keys.beacon import beacon_public_key, new_beacon_key, write_beacon_keystore
from omninode.node.keys.keystore import (
    keystore_address,
    new_key,
    read_keystore,
    write_keystore,
)
from omninode.node.keys.passwords import make_password_file
from omninode.node.net.identity import NodeIdentity


@dataclass(frozen=True, slots=True)
class HomeIdentity:
    """What a genesis has to know of a node.

    Attributes:
        address: EVM address of the vote key.
        public_key: The vote key's compressed public key.
        peer_id: The libp2p peer id.
        relayer: EVM address of the account that pays for this validator's checkpoints.
        beacon_key: The beacon key's 48 bytes.
    """

    address: bytes
    public_key: bytes
    peer_id: str
    relayer: bytes = b""
    beacon_key: bytes = b""


def create_keys(home: Home, *, password: str | None, light: bool = False) -> HomeIdentity:
    """Make a node's keys, its signer guard and its folders; keep what is there (I2, I3).

    Args:
        home: The home; made with mode 0700 if it is not there.
        password: Password of the vote key, the beacon key and the relayer's; `None` makes a random
            one and keeps it in the home, mode 0600.
        light: Encrypt for a devnet: fast and weak.

    Raises:
        UserError: `wrong_password`, an existing vote key has another.
        ConfigError: An existing key can not be used.
        StorageFault: Something can not be written.
    """
    _make_folders(home)
    identity = NodeIdentity.load(home.node_key) if home.node_key.exists() else None
    identity = identity or NodeIdentity.create(home.node_key)
    if home.validator_keystore.exists():
        password = _known_password(home, password)
        key = read_keystore(home.validator_keystore, password)
    else:
        key, password = _new_vote_key(home, password, light=light)
    relayer = _relayer(home, password, light=light)
    beacon_key = _beacon_key(home, password, light=light)
    return HomeIdentity(key.address, key.public_key, identity.peer_id, relayer, beacon_key)


def write_genesis(home: Home, text: str) -> None:
    """Write the genesis of a home.

    Raises:
        StorageFault: It can not be written.
    """
    _write(home.genesis, text)


def write_config(home: Home, config: NodeConfig) -> None:
    """Write the commented configuration, which completes a home (I1).

    Raises:
        StorageFault: It can not be written.
    """
    _write(home.config, render_config(config))


def refuse_existing(home: Home, *, force: bool) -> None:
    """Refuse to set up a finished home again unless forced.

    Raises:
        ConfigError: There is a node in it.
    """
    if home.exists() and not force:
        raise ConfigError(
            f"there is a node in {home.path} already",
            hint="--force writes configuration and genesis anew and keeps keys and data",
        )


def _known_password(home: Home, password: str | None) -> str:
    """Return the password of an existing vote key."""
    if password is None:
        if not home.validator_password.is_file():
            raise ConfigError(
                f"{home.validator_keystore} exists, but not its password",
                hint="name it with --password-file",
            )
        password = home.validator_password.read_text(encoding="utf-8").removesuffix("\n")
    return password


def _relayer(home: Home, password: str, *, light: bool) -> bytes:
    """Return the address of the relayer's key, which is made if it is not there (I2)."""
    path = home.relayer_keystore
    address = keystore_address(path) if path.exists() else None
    if address is not None:
        return address
    key = new_key()
    write_keystore(path, key, password, light=light)
    return key.address


def _beacon_key(home: Home, password: str, *, light: bool) -> bytes:
    """Return the beacon key's public key; the key is made if it is not there (I2)."""
    path = home.beacon_keystore
    if path.exists():
        return beacon_public_key(path)
    key = new_beacon_key()
    write_beacon_keystore(path, key, password, light=light)
    return key.public_key


def _new_vote_key(home: Home, password: str | None, *, light: bool) -> tuple[SigningKey, str]:
    key = new_key()
    # The guard comes first: a crash between the two must not leave a key without one (I3).
    if not home.signer_guard.exists():
        SignerGuard.create(home.signer_guard).close()
    if password is None:
        home.validator_password.unlink(missing_ok=True)
        password = make_password_file(home.validator_password)
    write_keystore(home.validator_keystore, key, password, light=light)
    return key, password


def _make_folders(home: Home) -> None:
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (home.data, home.keys):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageFault(f"{error.filename}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, durably."""
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageFault(f"{path}: {error.strerror}") from None
