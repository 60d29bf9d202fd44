"""`omninode chain`: the settlement chain of a devnet, as a process of its own; hidden."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omninode.node.cli.invocation import current
from omninode.node.cli.output import emit

if TYPE_CHECKING:
    from omninode.contracts.devchain.service import ChainSettings

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

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
    import trio

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
    trio.run(_run_until_signal, settings)
    emit({"stopped": True, "home": str(settings.home)}, lambda: None)


async def _run_until_signal(settings: ChainSettings) -> None:
    import trio

    from omninode.contracts.devchain.service import run_chain

    with trio.open_signal_receiver(*STOP_SIGNALS) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_chain, settings)
            async for _ in received:
                nursery.cancel_scope.cancel()
                return
