"""Whose key a command uses: `--from`, `--keystore`, `--password-file`, or those of a devnet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omninode.errors import ConfigError
from omninode.node.cli.endpoint import is_devnet
from omninode.node.cli.invocation import current
from omninode.node.home import Home

if TYPE_CHECKING:
    from omninode.crypto import SigningKey

DEVNET_ACCOUNTS: Final = "accounts"
DEVNET_PASSWORD: Final = "password"  # noqa: S105 - the name of a file

KeystoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--keystore",
        metavar="DIR",
        help="Folder of keystores. Default: keys in the home, accounts in a devnet.",
        show_default=False,
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="File with the password. Default: $OMNINODE_PASSWORD_FILE, else a prompt.",
        show_default=False,
    ),
]
FromAccount = Annotated[
    str,
    typer.Option("--from", metavar="ACCOUNT", help="Name or address of the keystore that signs."),
]


def keystore_folder(given: Path | None) -> Path:
    """Return the folder to use: that of the home, or of the devnet that the home is or is in."""
    if given is not None:
        return given.expanduser()
    home = current().home
    if is_devnet(home):
        return home.path / DEVNET_ACCOUNTS
    if not home.keys.is_dir() or not any(home.keys.iterdir()):
        around = Home(home.path.parent)
        if is_devnet(around):
            return around.path / DEVNET_ACCOUNTS
    return home.keys


def unlock(who: str, *, keystore: Path | None, password_file: Path | None) -> SigningKey:
    """Return the key of an account.

    Raises:
        UserError: `unknown_key` or `wrong_password`.
        ConfigError: A subaccount is named, or the keystore or the password can not be read.
    """
    from omninode.node.keys.keystore import find_keystore, read_keystore
    from omninode.node.keys.passwords import read_password

    folder = keystore_folder(keystore)
    if "/" in who:
        raise ConfigError(
            f"--from {who}: expected a key, without a subaccount",
            hint="a command that can use another subaccount takes its number by --subaccount",
        )
    entry = find_keystore(folder, who)
    password = read_password(password_file, purpose=entry.name, fallback=folder / DEVNET_PASSWORD)
    return read_keystore(entry.path, password)


def account_address(who: str, *, keystore: Path | None) -> str:
    """Return the address that a text names: an address, or a keystore (no password needed).

    Raises:
        UserError: `unknown_key`.
        ConfigError: It is neither.
    """
    from omninode.crypto import checksum_address, parse_address
    from omninode.errors import Malformed
    from omninode.node.keys.keystore import find_keystore

    if who.startswith("0x"):
        try:
            return checksum_address(parse_address(who))
        except Malformed as error:
            raise ConfigError(str(error)) from None
    entry = find_keystore(keystore_folder(keystore), who)
    if entry.address is None:
        raise ConfigError(
            f"{entry.path} does not tell its address", hint="name the address instead"
        )
    return checksum_address(entry.address)
