"""Money in and out: deposits, withdrawals and their proofs, checkpoints, the supply."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from omninode.crypto import checksum_address
from omninode.dex.bridge.evm import withdrawal_leaf
from omninode.dex.documents import account_text, asset_text
from omninode.dex.events import DepositCredited
from omninode.encoding import amount_from_bytes
from omninode.errors import UserError
from omninode.node.rpc import settlement_results as results
from omninode.node.rpc.context import Context
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import (
    LIMIT_DEFAULT,
    Height,
    Limit,
    ListedText,
    read_address,
    read_limit,
)
from omninode.node.rpc.registry import Params, method
from omninode.node.rpc.settlement_reads import (
    certified_document,
    checkpoint_on_chain,
    contract_text,
    struct_document,
    withdraw_calldata,
)
from omninode.storage.records import StoredCheckpoint, StoredDeposit, StoredWithdrawal

Document = dict[str, Any]
Index = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class GetDeposits(Params, frozen=True):
    """Whose deposits, and which page of them; with `/N`, only what that subaccount got."""

    address: ListedText
    before: Annotated[
        Index | None, msgspec.Meta(description="Only deposits with a lower `index`.")
    ] = None
    limit: Limit = LIMIT_DEFAULT


class GetWithdrawals(Params, frozen=True):
    """Whose withdrawals, and which page of them; with `/N`, only that subaccount's."""

    address: ListedText
    before: Annotated[
        Index | None, msgspec.Meta(description="Only withdrawals with a lower `id`.")
    ] = None
    limit: Limit = LIMIT_DEFAULT


class GetCheckpoint(Params, frozen=True):
    """Which checkpoint: the newest one at or below a height; by default the newest of all."""

    height: Annotated[Height | None, msgspec.Meta(description="A height of the exchange.")] = None


class GetWithdrawalProof(Params, frozen=True):
    """Which withdrawal."""

    id: Annotated[Index, msgspec.Meta(description="As `omni_getWithdrawals` has it.")]


@method("omni_getDeposits", result=results.Deposits, cost=2)
def get_deposits(context: Context[Services], params: GetDeposits) -> Document:
    """List the deposits of an account that the exchange has credited, newest first.

    With `/N` a page may hold fewer than `limit`, even none, and not be the last: `next` tells. What
    was ignored went to no subaccount, and is listed without `/N` only.
    """
    node = context.node
    address, subaccount = read_address(params.address)
    limit = read_limit(params.limit, node.list_max)
    page = node.history.bridge.deposits(
        address, limit=limit, before=params.before, subaccount=subaccount
    )
    return {
        "height": node.exchange.height,
        "address": checksum_address(address),
        "credited_count": node.exchange.state.bridge.deposits.credited.count,
        "deposits": [_deposit(node, row) for row in page.rows],
        "next": page.next,
    }


def _deposit(node: Services, stored: StoredDeposit) -> Document:
    event = stored.event
    if isinstance(event, DepositCredited):
        address = account_text(event.account, event.subaccount)
        asset, amount = event.asset, asset_text(node.genesis, event.asset, event.amount)
    else:
        address = checksum_address(event.account)
        asset, amount = None, str(amount_from_bytes(event.amount))
    return {
        "index": event.index,
        "address": address,
        "asset": asset,
        "token": checksum_address(event.token),
        "amount": amount,
        "height": stored.height,
        "time_ms": stored.time_ms,
        "state": "ignored" if asset is None else "credited",
    }


@method("omni_getWithdrawals", result=results.Withdrawals, cost=2)
def get_withdrawals(context: Context[Services], params: GetWithdrawals) -> Document:
    """List an account's withdrawals with how far they are, newest first.

    With `/N` a page may hold fewer than `limit`, even none, and not be the last: `next` tells.
    """
    node = context.node
    address, subaccount = read_address(params.address)
    limit = read_limit(params.limit, node.list_max)
    page = node.history.bridge.withdrawals(
        address, limit=limit, before=params.before, subaccount=subaccount
    )
    certified = _covered(node.history.bridge.checkpoint_at())
    claimable = _covered(checkpoint_on_chain(node))
    return {
        "height": node.exchange.height,
        "address": checksum_address(address),
        "withdrawals": [
            _withdrawal(node, row, certified=certified, claimable=claimable) for row in page.rows
        ],
        "next": page.next,
    }


def _covered(stored: StoredCheckpoint | None) -> int:
    """Return how many withdrawals a checkpoint covers."""
    return 0 if stored is None else stored.certified.checkpoint.withdrawal_count


