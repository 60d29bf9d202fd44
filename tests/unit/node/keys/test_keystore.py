from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from eth_account import Account

from omninode.crypto import SigningKey, checksum_address
from omninode.errors import ConfigError, StorageFault, UserError
from omninode.node.keys.keystore import (
    check_name,
    describe,
    find_keystore,
    keystore_address,
    list_keystores,
    new_key,
    read_keystore,
    write_keystore,
)

KEY = SigningKey(bytes(range(1, 33)))

# The example of the Web3 Secret Storage Definition (scrypt), with its password and key.
FOREIGN_PASSWORD = "testpassword"
FOREIGN_SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
FOREIGN = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


def test_a_key_comes_back_and_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "alice.json"
    write_keystore(path, KEY, "pass wörd", light=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_keystore(path, "pass wörd").secret == KEY.secret
    assert keystore_address(path) == KEY.address


def test_the_usual_strength_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    write_keystore(path, KEY, "x")
    parameters = json.loads(path.read_text())["crypto"]
    assert parameters["kdf"] == "scrypt"
    assert parameters["kdfparams"]["n"] == 262_144


def test_eth_account_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    write_keystore(path, KEY, "secret", light=True)
    assert Account.decrypt(path.read_text(), "secret") == KEY.secret


def test_a_keystore_of_another_wallet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "UTC--2016"
    path.write_text(json.dumps(FOREIGN))
    assert read_keystore(path, FOREIGN_PASSWORD).secret.hex() == FOREIGN_SECRET
    assert keystore_address(path) is None


def test_a_wrong_password_has_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    write_keystore(path, KEY, "right", light=True)
    with pytest.raises(UserError, match="wrong password") as failure:
        read_keystore(path, "wrong")
    assert failure.value.reason == "wrong_password"


def test_a_keystore_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    write_keystore(path, KEY, "x", light=True)
    before = path.read_bytes()
    with pytest.raises(UserError, match="already exists"):
        write_keystore(path, new_key(), "x", light=True)
    assert path.read_bytes() == before


def test_a_folder_that_can_not_be_made_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFault):
        write_keystore(tmp_path / "file" / "alice.json", KEY, "x", light=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{" * 100_000,
        '{"version": 3}',
        '{"version": 1, "crypto": {}}',
        '{"version": 3, "crypto": {}}',
        '{"version": 3, "crypto": {"kdf": "scrypt"}}',
        '{"version": 3, "crypto": 7}',
        " " * 70_000,
    ],
)
def test_what_is_no_keystore_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "alice.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"alice\.json"):
        read_keystore(path, "x")


def test_keys_are_found_by_name_and_by_address(tmp_path: Path) -> None:
    write_keystore(tmp_path / "alice.json", KEY, "x", light=True)
    bob = new_key()
    write_keystore(tmp_path / "bob.json", bob, "x", light=True)
    (tmp_path / "password").write_text("x\n")
    (tmp_path / ".hidden.json").write_text("{}")
    (tmp_path / "notes.json").write_text("not a keystore")
    (tmp_path / "folder").mkdir()
    assert [entry.name for entry in list_keystores(tmp_path)] == ["alice", "bob"]
    assert find_keystore(tmp_path, "bob").address == bob.address
    address = checksum_address(KEY.address)
    assert find_keystore(tmp_path, address).name == "alice"
    assert find_keystore(tmp_path, address.lower()).name == "alice"
    assert describe(find_keystore(tmp_path, "alice"))["address"] == address
    with pytest.raises(UserError, match=r"no key carol .*alice, bob") as failure:
        find_keystore(tmp_path, "carol")
    assert failure.value.reason == "unknown_key"
    with pytest.raises(ConfigError, match="not an address"):
        find_keystore(tmp_path, "0x12")
    with pytest.raises(UserError):
        find_keystore(tmp_path / "none", "alice")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "0xabc", ".x", "x" * 65, "a b", "ä"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_a_key_never_shows_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)


def test_reading_a_keystore_leaves_the_recursion_limit_alone() -> None:
    """A hundredfold limit makes deeply nested input crash the process instead of being refused."""
    code = (
        "import sys; from pathlib import Path; from omninode.node.keys import keystore\n"
        "before = sys.getrecursionlimit(); path = Path(sys.argv[1])\n"
        "keystore.write_keystore(path, keystore.new_key(), 'secret', light=True)\n"
        "keystore.read_keystore(path, 'secret')\n"
        "assert 'py_ecc' in sys.modules\n"
        "assert sys.getrecursionlimit() == before == 1_000\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, f"{folder}/key.json"], check=True)
