"""What the exchange rejected, as a failure of the command that asked for it, with the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omninode.node.cli.failures import CommandFailed

_MARKETS: Final = "`omninode market list` shows each market's steps and bounds"
_ACCOUNT: Final = "`omninode account show` tells what is free"

HINTS: Final[Mapping[str, str]] = {
    "insufficient_balance": _ACCOUNT,
    "not_authorised": "sign with the account's own key",
    "unknown_asset": "`omninode account show` lists the assets of an account",
    "unknown_market": "`omninode market list` has the markets",
    "unknown_order": "`omninode order list` has the open orders",
    "off_tick": _MARKETS,
    "off_lot": _MARKETS,
    "price_out_of_range": "`omninode market book` shows the prices",
    "size_out_of_range": "make it smaller",
    "amount_out_of_range": "make it smaller",
    "notional_out_of_range": "make it smaller",
    "below_min_notional": "make it larger",
    "would_cross": "leave --post-only out, or take a worse price",
    "no_liquidity": "wait for offers, or place a limit order",
    "fok_unfillable": "make it smaller, or use --tif ioc",
    "duplicate_client_id": "choose another --client-id",
    "too_many_open_orders": "cancel some first",
    "bond_too_small": "give a larger --bond",
    "too_many_commits": "wait until a batch is cleared",
    "batch_full": "wait until a batch is cleared",
    "self_trade": "place only one side, or prices that do not cross",
    "same_account": "name another account or subaccount",
}
"""What to do next, by the exchange's reason."""


def rejected(what: str, reason: str, document: dict[str, Any]) -> CommandFailed:
    """Return the failure for something that a block has and the exchange rejected.

    Args:
        what: What it was, for people.
        reason: The exchange's.
        document: What is known of it, for `--json`.
    """
    words = reason.replace("_", " ")
    failed = CommandFailed(reason, f"{what} was rejected: {words}", document=document)
    failed.hint = HINTS.get(reason, "nothing was changed; check what you asked for")
    return failed
