"""`omninode stake`: a validator's stake, asked for on the settlement chain."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode.errors import ConfigError
from omninode.node.cli.accounts import (
    FromAccount,
    KeystoreFolder,
    PasswordFile,
    account_address,
    unlock,
)
from omninode.node.cli.amounts import positive_decimal
from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.invocation import current
from omninode.node.cli.output import cell, emit, note, print_fields
from omninode.node.cli.steps import shown_steps

if TYPE_CHECKING:
    from omninode.node.cli.staking import Request

app = typer.Typer()

Amount = Annotated[str, typer.Option(help="In units of the stake's asset, such as 1000.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
WaitTaken = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the exchange has taken it.")
]


@app.command("register")
def register(
    *,
    account: FromAccount,
    amount: Amount,
    wait: WaitTaken = True,
    yes: Yes = False,
    validator_password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the password of the home's vote key. Default: the one that `init` made,"
            " else a prompt.",
            show_default=False,
        ),
    ] = None,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Register the validator of this home, with its first stake. --from becomes its owner.

    Its node need not run yet. It joins the set at the end of an epoch once it has caught up.
    """
    from omninode.crypto import parse_address
    from omninode.node.cli.staking import Request, open_access, read_identity
    from omninode.node.funds.calls import REGISTER

    units = positive_decimal(amount, flag="--amount")
    owner = parse_address(account_address(account, keystore=keystore))
    home = current().home
    with connect(rpc) as node, open_access(node, home, is_named=rpc is not None) as access:
        identity, shown = read_identity(home, access.terms, owner, validator_password_file)
    request = Request(
        "register", REGISTER, amount=units, brings=True, identity=identity, shown=shown
    )
    _send(request, account, rpc, keystore, password_file, wait=wait, yes=yes)


@app.command("deposit")
def deposit(
    *,
    account: FromAccount,
    amount: Amount,
    wait: WaitTaken = True,
    yes: Yes = False,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Stake more for the validator that --from owns."""
    from omninode.node.cli.staking import Request
    from omninode.node.funds.calls import ADD_STAKE

    units = positive_decimal(amount, flag="--amount")
    request = Request("deposit", ADD_STAKE, amount=units, brings=True)
    _send(request, account, rpc, keystore, password_file, wait=wait, yes=yes)


@app.command("withdraw")
def withdraw(
    *,
    account: FromAccount,
    amount: Amount,
    wait: WaitTaken = True,
    yes: Yes = False,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Ask some stake back. After unbonding it is a withdrawal: `account claim` gets it."""
    from omninode.node.cli.staking import Request
    from omninode.node.funds.calls import UNSTAKE

    units = positive_decimal(amount, flag="--amount")
    request = Request("withdraw", UNSTAKE, amount=units)
    _send(request, account, rpc, keystore, password_file, wait=wait, yes=yes)


@app.command("exit")
def leave(
    *,
    account: FromAccount,
    wait: WaitTaken = True,
    yes: Yes = False,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Take the validator out of the set, and ask all of its stake back. As `withdraw`."""
    from omninode.node.cli.staking import Request
    from omninode.node.funds.calls import EXIT

    _send(Request("exit", EXIT), account, rpc, keystore, password_file, wait=wait, yes=yes)


@app.command("unjail")
def unjail(
    *,
    account: FromAccount,
    wait: WaitTaken = True,
    yes: Yes = False,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Let a jailed validator in again, after a whole epoch in jail."""
    from omninode.node.cli.staking import Request
    from omninode.node.funds.calls import UNJAIL

    _send(Request("unjail", UNJAIL), account, rpc, keystore, password_file, wait=wait, yes=yes)


@app.command("status")
def status(
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="The owner: name of a keystore, or address.")
    ],
    *,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
) -> None:
    """Show an owner's stake on both sides: in the contract, and on the exchange."""
    import trio

    from omninode.crypto import parse_address
    from omninode.node.cli.staking import open_access, read_status

    owner = parse_address(account_address(account, keystore=keystore))
    home = current().home
    with (
        connect(rpc) as node,
        open_access(node, home, is_named=rpc is not None) as access,
        shown_steps() as tell,
    ):
        document: dict[str, Any] = trio.run(partial(read_status, access, owner, tell=tell))
    emit(document, lambda: _print_status(document))


def _send(
    request: Request,
    account: str,
    rpc: str | None,
    keystore: Path | None,
    password_file: Path | None,
    *,
    wait: bool,
    yes: bool,
) -> None:
    """Show a request, have it confirmed, send it, and print what became of it."""
    import trio

    from omninode.node.cli.staking import change_stake, open_access, plan_request

    key = unlock(account, keystore=keystore, password_file=password_file)
    home = current().home
    with connect(rpc) as node, open_access(node, home, is_named=rpc is not None) as access:
        with shown_steps() as tell:
            plan = trio.run(partial(plan_request, access, key, request, tell=tell))
        _confirm(plan.shown, yes=yes)
        with shown_steps() as tell:
            document: dict[str, Any] = trio.run(
                partial(change_stake, access, key, request, plan, wait=wait, tell=tell)
            )
    emit(document, lambda: print_fields(document))


def _confirm(shown: dict[str, Any], *, yes: bool) -> None:
    """Show a transaction, and ask whether to send it.

    Raises:
        ConfigError: It must be confirmed, and nobody can be asked.
    """
    from omninode.node.keys.passwords import can_prompt

    width = max(map(len, shown))
    note("\n".join(f"{name:<{width}}  {cell(value)}" for name, value in shown.items()))
    if yes:
        return
    if not can_prompt():
        raise ConfigError("a stake's transaction must be confirmed", hint="say --yes")
    typer.confirm("Send it?", abort=True, err=True)


def _print_status(document: dict[str, Any]) -> None:
    print_fields({name: document[name] for name in ("owner", "asset")})
    for side in ("contract", "exchange"):
        values = document[side]
        if values is None:
            note(f"{side}: not asked, the node does not run")
            continue
        standing = values.get("validator") or {}
        flat = {name: value for name, value in values.items() if name != "validator"}
        plain = {n: v for n, v in standing.items() if not isinstance(v, (dict, list))}
        print_fields({f"{side}.{name}": value for name, value in {**flat, **plain}.items()})
