"""`omninode prune`: drop old blocks of a stopped node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode.node.cli.invocation import require_home
from omninode.node.cli.output import emit

if TYPE_CHECKING:
    from omninode.node.home import Home

app = typer.Typer()


@app.command()
def prune(
    retain_ms: Annotated[
        int | None,
        typer.Option(min=0, help="Age to keep, in block time. Default: storage.retain_blocks_ms."),
    ] = None,
) -> None:
    """Drop a stopped node's old blocks and their history; a running node does so by itself.

    The newest 1,024 blocks and the whole state stay.
    """
    import trio

    home = require_home()
    if retain_ms is None:
        retain_ms = _configured(home)
    with home.locked():
        document: dict[str, Any] = trio.run(_prune, home, retain_ms)
    emit(
        document,
        lambda: print(
            f"Dropped {document['pruned']} blocks; blocks from {document['first_height']} "
            f"to {document['height']} are kept."
        ),
    )


def _configured(home: Home) -> int:
    from omninode.errors import ConfigError
    from omninode.node.config_file import load_config

    retain_ms = load_config(home.config, environment=os.environ).storage.retain_blocks_ms
    if retain_ms == 0:
        raise ConfigError(
            "storage.retain_blocks_ms = 0 keeps all blocks", hint="say how much with --retain-ms"
        )
    return retain_ms


async def _prune(home: Home, retain_ms: int) -> dict[str, Any]:
    from omninode.errors import UserError
    from omninode.node.genesis_file import read_genesis
    from omninode.storage.chain import ChainStore
    from omninode.storage.database import Database
    from omninode.storage.journal import Journal
    from omninode.storage.pruning import Pruner

    genesis = read_genesis(home.genesis)
    if not home.database.is_dir():
        raise UserError("no_chain", f"no chain in {home.data}", hint="there is nothing to drop")
    with Database.open(home.database) as database:
        chain = ChainStore.open(database, Journal(database), genesis_hash=genesis.hash)
        head = chain.head()
        if head is None:
            raise UserError("no_chain", f"no chain in {home.data}", hint="there is nothing to drop")
        pruner, pruned = Pruner(database, chain), 0
        while step := await pruner.step(before_ms=head.header.time_ms - retain_ms):
            pruned += step
        return {"pruned": pruned, "first_height": chain.first_height, "height": head.height}
