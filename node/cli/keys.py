"""`omninode keys`: keystores of people, and the voting memory of a validator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode.node.cli.accounts import KeystoreFolder, PasswordFile, keystore_folder
from omninode.node.cli.endpoint import connect
from omninode.node.cli.invocation import current, require_home
from omninode.node.cli.output import emit, note, print_fields, print_table

if TYPE_CHECKING:
    from omninode.crypto import SigningKey

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="Name of the key.")]
Who = Annotated[str, typer.Argument(help="Name or address of the key.")]
Light = Annotated[
    bool,
    typer.Option(
        "--light", help="Weak, fast encryption (scrypt n=4096), for throw-away keys only."
    ),
]


@app.command("new")
def new(
    name: Name,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
    light: Light = False,
) -> None:
    """Make a new random key in an encrypted keystore."""
    from omninode.node.keys.keystore import check_name, new_key
    from omninode.node.keys.passwords import read_password

    path = keystore_folder(keystore) / f"{check_name(name)}.json"
    _refuse_existing(path)
    password = read_password(password_file, purpose=f"the new key {name}", confirm=True)
    _write(path, new_key(), password=password, light=light)


@app.command("import")
def import_(
    *,
    file: Annotated[
        Path,
        typer.Argument(help="A keystore v3, or a file with the private key in hex; - reads stdin."),
    ],
    name: Annotated[str, typer.Option("--name", help="Name to give it.")],
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
    new_password_file: Annotated[
        Path | None,
        typer.Option(help="Password of the new keystore, if not that of the imported one."),
    ] = None,
    light: Light = False,
) -> None:
    """Take a key from another wallet's keystore, or from its private key in hex."""
    from omninode.node.keys.keystore import check_name, read_keystore
    from omninode.node.keys.passwords import read_password
    from omninode.node.keys.private_keys import looks_like_private_key, parse_private_key, read_text

    path = keystore_folder(keystore) / f"{check_name(name)}.json"
    _refuse_existing(path)
    text = read_text(file)
    if looks_like_private_key(text):
        key = parse_private_key(text)
        given = new_password_file or password_file
        password = read_password(given, purpose=f"the new key {name}", confirm=True)
    else:
        password = read_password(password_file, purpose=str(file))
        key = read_keystore(file, password)
        if new_password_file is not None:
            password = read_password(new_password_file, purpose=f"the new key {name}")
    _write(path, key, password=password, light=light)


@app.command("list")
def list_(keystore: KeystoreFolder = None) -> None:
    """List the keystores of a folder; no password is needed."""
    from omninode.node.keys.keystore import describe, list_keystores

    rows = [describe(entry) for entry in list_keystores(keystore_folder(keystore))]
    emit(
        {"keys": rows},
        lambda: print_table(
            ["name", "address", "file"],
            [[row["name"], row["address"], row["file"]] for row in rows],
            empty="no keys; make one with `omninode keys new NAME`",
        ),
    )


@app.command("show")
def show(who: Who, keystore: KeystoreFolder = None) -> None:
    """Show a key's name, address and file."""
    from omninode.node.keys.keystore import describe, find_keystore

    row = describe(find_keystore(keystore_folder(keystore), who))
    emit(row, lambda: print_fields(row))


@app.command("export")
def export(
    who: Who,
    out: Annotated[Path, typer.Option("--out", help="New file to write, mode 0600.")],
    private_key: Annotated[
        bool,
        typer.Option(
            "--private-key", help="Write the bare private key in hex. Whoever reads it owns all."
        ),
    ] = False,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Write a key to a file for another wallet, as keystore v3 under the same password."""
    from omninode.crypto import checksum_address
    from omninode.node.keys.keystore import (
        find_keystore,
        keystore_text,
        read_keystore,
        write_secret_file,
    )
    from omninode.node.keys.passwords import read_password

    entry = find_keystore(keystore_folder(keystore), who)
    password = read_password(
        password_file, purpose=entry.name, fallback=entry.path.parent / "password"
    )
    key = read_keystore(entry.path, password)
    text = f"0x{key.secret.hex()}\n" if private_key else keystore_text(key, password)
    write_secret_file(out, text)
    document = {"name": entry.name, "address": checksum_address(key.address), "file": str(out)}
    emit(document, lambda: print_fields(document))


@app.command("new-psk")
def new_psk(
    out: Annotated[Path, typer.Option("--out", help="New file to write, mode 0600.")],
) -> None:
    """Make the key of a private network, for p2p.psk_file of all its nodes."""
    from omninode.node.net.private_network import create_network_key

    create_network_key(out)
    document = {"file": str(out)}
    emit(document, lambda: print_fields(document))


@app.command("rearm")
def rearm(
    view: Annotated[
        int | None,
        typer.Option(
            min=0, help="Newest view of the network. Default: asked from the node at --rpc."
        ),
    ] = None,
    epoch: Annotated[int, typer.Option(min=0, help="Epoch of that view.")] = 0,
    rpc: Annotated[
        str | None, typer.Option("--rpc", metavar="URL", help="Another node of the network.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a new signer guard after the old one was lost. Never while the key votes elsewhere."""
    from omninode.errors import ConfigError
    from omninode.node.keys.passwords import can_prompt
    from omninode.node.keys.rearming import rearm_guard

    home = require_home()
    if view is None and rpc is None:
        raise ConfigError(
            "the newest view of the network must be known",
            hint="name a running node with --rpc, or the view with --view",
        )
    note(
        "A validator that votes twice loses its stake. Go on only if this vote key runs nowhere "
        "else and the old signer guard is lost for good."
    )
    if not yes:
        if not can_prompt():
            raise ConfigError("rearming must be confirmed", hint="say --yes")
        typer.confirm("Make a new signer guard?", abort=True, err=True)
    if view is None:
        with connect(rpc) as node:
            state = node.call("omni_getConsensusState")
        view, epoch = int(state["view"]), int(state.get("epoch", epoch))
    document: dict[str, Any] = rearm_guard(home, epoch=epoch, newest_view=view)
    emit(document, lambda: print_fields(document))


def _refuse_existing(path: Path) -> None:
    from omninode.errors import UserError

    if path.exists():
        raise UserError("key_exists", f"{path} already exists", hint="choose another name")


def _write(path: Path, key: SigningKey, *, password: str, light: bool) -> None:
    from omninode.crypto import checksum_address
    from omninode.node.keys.keystore import write_keystore

    write_keystore(path, key, password, light=light)
    document = {"name": path.stem, "address": checksum_address(key.address), "file": str(path)}
    emit(document, lambda: print_fields(document))
    if not current().as_json:
        note("Keep the file and its password: nobody can bring back a lost key.")
