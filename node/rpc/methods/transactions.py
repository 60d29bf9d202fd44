"""Sending transactions and learning what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
import trio

from omninode.crypto import checksum_address, keccak256
from omninode.dex.action_json import action_to_json, typed_data_from_json
from omninode.dex.actions import ApproveAgent, RevokeAgent, Transfer
from omninode.dex.documents import event_document, fill_document, item_document
from omninode.dex.eip712 import Domain
from omninode.dex.events import (
    AgentApproved,
    AgentRevoked,
    Event,
    OrderRejected,
    OrderUpdated,
    SealedCommitted,
    SealedRevealed,
    Trade,
    Transferred,
    WithdrawalRequested,
)
from omninode.dex.transaction import Transaction, decode_transaction
from omninode.dex.views import limits_view
from omninode.errors import UserError
from omninode.node.rpc import results
from omninode.node.rpc.context import Context
from omninode.node.rpc.errors import NoAnswerYet
from omninode.node.rpc.limits import CALL_TIMEOUT_S, SYNC_TIMEOUT_MS_MAX
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import (
    LIMIT_DEFAULT,
    AccountText,
    CursorText,
    HashText,
    Limit,
    TransactionHex,
    read_account,
    read_cursor,
    read_hash,
    read_limit,
    write_cursor,
)
from omninode.node.rpc.registry import Params, method
from omninode.storage.records import StoredTransaction

Document = dict[str, Any]

REFUSALS: Final = (
    "malformed",
    "bad_signature",
    "nonce_used",
    "nonce_out_of_window",
    "not_authorised",
    "insufficient_balance",
    "unknown_market",
    "unknown_asset",
    "off_tick",
    "off_lot",
    "off_grid",
    "same_account",
    "no_settlement",
    "not_withdrawable",
    "invalid_recipient",
    "mempool_full",
)


class SendTransaction(Params, frozen=True):
    """What to send."""

    tx: TransactionHex


class SendTransactionSync(Params, frozen=True):
    """What to send, and how long to wait."""

    tx: TransactionHex
    timeout_ms: Annotated[
        int,
        msgspec.Meta(ge=1, le=SYNC_TIMEOUT_MS_MAX, description="How long to wait for the result."),
    ] = 10_000


class GetTransaction(Params, frozen=True):
    """Which transaction."""

    hash: HashText


class GetTransactions(Params, frozen=True):
    """Whose transactions, and which page of them."""

    address: AccountText
    before: CursorText | None = None
    limit: Limit = LIMIT_DEFAULT


class GetTypedData(Params, frozen=True):
    """What is to be signed."""

    action: Annotated[
        dict[str, Any],
        msgspec.Meta(description="The action's JSON form, with `type`, `account` and `nonce`."),
    ]


class GetLimits(Params, frozen=True):
    """Whose limits."""

    address: AccountText


@method("omni_sendTransaction", result=results.Sent, errors=REFUSALS)
async def send_transaction(context: Context[Services], params: SendTransaction) -> Document:
    """Take a signed transaction: durable here and handed to the validators.

    Its state is `received`; one that is sent again may be `final` already.
    """
    raw = bytes.fromhex(params.tx[2:])
    # Asked before: one that is new may become final while it is being acknowledged.
    was_final = context.node.chain.transaction(keccak256(raw)) is not None
    transaction_hash = await _submit(context.node, raw)
    return {"hash": "0x" + transaction_hash.hex(), "state": "final" if was_final else "received"}


async def _submit(node: Services, raw: bytes) -> bytes:
    transaction_hash = await node.door.submit(raw)
    if node.chain.transaction(transaction_hash) is None:
        # It may be executed already and not stored yet: then nobody holds it.
        held = node.door.body(transaction_hash)
        node.receipts.acknowledged(held or decode_transaction(raw))
    return transaction_hash


@method(
    "omni_sendTransactionSync",
    result=results.FinalResult,
    errors=(*REFUSALS, "timeout", "busy"),
    timeout_s=SYNC_TIMEOUT_MS_MAX / 1000 + CALL_TIMEOUT_S,
)
async def send_transaction_sync(
    context: Context[Services], params: SendTransactionSync
) -> Document:
    """Take a signed transaction and answer with its result when it is final.

    After `timeout` it may still become final: `omni_getTransaction` tells.
    """
    node = context.node
    raw = bytes.fromhex(params.tx[2:])
    with node.receipts.waiting(keccak256(raw)) as wait:
        transaction_hash = await _submit(node, raw)
        final = node.chain.transaction(transaction_hash)
        if final is None:
            with trio.move_on_after(params.timeout_ms / 1000):
                await wait.stored.wait()
    if wait.receipt is not None:
        return _final_result(node, wait.receipt.final, wait.receipt.events)
    if final is None:
        raise NoAnswerYet(
            f"transaction 0x{transaction_hash.hex()} is not final after {params.timeout_ms} ms",
            hint="omni_getTransaction tells what becomes of it",
        )
    return _final_result(node, final, node.chain.events(final.height))


def _final_result(
    node: Services, final: StoredTransaction, block_events: Iterable[Event]
) -> Document:
    transaction, result = decode_transaction(final.raw), final.result
    events = list(_events_of(transaction, final, block_events))
    place: dict[str, int] = {"height": final.height, "time_ms": final.time_ms}
    return {
        "hash": "0x" + result.hash.hex(),
        "state": "final",
        **place,
        "index": final.index,
        "code": result.code,
        "reason": result.reason,
        "items": [item_document(node.genesis, item) for item in result.items],
        "events": [event_document(node.genesis, event, **place) for event in events],
        "fills": [
            fill_document(node.genesis.market_specs[event.market], event, is_taker=side, **place)
            for event in events
            if isinstance(event, Trade)
            for side, account in ((False, event.maker), (True, event.taker))
            if account == transaction.account
        ],
    }


def _events_of(
    transaction: Transaction, final: StoredTransaction, events: Iterable[Event]
) -> Iterable[Event]:
    """Choose the events that concern a transaction's orders, funds or session key."""
    orders = {item.order_id for item in final.result.items if item.order_id}
    action, account = transaction.action, transaction.account
    for event in events:
        match event:
            case OrderUpdated(order=order):
                concerned = order.order_id in orders
            case OrderRejected() | SealedCommitted() | SealedRevealed():
                concerned = event.order_id in orders
            case Trade():
                concerned = event.taker_order_id in orders or event.maker_order_id in orders
            case Transferred():
                concerned = (
                    isinstance(action, Transfer)
                    and (event.sender, event.recipient) == (account, action.to)
                    and event.sender_subaccount == action.subaccount
                    and event.recipient_subaccount == action.to_subaccount
                )
            case WithdrawalRequested(transaction_hash=transaction_hash):
                concerned = transaction_hash == transaction.hash
            case AgentApproved() | AgentRevoked():
                concerned = (
                    isinstance(action, ApproveAgent | RevokeAgent)
                    and event.account == account
                    and event.agent == action.agent
                )
            case _:
                concerned = False
        if concerned:
            yield event