def _withdrawal(
    node: Services, stored: StoredWithdrawal, *, certified: int, claimable: int
) -> Document:
    event = stored.event
    if node.settlement is not None and node.settlement.is_claimed(event.index):
        state = "claimed"
    elif event.index < claimable:
        state = "claimable"
    else:
        state = "checkpointed" if event.index < certified else "requested"
    return {
        "id": event.index,
        "address": account_text(event.account, event.subaccount),
        "asset": event.asset,
        "token": checksum_address(event.token),
        "amount": asset_text(node.genesis, event.asset, event.amount),
        "recipient": checksum_address(event.recipient),
        "height": stored.height,
        "time_ms": stored.time_ms,
        "transaction": "0x" + event.transaction_hash.hex(),
        "state": state,
    }


@method(
    "omni_getCheckpoint",
    result=results.CheckpointShown,
    errors=("unknown_checkpoint", "no_settlement"),
)
def get_checkpoint(context: Context[Services], params: GetCheckpoint) -> Document:
    """Return the newest certified checkpoint at or below a height, as the contract takes it."""
    node = context.node
    contract_text(node)
    stored = node.history.bridge.checkpoint_at(params.height)
    if stored is None:
        where = "yet" if params.height is None else f"at or below height {params.height}"
        raise UserError("unknown_checkpoint", f"no checkpoint is certified {where}")
    return certified_document(node, stored)


@method(
    "omni_getWithdrawalProof",
    result=results.WithdrawalProof,
    errors=(
        "unknown_withdrawal",
        "not_checkpointed",
        "catching_up",
        "no_settlement",
        "settlement_off",
        "settlement_unreachable",
    ),
    cost=2,
)
def get_withdrawal_proof(context: Context[Services], params: GetWithdrawalProof) -> Document:
    """Return what the contract needs to pay a withdrawal out.

    `calldata` is ready to be sent to `contract`, by anybody and without value. Who builds the call
    takes `checkpoint`, which is the contract's own struct with its own member names, then `index`,
    `token`, `recipient`, `amount_units` and `proof`. The proof is against the newest checkpoint
    that the contract holds, and stays good for the 256 checkpoints after it.
    """
    node = context.node
    contract = contract_text(node)
    stored = node.history.bridge.withdrawal(params.id)
    if stored is None:
        raise UserError("unknown_withdrawal", f"there is no withdrawal {params.id}")
    checkpoint = _claimable_against(node, params.id).certified.checkpoint
    event = stored.event
    amount = amount_from_bytes(event.amount)
    proof = node.history.bridge.withdrawal_proof(params.id, count=checkpoint.withdrawal_count)
    leaf = withdrawal_leaf(event.index, event.token, event.recipient, amount)
    return {
        "id": event.index,
        "index": event.index,
        "asset": event.asset,
        "token": checksum_address(event.token),
        "recipient": checksum_address(event.recipient),
        "amount": asset_text(node.genesis, event.asset, event.amount),
        "amount_units": str(amount),
        "leaf": "0x" + leaf.hex(),
        "proof": ["0x" + sibling.hex() for sibling in proof],
        "checkpoint": struct_document(checkpoint),
        "contract": contract,
        "chain_id": node.genesis.settlement_chain_id,
        "calldata": "0x" + withdraw_calldata(checkpoint, event, proof).hex(),
    }


def _claimable_against(node: Services, index: int) -> StoredCheckpoint:
    """Return the contract's newest checkpoint, which covers a withdrawal.

    Raises:
        UserError: The reason why there is none.
    """
    settlement = node.settlement
    if settlement is None or settlement.status().state == "off":
        raise UserError("settlement_off", "this node has no endpoint of the settlement chain")
    number = settlement.newest_checkpoint()
    if number is None and settlement.status().state != "following":
        raise UserError("settlement_unreachable", settlement.status().detail)
    on_chain = checkpoint_on_chain(node)
    if on_chain is not None and index < on_chain.certified.checkpoint.withdrawal_count:
        return on_chain
    if number is not None and on_chain is None:
        raise UserError(
            "catching_up", f"this node has not come to the contract's checkpoint {number} yet"
        )
    raise UserError(
        "not_checkpointed", f"no checkpoint that the contract holds covers withdrawal {index}"
    )


@method("omni_getSupply", result=results.Supply, cost=20)
def get_supply(context: Context[Services], params: Params) -> Document:
    """Add up what everybody owns, and tell what it came from.

    With very many accounts the answer may be some blocks old; it is true for its `height`.
    """
    del params
    return context.node.supply.read()
