"""`omninode account`: balances, fills, transfers; `funds.py` has deposits and withdrawals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from omninode.errors import ConfigError
from omninode.node.cli.accounts import (
    FromAccount,
    KeystoreFolder,
    PasswordFile,
    account_address,
)
from omninode.node.cli.amounts import positive_decimal, split_subaccount
from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.funds import claim, deposit, withdraw
from omninode.node.cli.order import Wait, submit
from omninode.node.cli.output import emit, print_table

app = typer.Typer()
app.command("deposit")(deposit)
app.command("withdraw")(withdraw)
app.command("claim")(claim)

FILL_COLUMNS: Final = (
    "time_ms",
    "market",
    "side",
    "price",
    "size",
    "fee",
    "liquidity",
    "order_id",
)

Account = Annotated[
    str | None,
    typer.Argument(
        metavar="[ACCOUNT]",
        help="Name of a keystore, or an address; ACCOUNT/N names a subaccount.",
        show_default=False,
    ),
]
Owner = Annotated[
    str | None, typer.Option("--from", metavar="ACCOUNT", help="The same, as elsewhere.")
]


@app.command("show")
def show(
    account: Account = None,
    *,
    owner: Owner = None,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
) -> None:
    """Show an account's balances; no password is needed."""
    address = _asked(_named(account, owner), keystore=keystore)
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getAccount", {"address": address})
    emit(document, lambda: _print_account(document))


@app.command("fills")
def fills(
    account: Account = None,
    *,
    owner: Owner = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Newest fills to show.")] = 20,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
) -> None:
    """Show an account's newest fills; no password is needed."""
    params = {"address": _asked(_named(account, owner), keystore=keystore), "limit": limit}
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getFills", params)
        # A page of one subaccount ends where the node has looked at enough of the others' rows.
        while document["next"] is not None and (left := limit - len(document["fills"])) > 0:
            place = {"limit": left, "before": document["next"]}
            page = node.call("omni_getFills", params | place)
            document["fills"] += page["fills"]
            document["next"] = page["next"]
    rows = [[fill.get(column) for column in FILL_COLUMNS] for fill in document["fills"]]
    emit(document, lambda: print_table(FILL_COLUMNS, rows, empty="no fills yet"))


@app.command("transfer")
def transfer(
    *,
    account: FromAccount,
    to: Annotated[
        str, typer.Option(metavar="ACCOUNT", help="Who gets it: address or name, with /N or not.")
    ],
    asset: Annotated[str, typer.Option(help="Such as USDC.")],
    amount: Annotated[str, typer.Option(help="In units of the asset, such as 12.5.")],
    subaccount: Annotated[int, typer.Option(min=0, help="Number of the paying subaccount.")] = 0,
    wait: Wait = True,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Move free funds to another account, or to another subaccount of one's own."""
    receiver, to_subaccount = split_subaccount(to)
    fields = {
        "type": "transfer",
        "subaccount": subaccount,
        "to": account_address(receiver, keystore=keystore),
        "to_subaccount": to_subaccount,
        "asset": asset,
        "amount": positive_decimal(amount, flag="--amount"),
    }
    submit(fields, account, wait=wait, rpc=rpc, keystore=keystore, password_file=password_file)


def _named(argument: str | None, flag: str | None) -> str:
    name = argument if argument is not None else flag
    if name is None:
        raise ConfigError("name the account", hint="its keystore's name, or its address")
    return name


def _asked(who: str, *, keystore: Path | None) -> str:
    """Return the address to ask about; it names a subaccount only if `who` does."""
    name, subaccount = split_subaccount(who)
    address = account_address(name, keystore=keystore)
    return f"{address}/{subaccount}" if "/" in who else address


def _print_account(document: dict[str, Any]) -> None:
    rows = [
        [part["account"], balance["asset"], balance["free"], balance["held"], balance["total"]]
        for part in document["subaccounts"]
        for balance in part["balances"]
    ]
    columns = ["account", "asset", "free", "held", "total"]
    print_table(columns, rows, empty=f"{document['address']} owns nothing here")
