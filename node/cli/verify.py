"""`omninode verify`: is every balance backed by tokens, and did the validators sign it?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from omninode.errors import OmniNodeError
from omninode.node.cli import light
from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.failures import CommandFailed, failure_of
from omninode.node.cli.output import emit, print_fields, print_table
from omninode.node.cli.steps import Tell, shown_steps

if TYPE_CHECKING:
    from omninode.node.client import RpcClient
    from omninode.node.funds.backing import Backing

COLUMNS: Final = (
    "asset",
    "exchange",
    "deposits_under_way",
    "withdrawals_under_way",
    "vault",
    "shortfall",
    "surplus",
    "ok",
)

app = typer.Typer()


@app.command()
def verify(
    rpc: RpcUrl = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask this endpoint of the settlement chain instead of passing on by the node.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        bool,
        typer.Option(
            "--checkpoint",
            help="Follow the validators from genesis by signatures alone, and check the newest "
            "checkpoint.",
        ),
    ] = False,
    genesis: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What --checkpoint trusts. Default: the genesis of the home.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare the exchange's balances with the tokens in its contract, to the last unit.

    Works while money moves. Exit code 1 if anything is not backed, and also if they could not be
    compared: with --json, "ok" is false in the first case and null in the second, and "reason" says
    why ("not_backed", "node_unreachable", "settlement_unreachable", ...).

    With --checkpoint the node that is asked is not believed: the genesis file and the signatures at
    the end of each epoch lead to today's validators, and more than two thirds of their power signed
    the checkpoint shown. Exit code 1 if the node shows anything else.
    """
    if checkpoint:
        proven = light.follow(rpc, genesis)
        emit(proven, lambda: light.show(proven))
        return
    document = _document(rpc, endpoint)
    if not document["ok"]:
        document["reason"] = "not_backed"
        failed = CommandFailed("not_backed", _why(document), document=document)
        failed.hint = "compare again with another node and --endpoint; then tell the validators"
        raise failed
    document["reason"] = None
    emit(document, lambda: _print(document))


def _document(rpc: str | None, endpoint: str | None) -> dict[str, Any]:
    """Compare both sides.

    Raises:
        ConfigError: A URL is wrong.
        CommandFailed: They could not be compared.
    """
    import trio

    from omninode.node.client import EndpointClient

    with ExitStack() as stack:
        node = stack.enter_context(connect(rpc))
        chain = node if endpoint is None else stack.enter_context(EndpointClient(endpoint))
        tell = stack.enter_context(shown_steps())
        try:
            return trio.run(_compare, node, chain, tell).document()
        except OmniNodeError as error:
            failure = failure_of(error)
            failed = CommandFailed(
                failure.reason,
                f"could not compare: {' '.join(failure.messages)}",
                document={"ok": None, "reason": failure.reason},
            )
            failed.hint = failure.hint
            raise failed from error


async def _compare(node: RpcClient, endpoint: RpcClient, tell: Tell) -> Backing:
    from omninode.node.cli.settlement import passed_on, read_terms
    from omninode.node.funds.backing import check_contract, read_backing
    from omninode.node.funds.chain import SettlementChain
    from omninode.node.funds.ledger import Ledger

    async def read_supply() -> dict[str, Any]:
        supply: dict[str, Any] = node.call("omni_getSupply")
        return supply

    terms = read_terms(node)
    chain = SettlementChain(passed_on(endpoint))
    await check_contract(chain, terms)
    tell("reading the contract's events")
    ledger = Ledger(chain, terms)
    return await read_backing(read_supply, chain, ledger, terms)


def _why(document: dict[str, Any]) -> str:
    """Say what is not backed."""
    block, height = document["block"], document["height"]
    wrong = [row for row in document["assets"] if not row["ok"]]
    missing = [f"{row['shortfall']} {row['asset']}" for row in wrong if row["shortfall"] != "0"]
    if missing:
        return f"{', '.join(missing)} missing in the contract at block {block}"
    names = ", ".join(row["asset"] for row in wrong)
    if any(row["deposits_under_way"].startswith("-") for row in wrong):
        return f"the exchange credited {names} that the contract did not get by block {block}"
    if any(row["withdrawals_under_way"].startswith("-") for row in wrong):
        return f"the contract paid out {names} that nobody had requested at height {height}"
    return f"the exchange's own sums of {names} differ at height {height}"


def _print(document: dict[str, Any]) -> None:
    rows = [[row[column] for column in COLUMNS] for row in document["assets"]]
    print_table([column.replace("_", " ") for column in COLUMNS], rows, empty="no assets")
    print()
    print_fields(
        {
            "exchange": f"height {document['height']}",
            "chain": f"id {document['chain_id']}, block {document['block']}",
            "contract": document["contract"],
        }
    )