@method("omni_getTransaction", result=results.TransactionShown, errors=("unknown_transaction",))
def get_transaction(context: Context[Services], params: GetTransaction) -> Document:
    """Tell a transaction's state: `received`, `final` with its result, or `expired`.

    `expired` is proven: chain time has passed the nonce's window. A transaction that this node has
    not seen is `unknown_transaction`; another node may know it.
    """
    node, transaction_hash = context.node, read_hash(params.hash)
    final = node.chain.transaction(transaction_hash)
    if final is not None:
        return _stored(node, final)
    held = node.door.body(transaction_hash)
    if held is not None:
        window_ms = node.genesis.consensus.nonce_window_ms
        state = "expired" if held.nonce + window_ms < node.exchange.time_ms else "received"
        return _unfinished(params.hash, state, held)
    remembered = node.receipts.state_of(transaction_hash, chain_time_ms=node.exchange.time_ms)
    if remembered is None:
        raise UserError(
            "unknown_transaction",
            "this node has not seen the transaction, or not for a long time",
        )
    return _unfinished(params.hash, remembered, None)


@method("omni_getTransactions", result=results.Transactions, cost=5)
def get_transactions(context: Context[Services], params: GetTransactions) -> Document:
    """List the final transactions that acted for an account, newest first."""
    node = context.node
    address = read_account(params.address)
    limit = read_limit(params.limit, node.list_max)
    cursor = read_cursor(params.before, 2)
    before = None if cursor is None else (cursor[0], cursor[1])
    rows = node.history.transactions(address, limit=limit, before=before)
    last = write_cursor((rows[-1].height, rows[-1].index)) if len(rows) == limit else None
    return {
        "height": node.exchange.height,
        "address": checksum_address(address),
        "transactions": [_stored(node, row) for row in rows],
        "next": last,
    }


def _stored(node: Services, final: StoredTransaction) -> Document:
    return {
        "hash": "0x" + final.result.hash.hex(),
        "state": "final",
        "height": final.height,
        "index": final.index,
        "time_ms": final.time_ms,
        "code": final.result.code,
        "reason": final.result.reason,
        "items": [item_document(node.genesis, item) for item in final.result.items],
        **_content(decode_transaction(final.raw)),
    }


def _unfinished(text: str, state: str, held: Transaction | None) -> Document:
    return {
        "hash": text.lower(),
        "state": state,
        "height": None,
        "index": None,
        "time_ms": None,
        "code": None,
        "reason": None,
        "items": [],
        **({"action": None, "tx": None} if held is None else _content(held)),
    }


def _content(transaction: Transaction) -> Document:
    return {
        "action": action_to_json(transaction.account, transaction.nonce, transaction.action),
        "tx": "0x" + transaction.raw.hex(),
    }


@method("omni_getTypedData", result=results.TypedData, errors=("malformed",), reads_state=False)
def get_typed_data(context: Context[Services], params: GetTypedData) -> Document:
    """Return the EIP-712 document that a wallet signs for an action."""
    genesis = context.node.genesis
    domain = Domain(genesis.settlement_chain_id, genesis.hash)
    return typed_data_from_json(params.action, domain)


@method("omni_getLimits", result=results.Limits)
def get_limits(context: Context[Services], params: GetLimits) -> Document:
    """Tell what an account may still send, and which nonces are good now."""
    address = read_account(params.address)
    return limits_view(context.node.exchange, address)
