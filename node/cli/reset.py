"""`omninode reset`: forget the chain, keep what can not be had again."""

from __future__ import annotations

from typing import Annotated

import typer

from omninode.node.cli.invocation import require_home
from omninode.node.cli.output import emit
from omninode.node.home import Home

app = typer.Typer()


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a stopped node's chain and state; keys, signer guard and configuration stay.

    The node fetches the chain from its peers again. A network of one node starts anew from genesis.
    """
    import shutil

    from omninode.errors import ConfigError, StorageFault
    from omninode.node.keys.passwords import can_prompt

    home = require_home()
    with home.locked():
        if not yes:
            if not can_prompt():
                raise ConfigError(f"removing {home.data} must be confirmed", hint="say --yes")
            typer.confirm(f"Remove the chain and state in {home.data}?", abort=True, err=True)
        try:
            if home.data.exists():
                shutil.rmtree(home.data)
            home.data.mkdir(mode=0o700)
        except OSError as error:
            raise StorageFault(f"{error.filename}: {error.strerror}") from None
    document = {"reset": True, "removed": str(home.data), "kept": _kept(home)}
    emit(
        document, lambda: print(f"Removed {home.data}. Keys, signer guard and configuration stay.")
    )


def _kept(home: Home) -> list[str]:
    paths = (home.config, home.genesis, home.node_key, home.validator_keystore, home.signer_guard)
    return [path.name for path in paths if path.exists()]
