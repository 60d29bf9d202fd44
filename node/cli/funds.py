"""`omninode account deposit|withdraw|claim`: money from and to the settlement chain."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from omninode.dex.actions import SUBACCOUNT_MAX
from omninode.errors import ConfigError
from omninode.node.cli.accounts import (
    FromAccount,
    KeystoreFolder,
    PasswordFile,
    account_address,
    keystore_folder,
    unlock,
)
from omninode.node.cli.amounts import positive_decimal, split_subaccount
from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.order import Wait, require_accepted
from omninode.node.cli.output import emit, note, print_fields
from omninode.node.cli.steps import shown_steps
from omninode.node.funds.limits import WITHDRAWAL_ID_MAX

Asset = Annotated[str, typer.Option(help="Such as USDC.")]
Amount = Annotated[str, typer.Option(help="In units of the asset, such as 12.5.")]
WaitCredited = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the exchange has credited it.")
]


def deposit(
    *,
    account: FromAccount,
    asset: Asset,
    amount: Amount,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ACCOUNT",
            help="Who gets it on the exchange: address or name, with /N or not. Default: the same"
            " account.",
        ),
    ] = None,
    subaccount: Annotated[
        int, typer.Option(min=0, max=SUBACCOUNT_MAX, help="Subaccount that gets it.")
    ] = 0,
    wait: WaitCredited = True,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Move tokens from the settlement chain to the exchange, through the node's own eth_* calls.

    Waits also while the settlement chain does not answer.
    """
    import trio

    from omninode.crypto import parse_address
    from omninode.node.cli.settlement import deposit_funds

    units = positive_decimal(amount, flag="--amount")
    name, subaccount = _receiver(to, subaccount)
    receiver = None if name is None else parse_address(account_address(name, keystore=keystore))
    key = unlock(account, keystore=keystore, password_file=password_file)
    with connect(rpc) as node, shown_steps() as tell:
        document: dict[str, Any] = trio.run(
            partial(
                deposit_funds,
                node,
                key,
                asset,
                units,
                account=receiver or key.address,
                subaccount=subaccount,
                wait=wait,
                tell=tell,
            )
        )
    emit(document, lambda: print_fields(document))


def withdraw(
    *,
    account: FromAccount,
    asset: Asset,
    amount: Amount,
    recipient: Annotated[
        str | None,
        typer.Option(
            metavar="ACCOUNT",
            help="Who gets the tokens on the settlement chain. Default: the same account.",
        ),
    ] = None,
    subaccount: Annotated[int, typer.Option(min=0, help="Number of the paying subaccount.")] = 0,
    wait: Wait = True,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Move free funds off the exchange; `account claim` then gets the tokens."""
    import trio

    from omninode.crypto import checksum_address
    from omninode.node.cli.settlement import check_withdrawal, find_withdrawal
    from omninode.node.cli.transactions import send, sign_action

    units = positive_decimal(amount, flag="--amount")
    if recipient is not None and "/" in recipient:
        raise ConfigError(
            f"--recipient {recipient}: an account of the settlement chain has no subaccounts",
            hint="leave the /N out; --subaccount N names the paying one",
        )
    receiver = None if recipient is None else account_address(recipient, keystore=keystore)
    key = unlock(account, keystore=keystore, password_file=password_file)
    with connect(rpc) as node, shown_steps() as tell:
        address = checksum_address(key.address)
        fields = {
            "type": "withdraw",
            "subaccount": subaccount,
            "asset": asset,
            "amount": units,
            "recipient": receiver or address,
        }
        check_withdrawal(node, address, subaccount, asset, units, receiver or address)
        transaction = sign_action(node, key, fields, nonces=keystore_folder(keystore))
        tell("withdrawing")
        sent = send(node, transaction, wait=wait)
        document: dict[str, Any] = {"transaction": sent.hash, "state": "received"}
        if sent.result is not None:
            require_accepted({"transaction": sent.hash, **sent.result})
            document = trio.run(find_withdrawal, node, address, sent.hash)
    emit(document, lambda: _print_withdrawal(document, account))


def claim(
    withdrawal: Annotated[
        int,
        typer.Argument(metavar="ID", min=0, max=WITHDRAWAL_ID_MAX, help="The withdrawal's id."),
    ],
    *,
    account: FromAccount,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Get the tokens of a withdrawal; waits for its checkpoint. --from only pays the gas.

    Waits also while the settlement chain does not answer. It is safe to repeat: a withdrawal is
    paid once.
    """
    import trio

    from omninode.node.cli.settlement import claim_funds

    key = unlock(account, keystore=keystore, password_file=password_file)
    with connect(rpc) as node, shown_steps() as tell:
        document = trio.run(partial(claim_funds, node, key, withdrawal, tell=tell))
    emit(document, lambda: print_fields(document))


def _receiver(to: str | None, subaccount: int) -> tuple[str | None, int]:
    """Return whose account gets a deposit, `None` for one's own, and which subaccount."""
    if to is None:
        return None, subaccount
    name, number = split_subaccount(to)
    if "/" not in to:
        return name, subaccount
    if subaccount not in {0, number}:
        raise ConfigError(f"--to {to} and --subaccount {subaccount} name two subaccounts")
    if number > SUBACCOUNT_MAX:
        raise ConfigError(f"--to {to}: a subaccount's number is at most {SUBACCOUNT_MAX}")
    return name, number


def _print_withdrawal(document: dict[str, Any], account: str) -> None:
    print_fields(document)
    if "id" in document:
        note(f"get the tokens: omninode account claim {document['id']} --from {account}")
