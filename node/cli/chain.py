"""`omninode chain`: the settlement chain of a devnet, as a process of its own; hidden."""

from __future__ import annotations

from typing import Annotated

import typer

from omninode.node.cli.invocation import current
from omninode.node.cli.output import emit

app = typer.Typer()


@app.command()
def chain(
    port: Annotated[int, typer.Option(help="Where it answers JSON-RPC, on loopback.")],
    fund: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Who gets coins in its first block.")
    ],
    block_interval_ms: Annotated[
        int, typer.Option(min=10, help="Time from one block to the next.")
    ] = 1_000,
) -> None:
    """Run the settlement chain of a devnet until SIGTERM or Ctrl-C; its money is worth nothing."""
    from omninode.contracts.devchain.program import run_program
    from omninode.contracts.devchain.service import ChainSettings
    from omninode.node.devnet.deployment import DEPLOYER_COINS, WEI
    from omninode.node.log import configure_logging

    configure_logging(level="info", form="json", levels={})
    settings = ChainSettings(
        home=current().home.path,
        port=port,
        block_interval_ms=block_interval_ms,
        alloc={fund: DEPLOYER_COINS * WEI},
    )
    # Its log tells where it listens; what it raises becomes an exit code in `main`.
    run_program(settings, on_listening=lambda _: None)
    emit({"stopped": True, "home": str(settings.home)}, lambda: None)
