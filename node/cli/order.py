"""`omninode order`: place, cancel, list and show orders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from omninode.errors import ConfigError, UserError
from omninode.node.cli.accounts import (
    FromAccount,
    KeystoreFolder,
    PasswordFile,
    account_address,
    keystore_folder,
    unlock,
)
from omninode.node.cli.amounts import percent_to_ppm, positive_decimal, split_subaccount
from omninode.node.cli.endpoint import RpcUrl, connect
from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.invocation import not_supported
from omninode.node.cli.output import emit, print_fields, print_table
from omninode.node.cli.rejections import rejected
from omninode.node.cli.sealed import Lane
from omninode.node.cli.transactions import Sent, send, sign_action
from omninode.node.client import RpcClient

if TYPE_CHECKING:
    from omninode.crypto import SigningKey

app = typer.Typer()

LATER_FLAGS: Final = frozenset(
    {
        "--expires",
        "--reduce-only",
        "--quote-size",
        "--trigger-price",
        "--trigger-source",
        "--trail",
        "--trail-percent",
        "--visible",
        "--duration-s",
        "--interval-s",
        "--max-participation",
        "--take-profit-price",
        "--stop-price",
    }
)
"""Flags that the outside interface names and this version does not have yet."""

LATER_TYPES: Final = frozenset(
    {
        "stop",
        "stop-limit",
        "take-profit",
        "take-profit-limit",
        "trailing-stop",
        "iceberg",
        "twap",
        "vwap",
        "oco",
        "bracket",
        "pegged",
    }
)
COLUMNS: Final = ("order_id", "market", "side", "type", "price", "size", "filled", "state")
FILL_COLUMNS: Final = ("time_ms", "market", "side", "price", "size", "fee")

Subaccount = Annotated[int, typer.Option(min=0, help="Number of the subaccount.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the transaction is final.")
]
OrderId = Annotated[
    str | None, typer.Argument(metavar="[ORDER_ID]", help="The order's id.", show_default=False)
]
ClientId = Annotated[
    str | None, typer.Option("--client-id", metavar="ID", help="The trader's own id of the order.")
]


@app.command("place", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def place(
    context: typer.Context,
    *,
    account: FromAccount,
    market: Annotated[str, typer.Option(metavar="BASE-QUOTE", help="Such as XOM-USDC.")],
    side: Annotated[str, typer.Option(metavar="buy|sell")],
    size: Annotated[str, typer.Option(help="In base asset.")],
    price: Annotated[str | None, typer.Option(help="In quote asset, for a limit order.")] = None,
    kind: Annotated[str, typer.Option("--type", metavar="limit|market")] = "limit",
    tif: Annotated[
        str | None,
        typer.Option(metavar="gtc|ioc|fok", help="Default: gtc, of a market order ioc."),
    ] = None,
    post_only: Annotated[
        bool, typer.Option("--post-only", help="Only rest in the book, never take.")
    ] = False,
    slippage_percent: Annotated[
        str | None,
        typer.Option(help="Worst price of a market order beyond the best one. Default: 5."),
    ] = None,
    stp: Annotated[
        str, typer.Option(metavar="expire-maker", help="What gives way in a trade with oneself.")
    ] = "expire-maker",
    sealed: Annotated[
        bool,
        typer.Option("--sealed", help="Show the order only when its place in a batch is fixed."),
    ] = False,
    bond: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="What a sealed order that is not revealed loses. Default: what its size needs.",
        ),
    ] = None,
    client_id: ClientId = None,
    subaccount: Subaccount = 0,
    wait: Wait = True,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Place an order and print its id, state and fills."""
    _refuse_later(context.args)
    _check_words(side=side, kind=kind, tif=tif, stp=stp)
    if bond is not None and not sealed:
        raise ConfigError("--bond is for sealed orders", hint="add --sealed")
    fields: dict[str, Any] = {
        "type": "place_order",
        "subaccount": subaccount,
        "market": market,
        "side": side,
        "order_type": kind,
        "size": positive_decimal(size, flag="--size"),
        "post_only": post_only,
        "client_id": client_id or "",
        **_price_fields(kind, price, tif, slippage_percent),
    }
    with connect(rpc) as node:
        key = unlock(account, keystore=keystore, password_file=password_file)
        folder = keystore_folder(keystore)
        if sealed:
            amount = None if bond is None else positive_decimal(bond, flag="--bond")
            lane = Lane(node, key, folder, name=account)
            document = lane.place(fields, bond=amount, wait=wait)
        else:
            document = _place_openly(node, key, fields, nonces=folder, wait=wait)
    _report_order(document)


