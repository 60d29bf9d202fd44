"""Where the password of a keystore comes from: one order for all commands, never the command line.

`--password-file`, then `OMNINODE_PASSWORD_FILE`, then a file the caller knows of (such as the one
that `init` made), then a prompt on the terminal. Only the line break at the end of a file is not
part of the password.
"""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from omninode.errors import ConfigError, UserError
from omninode.node.keys.keystore import write_secret_file

PASSWORD_FILE_VARIABLE: Final = "OMNINODE_PASSWORD_FILE"  # noqa: S105 - the name of a variable
PASSWORD_BYTES_MAX: Final = 4_096
RANDOM_PASSWORD_BYTES: Final = 24


def password_file(given: Path | None, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the file named by `--password-file` or the environment, if any."""
    if given is not None:
        return given
    named = (os.environ if environment is None else environment).get(PASSWORD_FILE_VARIABLE)
    return Path(named).expanduser() if named else None


def read_password(
    given: Path | None, *, purpose: str, fallback: Path | None = None, confirm: bool = False
) -> str:
    """Return a password.

    Args:
        given: The value of `--password-file`.
        purpose: What it opens, for the prompt.
        fallback: A file to use if it exists and none was named.
        confirm: Ask twice, for a new keystore.

    Raises:
        ConfigError: No file was named and there is no terminal to ask at, or the file can not be
            used.
        UserError: `password_mismatch`, the two answers differ.
    """
    path = password_file(given)
    if path is None and fallback is not None and fallback.is_file():
        path = fallback
    if path is not None:
        return _read_file(path)
    if not can_prompt():
        raise ConfigError(
            f"no password for {purpose}: there is no terminal to ask at",
            hint=f"name a file with --password-file or {PASSWORD_FILE_VARIABLE}",
        )
    password = getpass.getpass(f"Password for {purpose}: ")
    if confirm and getpass.getpass("Once more: ") != password:
        raise UserError("password_mismatch", "the two passwords differ", hint="try again")
    if not password:
        raise ConfigError("an empty password protects nothing", hint="choose another")
    return password


def can_prompt() -> bool:
    """Whether somebody can be asked: stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def make_password_file(path: Path) -> str:
    """Make a random password and keep it in a new file with mode 0600.

    Raises:
        UserError: `key_exists`, there is such a file.
        StorageFault: It can not be written.
    """
    password = secrets.token_urlsafe(RANDOM_PASSWORD_BYTES)
    write_secret_file(path, password + "\n")
    return password


def _read_file(path: Path) -> str:
    try:
        if path.stat().st_size > PASSWORD_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {PASSWORD_BYTES_MAX} bytes, not a password")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"password file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"password file {path}: not UTF-8 text") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise ConfigError(f"password file {path}: it is empty")
    return password
