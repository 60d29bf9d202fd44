"""`omninode init`: create a node's home."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode.node.cli.accounts import PasswordFile
from omninode.node.cli.invocation import current
from omninode.node.cli.output import emit, note, print_fields
from omninode.node.cli.start import Settings

if TYPE_CHECKING:
    from omninode.dex.genesis import Genesis
    from omninode.node.config import NodeConfig
    from omninode.node.home import Home
    from omninode.node.home_setup import HomeIdentity

OWNER: str = "owner"
"""Name of the account that owns the funds of a network of one's own."""

app = typer.Typer()


@app.command()
def init(
    *,
    chain_id: Annotated[
        str | None,
        typer.Option(
            help="Name of a new network with this node as its only validator. Default: local."
        ),
    ] = None,
    moniker: Annotated[str | None, typer.Option(help="Name of this node for other people.")] = None,
    genesis: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Genesis of the network to join.")
    ] = None,
    settings: Settings = None,
    password_file: PasswordFile = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write configuration and genesis anew; keys, signer guard and data stay.",
        ),
    ] = False,
) -> None:
    """Create a node's home: configuration, keys, genesis."""
    from omninode.errors import ConfigError
    from omninode.node.genesis_file import read_genesis
    from omninode.node.home_setup import create_keys, refuse_existing, write_config, write_genesis

    home = current().home
    refuse_existing(home, force=force)
    if genesis is not None and chain_id is not None:
        raise ConfigError(
            "--chain-id names a new network, --genesis an existing one: give one of them"
        )
    config = _config(moniker, settings or [])
    network = read_genesis(genesis) if genesis is not None else None
    _check_chain_id(chain_id)
    password = _password(home, password_file)
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with home.locked():
        identity = create_keys(home, password=password)
        if network is None:
            network = _own_network(home, identity, config, chain_id, password)
        write_genesis(home, network.to_json().decode())
        write_config(home, config)
    _report(home, identity, network)


def _config(moniker: str | None, settings: list[str]) -> NodeConfig:
    from omninode.node.config_file import resolve_text

    chosen = settings if moniker is None else [*settings, f"node.moniker={moniker}"]
    return resolve_text("", path="omninode.toml", environment=os.environ, settings=chosen).config


def _check_chain_id(chain_id: str | None) -> None:
    import re

    from omninode.errors import ConfigError

    if (
        chain_id is not None
        and re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", chain_id) is None
    ):
        raise ConfigError(
            f"{chain_id!r} can not name a network",
            hint="use up to 48 lower-case letters, digits and dashes, with none at the ends",
        )


def _password(home: Home, password_file: Path | None) -> str | None:
    """Return the password for the keys; `None`, where there is nobody to ask, a random one."""
    from omninode.node.keys import passwords

    named = passwords.password_file(password_file) is not None
    if not named and (home.validator_password.is_file() or not passwords.can_prompt()):
        return None
    exists = home.validator_keystore.exists()
    return passwords.read_password(password_file, purpose="the validator's key", confirm=not exists)


def _own_network(
    home: Home,
    identity: HomeIdentity,
    config: NodeConfig,
    chain_id: str | None,
    password: str | None,
) -> Genesis:
    import time

    from omninode.node.keys.keystore import keystore_address, new_key, write_keystore
    from omninode.node.keys.passwords import make_password_file
    from omninode.node.local_genesis import DEFAULT_CHAIN_ID, local_genesis

    path = home.keys / f"{OWNER}.json"
    owner = keystore_address(path) if path.exists() else None
    if owner is None:
        key = new_key()
        owner = key.address
        password_file = home.keys / "password"
        if password is None:
            password_file.unlink(missing_ok=True)
            password = make_password_file(password_file)
        write_keystore(path, key, password)
    return local_genesis(
        identity,
        moniker=config.node.moniker,
        chain_id=chain_id or DEFAULT_CHAIN_ID,
        owner=owner,
        time_ms=time.time_ns() // 1_000_000,
    )


def _report(home: Home, identity: HomeIdentity, network: Genesis) -> None:
    from omninode.crypto import checksum_address

    address = checksum_address(identity.address)
    document: dict[str, Any] = {
        "home": str(home.path),
        "chain_id": network.chain_id,
        "genesis_hash": "0x" + network.hash.hex(),
        "validator": address,
        "public_key": "0x" + identity.public_key.hex(),
        "beacon_key": "0x" + identity.beacon_key.hex(),
        "peer_id": identity.peer_id,
        "in_genesis": any(validator.address == address for validator in network.validators),
    }
    emit(document, lambda: print_fields(document))
    if not document["in_genesis"] and not current().as_json:
        note(
            "This node's key is not in the validator set: it will follow the chain without voting."
        )
