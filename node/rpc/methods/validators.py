"""Validators: who they are, what they stake, and what their scores are made of."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from omninode.dex.staking.views import (
    find_member,
    participation_document,
    validator_documents,
)
from omninode.errors import UserError
from omninode.node.rpc import validator_results as results
from omninode.node.rpc.context import Context
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import read_account
from omninode.node.rpc.registry import Params, method

Document = dict[str, Any]

_ADDRESS: Final = "The address of the validator's vote key, or of the stake's owner."


class GetParticipation(Params, frozen=True):
    """Whose."""

    address: Annotated[str, msgspec.Meta(min_length=42, max_length=46, description=_ADDRESS)]


@method("omni_getValidators", result=results.Validators, errors=("starting",))
def get_validators(context: Context[Services], params: Params) -> Document:
    """List the validators of the present epoch, then those who are registered and not in it."""
    del params
    node = context.node
    state = node.exchange.state
    rows = validator_documents(state)
    return {
        "height": node.exchange.height,
        "epoch": state.validator_set.epoch,
        "total_power": state.validator_set.total_power,
        "validators": rows[: max(node.list_max, len(state.validator_set.validators))],
    }


@method(
    "omni_getParticipation",
    result=results.Participation,
    errors=("starting", "no_staking", "unknown_validator"),
)
def get_participation(context: Context[Services], params: GetParticipation) -> Document:
    """Show every component of a validator's score, its inputs, and what moved since the last cut.

    A score follows the epoch's raw score by a quarter: `score = (3 * previous_score + raw) / 4`.
    """
    node = context.node
    address = read_account(params.address)
    state = node.exchange.state
    if not state.staking.is_on:
        raise UserError("no_staking", "the network has no staking")
    member = find_member(state, address)
    if member is None:
        raise UserError("unknown_validator", f"nobody has registered as {params.address}")
    return {"height": node.exchange.height, **participation_document(state, member)}
