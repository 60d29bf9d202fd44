"""Why a transaction in a block may have been refused: the words in results, for the reference.

Admission refuses most of it before, with the same words where they are in the list of errors; what
is here is what the state of a transaction's turn in its block says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEANINGS: Final[Mapping[str, str]] = {
    "not_authorised": "the signer may not do this: no approval, no such permission, no validator",
    "unknown_market": "genesis has no such market",
    "unknown_asset": "genesis has no such asset",
    "unknown_order": "no open order of this subaccount has that id or client id",
    "unknown_agent": "the session key is not approved",
    "off_tick": "the price is no multiple of the market's tick",
    "off_lot": "the size is no multiple of the market's lot",
    "off_grid": "the amount has more decimals than the asset",
    "malformed": "the amount is too large",
    "price_out_of_range": "the price is too far from the last trade, or too large",
    "size_out_of_range": "the size is too large",
    "amount_out_of_range": "the amount is too large",
    "notional_out_of_range": "price times size is above the market's largest order",
    "below_min_notional": "price times size is below the market's smallest order",
    "below_filled": "the new size is not above what is filled",
    "insufficient_balance": "there is not enough free",
    "duplicate_client_id": "an order with this client id was there before",
    "too_many_open_orders": "the account has as many open orders as it may",
    "would_cross": "a post-only order would trade at once",
    "no_liquidity": "a market order finds an empty side",
    "fok_unfillable": "the book can not fill the order whole",
    "same_account": "from a subaccount to itself",
    "invalid_agent": "an account's own key as its session key",
    "expired": "the approval would end in the past",
    "too_many_agents": "the account has as many session keys as it may",
    "no_settlement": "the network has no settlement chain",
    "not_withdrawable": "the asset has no token on the settlement chain",
    "invalid_recipient": "nobody could move what is sent there: the zero address, the token, the "
    "settlement contract",
    "stale_attestation": "it ends below the deposits that are credited",
    "too_far_ahead": "it ends too far above the deposits that are credited",
    "unknown_parent": "it follows a deposit that the state does not know",
    "wrong_hash": "its deposits do not lead to the hash it names",
    "checkpoint_closed": "no checkpoint of this number waits: it, or a later one, has its quorum, "
    "or there is none yet",
    "already_signed": "the checkpoint has this validator's signature",
    "bad_signature": "it is not this validator's signature of the checkpoint",
}

_BOTH: Final = (
    "not_authorised",
    "unknown_market",
    "off_lot",
    "size_out_of_range",
    "off_tick",
    "price_out_of_range",
    "notional_out_of_range",
    "below_min_notional",
    "would_cross",
    "insufficient_balance",
)

REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "place_order": (
        *_BOTH,
        "duplicate_client_id",
        "too_many_open_orders",
        "no_liquidity",
        "fok_unfillable",
    ),
    "cancel_order": ("not_authorised", "unknown_order"),
    "cancel_all": ("not_authorised", "unknown_market"),
    "replace_order": (*_BOTH, "unknown_order", "below_filled"),
    "transfer": (
        "not_authorised",
        "unknown_asset",
        "same_account",
        "off_grid",
        "amount_out_of_range",
        "insufficient_balance",
    ),
    "approve_agent": ("not_authorised", "invalid_agent", "expired", "too_many_agents"),
    "revoke_agent": ("not_authorised", "unknown_agent"),
    "withdraw": (
        "not_authorised",
        "no_settlement",
        "unknown_asset",
        "not_withdrawable",
        "invalid_recipient",
        "off_grid",
        "malformed",
        "insufficient_balance",
    ),
    "attest_deposits": (
        "not_authorised",
        "no_settlement",
        "stale_attestation",
        "too_far_ahead",
        "unknown_parent",
        "wrong_hash",
    ),
    "sign_checkpoint": (
        "not_authorised",
        "no_settlement",
        "checkpoint_closed",
        "already_signed",
        "bad_signature",
    ),
}
"""Reasons by the JSON form's `type`; a batch has those of the actions in it, one for each."""
