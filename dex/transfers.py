"""Moving free funds between accounts and subaccounts."""

from __future__ import annotations

from omninode.dex.actions import Transfer
from omninode.dex.decimals import parse_units
from omninode.dex.events import Transferred
from omninode.dex.state import Context, State
from omninode.encoding import amount_to_bytes
from omninode.errors import Malformed, Rejected


def transfer(state: State, context: Context, action: Transfer) -> None:
    """Move free funds; a session key moves them among its own account's subaccounts only (S3).

    Raises:
        Rejected: `not_authorised`, `unknown_asset`, `same_account`, `amount_out_of_range`,
            `off_grid`, `insufficient_balance`.
    """
    own = action.to == context.account
    if not context.may("transfer") or (context.permissions is not None and not own):
        raise Rejected("not_authorised", "the session key may not move these funds")
    asset = state.genesis.asset_index.get(action.asset)
    if asset is None:
        raise Rejected("unknown_asset", f"there is no asset {action.asset}")
    if own and action.to_subaccount == action.subaccount:
        raise Rejected("same_account", "a transfer to the subaccount it comes from")
    try:
        amount = parse_units(action.amount, state.genesis.assets[asset].decimals)
    except Malformed as error:
        raise Rejected("amount_out_of_range", str(error)) from None
    source = state.accounts.find(context.account, action.subaccount)
    if source is None or source.free(asset) < amount:
        raise Rejected("insufficient_balance", f"not enough free {action.asset}")
    state.accounts.debit(source.balance(asset), amount)
    target = state.accounts.account(action.to, action.to_subaccount)
    state.accounts.credit(target.balance(asset), amount)
    state.open_orders.events.append(
        Transferred(
            context.account,
            action.subaccount,
            action.to,
            action.to_subaccount,
            action.asset,
            amount_to_bytes(amount),
        )
    )
