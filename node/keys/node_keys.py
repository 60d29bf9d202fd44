"""The secret keys of a running node: peer identity; a validator's vote, beacon and relayer keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omninode.bls import BeaconKey
from omninode.crypto import SigningKey
from omninode.errors import ConfigError
from omninode.node.home import Home
from omninode.node.keys.beacon import read_beacon_keystore
from omninode.node.keys.keystore import read_keystore
from omninode.node.keys.passwords import read_password
from omninode.node.net.identity import NodeIdentity


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """What a node needs to prove who it is.

    Attributes:
        identity: The Ed25519 key by which peers know it.
        validator: The secp256k1 vote key; `None` for a node that never votes.
        relayer: The key that pays for checkpoints on the settlement chain; `None` where none are
            sent.
        beacon: The BLS key with which a leader signs the beacon; `None` for a node that never
            votes, and in a home older than beacon keys.
    """

    identity: NodeIdentity
    validator: SigningKey | None
    relayer: SigningKey | None = None
    beacon: BeaconKey | None = None


def load_node_keys(
    home: Home, *, validator: bool, relayer: bool = False, password_file: Path | None = None
) -> NodeKeys:
    """Read a node's keys; takes about a second for each of a validator's (scrypt).

    Args:
        home: The node's home.
        validator: Whether to unlock the vote key.
        relayer: Whether to unlock the relayer's key too, if this home of a validator has one.
        password_file: Value of `--password-file`; the file that `init` made is found without it.

    Raises:
        ConfigError: A file is missing or unreadable, the guard of a vote key is missing, or there
            is no password.
        UserError: `wrong_password`.
    """
    identity = NodeIdentity.load(home.node_key)
    if not validator:
        return NodeKeys(identity, None)
    if not home.validator_keystore.is_file():
        raise ConfigError(
            f"no vote key at {home.validator_keystore}",
            hint='restore it, or set node.mode = "full" for a node that does not vote',
        )
    require_guard(home)
    password = read_password(
        password_file, purpose="the validator's key", fallback=home.validator_password
    )
    vote_key = read_keystore(home.validator_keystore, password)
    wants_relayer = relayer and home.relayer_keystore.is_file()
    has_beacon = home.beacon_keystore.is_file()
    return NodeKeys(
        identity,
        vote_key,
        relayer=read_keystore(home.relayer_keystore, password) if wants_relayer else None,
        beacon=read_beacon_keystore(home.beacon_keystore, password) if has_beacon else None,
    )


def require_guard(home: Home) -> None:
    """Refuse to vote without the memory of earlier votes (PROTOCOL.md P7).

    Raises:
        ConfigError: The guard is missing.
    """
    if not home.signer_guard.exists():
        raise ConfigError(
            f"the signer guard {home.signer_guard} is missing: "
            "voting without it could contradict earlier votes",
            hint="restore it; if it is lost for good, `omninode keys rearm` makes a new one",
        )
