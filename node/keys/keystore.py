"""Secret keys on disk: EVM keystore v3 files, as geth, MetaMask and other wallets read them.

A folder of keystores holds `NAME.json` files; a key is found by that name or by its address. Files
and folders are readable by their owner only. A password is a text; where it comes from is
`passwords.py`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from omninode.crypto import SigningKey, checksum_address, parse_address
from omninode.errors import ConfigError, Malformed, StorageFault, UserError

SCRYPT_N: Final = 262_144
"""The usual work factor: 256 MiB and about 0.7 s."""

SCRYPT_N_LIGHT: Final = 4_096
"""For throw-away keys of a devnet: about 10 ms."""

KEYSTORE_BYTES_MAX: Final = 65_536
SECRET_BYTES: Final = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class KeystoreEntry:
    """A keystore file: its name, its path, and the address it claims (`None` if it hides it)."""

    name: str
    path: Path
    address: bytes | None


def new_key() -> SigningKey:
    """Return a new random key."""
    return SigningKey(secrets.token_bytes(SECRET_BYTES))


def _keyfile_library() -> ModuleType:
    """Import the keystore library when it is needed: it takes half a second.

    A package below it raises the interpreter's recursion limit a hundredfold for its own
    arithmetic. In a node that would turn deeply nested input from an error into a crash of the
    process, so the limit is put back.
    """
    limit = sys.getrecursionlimit()
    try:
        return importlib.import_module("eth_keyfile.keyfile")
    finally:
        sys.setrecursionlimit(limit)


def check_name(name: str) -> str:
    """Return `name` if a keystore may be called so.

    Raises:
        ConfigError: It is not 1 to 64 letters, digits or `._-`, or looks like an address.
    """
    if _NAME.fullmatch(name) is None or name.startswith("0x"):
        raise ConfigError(
            f"{name!r} can not name a key",
            hint="use up to 64 letters, digits or ._- and no leading 0x",
        )
    return name


def write_keystore(path: Path, key: SigningKey, password: str, *, light: bool = False) -> None:
    """Encrypt a key into a new file with mode 0600.

    Args:
        path: The file; its folder is made (mode 0700) if need be.
        key: The key.
        password: Its password.
        light: Use `SCRYPT_N_LIGHT`.

    Raises:
        UserError: `key_exists`, there is such a file.
        StorageFault: It can not be written.
    """
    write_secret_file(path, keystore_text(key, password, light=light))


def keystore_text(key: SigningKey, password: str, *, light: bool = False) -> str:
    """Return the JSON of a keystore v3 (scrypt, AES-128-CTR)."""
    document = encrypt_secret(key.secret, password, light=light)
    document["address"] = key.address.hex()
    return json.dumps(document, indent=2) + "\n"


def encrypt_secret(secret: bytes, password: str, *, light: bool = False) -> dict[str, Any]:
    """Return a keystore v3 of 32 secret bytes that does not say whose they are."""
    document: dict[str, Any] = _keyfile_library().create_keyfile_json(
        secret,
        password.encode(),
        kdf="scrypt",
        iterations=SCRYPT_N_LIGHT if light else SCRYPT_N,
    )
    document.pop("address", None)
    return document


def write_secret_file(path: Path, text: str) -> None:
    """Write a new file that only its owner can read.

    Raises:
        UserError: `key_exists`, there is such a file.
        StorageFault: It can not be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFault(f"{path.parent}: {error.strerror}") from None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise UserError(
            "key_exists",
            f"{path} already exists",
            hint="choose another name, or move that file away",
        ) from None
    except OSError as error:
        raise StorageFault(f"{path}: {error.strerror}") from None


def read_keystore(path: Path, password: str) -> SigningKey:
    """Decrypt a keystore; raises as `decrypt_secret` does."""
    return SigningKey(decrypt_secret(path, password))


def decrypt_secret(path: Path, password: str) -> bytes:
    """Return the 32 secret bytes of a keystore.

    Raises:
        UserError: `wrong_password`.
        ConfigError: The file is missing, unreadable or not a keystore v3.
    """
    keyfile = _keyfile_library()

    document = read_document(path)
    try:
        secret = keyfile.decode_keyfile_json(document, password.encode())
    except ValueError as error:
        if "MAC" in str(error):
            raise UserError(
                "wrong_password",
                f"wrong password for {path}",
                hint="see --password-file in `--help`",
            ) from None
        raise ConfigError(f"{path}: not a keystore v3 ({error})") from None
    except (KeyError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"{path}: not a keystore v3 ({error!r})") from None
    return bytes(secret)


def keystore_address(path: Path) -> bytes | None:
    """Return the address a keystore claims, without its password; `None` if it does not say.

    Raises:
        ConfigError: The file is missing, unreadable or not a keystore v3.
    """
    return _claimed_address(read_document(path))


def list_keystores(folder: Path) -> list[KeystoreEntry]:
    """Return the keystores of a folder by name; other files are passed over."""
    entries = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            address = _claimed_address(read_document(path))
        except ConfigError:
            continue
        entries.append(
            KeystoreEntry(path.stem if path.suffix == ".json" else path.name, path, address)
        )
    return entries


def find_keystore(folder: Path, who: str) -> KeystoreEntry:
    """Return the keystore of a folder that has this name or address.

    Raises:
        UserError: `unknown_key`.
    """
    entries = list_keystores(folder)
    by_name = [entry for entry in entries if entry.name == who]
    if by_name:
        return by_name[0]
    if who.startswith("0x"):
        try:
            address = parse_address(who)
        except Malformed as error:
            raise ConfigError(str(error)) from None
        for entry in entries:
            if entry.address == address:
                return entry
    names = ", ".join(entry.name for entry in entries[:20]) or "none"
    raise UserError(
        "unknown_key",
        f"no key {who} in {folder} (there: {names})",
        hint="make one with `omninode keys new`, or name another folder with --keystore",
    )


def describe(entry: KeystoreEntry) -> dict[str, object]:
    """Return what may be told about a keystore: nothing secret."""
    address = checksum_address(entry.address) if entry.address is not None else None
    return {"name": entry.name, "address": address, "file": str(entry.path)}


def read_document(path: Path) -> dict[str, Any]:
    """Return a keystore as it is written.

    Raises:
        ConfigError: The file is missing, unreadable or not a keystore v3.
    """
    try:
        if path.stat().st_size > KEYSTORE_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {KEYSTORE_BYTES_MAX} bytes, not a keystore")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: not a keystore v3 (not JSON)") from None
    if not isinstance(document, dict) or document.get("version") != 3 or "crypto" not in document:
        raise ConfigError(f"{path}: not a keystore v3")
    return document


def _claimed_address(document: dict[str, Any]) -> bytes | None:
    text = document.get("address")
    if not isinstance(text, str) or not text:
        return None
    try:
        return parse_address("0x" + text.removeprefix("0x").lower())
    except Malformed:
        return None