def _place_openly(
    node: RpcClient, key: SigningKey, fields: dict[str, Any], *, nonces: Path, wait: bool
) -> dict[str, Any]:
    """Place an order that everybody can read; return what is known of it."""
    from omninode.dex.transaction import order_id

    transaction = sign_action(node, key, fields, nonces=nonces)
    identifier = "0x" + order_id(transaction.hash, 0).hex()
    try:
        sent = send(node, transaction, wait=wait)
    except UserError as error:
        raise _with_order(error, identifier) from None
    document = {"order_id": identifier, "transaction": sent.hash}
    if sent.result is None:
        return {**document, "state": "received"}
    return document | _order_after(node, identifier, sent.result)


@app.command("reveal")
def reveal(
    order_id: OrderId = None,
    *,
    account: FromAccount,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Reveal sealed orders that an interrupted call left: one, or all of the account."""
    with connect(rpc) as node:
        key = unlock(account, keystore=keystore, password_file=password_file)
        orders = Lane(node, key, keystore_folder(keystore), name=account).resume(order_id)
    rows = [[order.get(column) for column in COLUMNS] for order in orders]
    document = {"orders": orders}
    emit(document, lambda: print_table(COLUMNS, rows, empty="no sealed orders to reveal"))


@app.command("cancel")
def cancel(
    order_id: OrderId = None,
    *,
    account: FromAccount,
    client_id: ClientId = None,
    subaccount: Subaccount = 0,
    wait: Wait = True,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Cancel one order, named by its id or by --client-id."""
    fields = {
        "type": "cancel_order",
        "subaccount": subaccount,
        "order_id": order_id or "",
        "client_id": client_id or "",
    }
    _require_one_name(order_id, client_id)
    submit(fields, account, wait=wait, rpc=rpc, keystore=keystore, password_file=password_file)


@app.command("cancel-all")
def cancel_all(
    *,
    account: FromAccount,
    market: Annotated[str | None, typer.Option(help="Only in this market.")] = None,
    subaccount: Subaccount = 0,
    wait: Wait = True,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
    password_file: PasswordFile = None,
) -> None:
    """Cancel all open orders of a subaccount."""
    fields = {"type": "cancel_all", "subaccount": subaccount, "market": market or ""}
    submit(fields, account, wait=wait, rpc=rpc, keystore=keystore, password_file=password_file)


@app.command("list")
def list_(
    *,
    account: FromAccount,
    market: Annotated[str | None, typer.Option(help="Only in this market.")] = None,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
) -> None:
    """List the open orders of an account (NAME, ADDRESS or either with /N for a subaccount)."""
    who, subaccount = split_subaccount(account)
    address = account_address(who, keystore=keystore)
    params: dict[str, Any] = {"address": f"{address}/{subaccount}"}
    if market is not None:
        params["market"] = market
    with connect(rpc) as node:
        answer: dict[str, Any] = node.call("omni_getOpenOrders", params)
    rows = [[order.get(column) for column in COLUMNS] for order in answer["orders"]]
    emit(answer, lambda: print_table(COLUMNS, rows, empty="no open orders"))


@app.command("show")
def show(
    order_id: OrderId = None,
    *,
    client_id: ClientId = None,
    account: Annotated[
        str | None,
        typer.Option("--from", metavar="ACCOUNT", help="Whose order --client-id names."),
    ] = None,
    rpc: RpcUrl = None,
    keystore: KeystoreFolder = None,
) -> None:
    """Show an order, named by its id or by --client-id with --from."""
    _require_one_name(order_id, client_id)
    params: dict[str, Any] = {"order_id": order_id}
    if client_id is not None:
        if account is None:
            raise ConfigError("--client-id needs the account", hint="name it with --from")
        who, subaccount = split_subaccount(account)
        address = account_address(who, keystore=keystore)
        params = {"address": f"{address}/{subaccount}", "client_id": client_id}
    with connect(rpc) as node:
        document: dict[str, Any] = node.call("omni_getOrder", params)
    emit(document, lambda: print_fields(document))


def _refuse_later(extra: list[str]) -> None:
    for argument in extra:
        flag = argument.partition("=")[0]
        if flag in LATER_FLAGS:
            raise not_supported(flag)
        if flag.startswith("-"):
            raise ConfigError(f"no such option: {flag}", hint="see `omninode order place --help`")
    if extra:
        raise ConfigError(f"unexpected: {' '.join(extra)[:200]}")


def _check_words(*, side: str, kind: str, tif: str | None, stp: str) -> None:
    if kind in LATER_TYPES:
        raise not_supported(f"--type {kind}", hint="this version has limit and market")
    if tif == "gtd":
        raise not_supported("--tif gtd", hint="this version has gtc, ioc and fok")
    if stp in {"expire-taker", "decrement"}:
        raise not_supported(f"--stp {stp}", hint="this version has expire-maker")
    _expect("--side", side, "buy", "sell")
    _expect("--type", kind, "limit", "market")
    _expect("--stp", stp, "expire-maker")
    if tif is not None:
        _expect("--tif", tif, "gtc", "ioc", "fok")


def _expect(flag: str, word: str, *words: str) -> None:
    if word not in words:
        raise ConfigError(f"{flag} {word}: expected {' or '.join(words)}")


def _price_fields(
    kind: str, price: str | None, tif: str | None, slippage_percent: str | None
) -> dict[str, Any]:
    if kind == "market":
        if price is not None:
            raise ConfigError(
                "a market order has no --price", hint="bound it with --slippage-percent"
            )
        fields: dict[str, Any] = {"tif": tif or "ioc"}
        if slippage_percent is not None:
            ppm = percent_to_ppm(slippage_percent, flag="--slippage-percent")
            fields["slippage_ppm"] = ppm
        return fields
    if price is None:
        raise ConfigError("a limit order needs --price", hint="or say --type market")
    if slippage_percent is not None:
        raise ConfigError("--slippage-percent is for market orders; a limit order has its --price")
    return {"price": positive_decimal(price, flag="--price"), "tif": tif or "gtc"}


def _require_one_name(order_id: str | None, client_id: str | None) -> None:
    if (order_id is None) == (client_id is None):
        raise ConfigError("name the order by its id or by --client-id, exactly one of them")


def _with_order(error: UserError, identifier: str) -> UserError:
    """Keep the order's id with the error: after a time-out the order may still arrive."""
    if error.reason != "timeout":
        return error
    failed = CommandFailed(
        error.reason, f"order {identifier} is not final yet", document={"order_id": identifier}
    )
    failed.hint = f"`omninode order show {identifier}` tells what became of it"
    return failed


def _order_after(node: RpcClient, identifier: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return the order as it is after its transaction, with its fills."""
    items = result.get("items") or [{}]
    if result.get("code") != "ok" and not items[0].get("status"):
        return {"state": "rejected", "reason": result.get("reason", "")}
    order: dict[str, Any] = node.call("omni_getOrder", {"order_id": identifier})
    return {**order, "fills": result.get("fills", [])}


def _report_order(document: dict[str, Any]) -> None:
    if document.get("state") == "rejected":
        reason = str(document.get("reason") or "rejected")
        raise rejected("the order", reason, document)
    emit(document, lambda: _print_order(document))


def _print_order(document: dict[str, Any]) -> None:
    fills = document.get("fills") or []
    print_fields({name: value for name, value in document.items() if name != "fills"})
    if fills:
        print()
        rows = [[fill.get(column) for column in FILL_COLUMNS] for fill in fills]
        print_table(FILL_COLUMNS, rows, empty="no fills")


def submit(
    fields: dict[str, Any],
    account: str,
    *,
    wait: bool,
    rpc: str | None,
    keystore: Path | None,
    password_file: Path | None,
) -> None:
    """Sign one action, send it and print what became of it."""
    with connect(rpc) as node:
        key = unlock(account, keystore=keystore, password_file=password_file)
        transaction = sign_action(node, key, fields, nonces=keystore_folder(keystore))
        sent = send(node, transaction, wait=wait)
    report_sent(sent)


def report_sent(sent: Sent) -> None:
    """Print what became of a transaction; a rejected one is a failure."""
    document: dict[str, Any] = {"transaction": sent.hash}
    if sent.result is None:
        document["state"] = "received"
    else:
        document |= sent.result
    require_accepted(document)
    emit(document, lambda: print_fields(document))


def require_accepted(document: dict[str, Any]) -> None:
    """Refuse the result of a transaction that the exchange rejected.

    Raises:
        CommandFailed: With the document, and the exchange's reason.
    """
    if document.get("code") == "rejected":
        reason = str(document.get("reason") or "rejected")
        raise rejected("the transaction", reason, document)
