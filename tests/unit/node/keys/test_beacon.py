"""The beacon key in a home: made once, kept, opened with the validator's password."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from omninode.bls import BeaconKey
from omninode.crypto import SigningKey
from omninode.errors import ConfigError, UserError
from omninode.node.home import Home
from omninode.node.home_setup import create_keys
from omninode.node.keys.beacon import (
    beacon_public_key,
    new_beacon_key,
    read_beacon_keystore,
    write_beacon_keystore,
)
from omninode.node.keys.keystore import write_keystore
from omninode.node.keys.node_keys import load_node_keys
from omninode.node.local_genesis import genesis_validator, local_genesis

KEY = BeaconKey.from_seed(b"b" * 32)


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "beacon.json"
    write_beacon_keystore(path, KEY, "secret", light=True)
    return path


def test_a_keystore_holds_the_key_and_shows_only_its_public_part(keystore: Path) -> None:
    assert read_beacon_keystore(keystore, "secret").secret == KEY.secret
    assert beacon_public_key(keystore) == KEY.public_key
    assert KEY.secret.hex() not in keystore.read_text()
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert "address" not in json.loads(keystore.read_text())
    with pytest.raises(UserError, match="already exists"):
        write_beacon_keystore(keystore, KEY, "secret", light=True)


def test_a_wrong_password_is_said(keystore: Path) -> None:
    with pytest.raises(UserError) as failure:
        read_beacon_keystore(keystore, "other")
    assert failure.value.reason == "wrong_password"


@pytest.mark.parametrize("text", [None, 5, "", "zz", "00" * 48, KEY.public_key.hex()[2:]])
def test_a_keystore_without_its_public_key_is_refused(keystore: Path, text: object) -> None:
    document = json.loads(keystore.read_text())
    keystore.write_text(json.dumps(document | {"beacon_key": text}))
    with pytest.raises(ConfigError, match="not the keystore of a beacon key"):
        read_beacon_keystore(keystore, "secret")


def test_a_keystore_with_anothers_public_key_is_refused(keystore: Path) -> None:
    document = json.loads(keystore.read_text())
    other = new_beacon_key().public_key.hex()
    keystore.write_text(json.dumps(document | {"beacon_key": other}))
    with pytest.raises(ConfigError, match="another's"):
        read_beacon_keystore(keystore, "secret")


def test_a_vote_keys_keystore_is_no_beacon_keys(tmp_path: Path) -> None:
    write_keystore(tmp_path / "vote.json", SigningKey(b"\1" * 32), "secret", light=True)
    with pytest.raises(ConfigError):
        read_beacon_keystore(tmp_path / "vote.json", "secret")


def test_a_home_has_a_beacon_key_and_keeps_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = create_keys(home, password=None, light=True)
    assert create_keys(home, password=None, light=True) == made
    keys = load_node_keys(home, validator=True)
    assert keys.beacon is not None
    assert keys.beacon.public_key == made.beacon_key
    assert load_node_keys(home, validator=False).beacon is None


def test_an_older_home_goes_on_without_and_gets_one_when_set_up_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = create_keys(home, password=None, light=True)
    home.beacon_keystore.unlink()
    assert load_node_keys(home, validator=True).beacon is None
    again = create_keys(home, password=None, light=True)
    assert again.beacon_key != made.beacon_key
    assert again.address == made.address
    assert load_node_keys(home, validator=True).beacon is not None


def test_a_genesis_names_the_beacon_key(tmp_path: Path) -> None:
    identity = create_keys(Home(tmp_path), password=None, light=True)
    genesis = local_genesis(
        identity, moniker="one", chain_id="test", owner=identity.address, time_ms=1
    )
    assert genesis.validators == (genesis_validator(identity, moniker="one", power=1),)
    (validator,) = genesis.validator_set.validators
    assert validator.beacon_key == identity.beacon_key
