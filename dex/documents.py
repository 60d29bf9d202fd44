"""Records, events and results as JSON-ready documents: decimal text, hex, words.

Nothing here looks at the state: a history can show what it kept long after the fact. Reads of the
state are in `views`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omninode.crypto import checksum_address
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.deposits import STAKE_KINDS, Disagreement
from omninode.dex.decimals import DECIMALS_MAX, format_units
from omninode.dex.events import (
    AgentApproved,
    AgentRevoked,
    BondBurnt,
    CheckpointCertified,
    CheckpointMade,
    DepositCredited,
    DepositDisagreement,
    DepositIgnored,
    Event,
    HandoverCertified,
    LevelChanged,
    OrderRecord,
    OrderRejected,
    OrderUpdated,
    SealedCleared,
    SealedCommitted,
    SealedRevealed,
    StakeIgnored,
    Trade,
    Transferred,
    WithdrawalRequested,
)
from omninode.dex.genesis import Genesis
from omninode.dex.markets import MarketSpec
from omninode.dex.outcomes import ItemResult, TransactionResult
from omninode.dex.staking.documents import staking_document
from omninode.encoding import amount_from_bytes

Document = dict[str, Any]

AVERAGE_EXTRA_DIGITS: Final = 6
"""An average price has up to this many digits more than the market's prices; the rest is cut."""


def price_text(spec: MarketSpec, ticks: int) -> str:
    """Write a price in ticks as quote asset per base asset."""
    return format_units(ticks * spec.tick, spec.price_decimals)


def size_text(spec: MarketSpec, lots: int) -> str:
    """Write a size in lots as base asset."""
    return format_units(lots * spec.lot, spec.size_decimals)


def quote_text(spec: MarketSpec, amount: bytes) -> str:
    """Write a 16-byte amount of the market's quote asset."""
    return format_units(amount_from_bytes(amount), spec.quote_decimals)


def average_price_text(spec: MarketSpec, notional: bytes, filled: int) -> str | None:
    """Write the mean price of `filled` lots that cost `notional`; None without fills."""
    if not filled:
        return None
    digits = min(spec.price_decimals + AVERAGE_EXTRA_DIGITS, DECIMALS_MAX)
    scale = 10 ** (digits - spec.price_decimals)
    units = amount_from_bytes(notional) * spec.tick * scale // filled
    return format_units(units, digits)


def account_text(address: bytes, subaccount: int) -> str:
    """Write a subaccount as `0xADDRESS/N`."""
    return f"{checksum_address(address)}/{subaccount}"


def order_document(spec: MarketSpec, order: OrderRecord, state: str, reason: str) -> Document:
    """Return the document of `omni_getOrder` and `order show`."""
    return {
        "order_id": "0x" + order.order_id.hex(),
        "client_id": order.client_id,
        "market": order.market,
        "side": "buy" if order.is_buy else "sell",
        "type": order.order_type,
        "tif": order.tif,
        "state": state,
        "reason": reason,
        "price": price_text(spec, order.price) if order.price else None,
        "size": size_text(spec, order.size),
        "filled": size_text(spec, order.filled),
        "remaining": size_text(spec, order.size - order.filled),
        "average_price": average_price_text(spec, order.notional, order.filled),
        "fees": quote_text(spec, order.fees),
        "height": order.height,
        "children": [],
    }


def rejected_order_document(event: OrderRejected, height: int) -> Document:
    """Return the same document for an order that was refused, or never revealed."""
    return {
        "order_id": "0x" + event.order_id.hex(),
        "client_id": event.client_id,
        "market": event.market,
        "side": event.side or None,
        "type": event.order_type or None,
        "tif": event.tif or None,
        "state": "rejected",
        "reason": event.reason,
        "price": event.price or None,
        "size": event.size or None,
        "filled": "0",
        "remaining": event.size or None,
        "average_price": None,
        "fees": "0",
        "height": height,
        "children": [],
    }


def trade_document(spec: MarketSpec, trade: Trade, *, height: int, time_ms: int) -> Document:
    """Return one public trade; `side` is the taker's."""
    return {
        "market": trade.market,
        "trade_id": trade.sequence,
        "price": price_text(spec, trade.price),
        "size": size_text(spec, trade.size),
        "side": "buy" if trade.taker_is_buy else "sell",
        "taker_order_id": "0x" + trade.taker_order_id.hex(),
        "maker_order_id": "0x" + trade.maker_order_id.hex(),
        "height": height,
        "time_ms": time_ms,
    }


def fill_document(
    spec: MarketSpec, trade: Trade, *, is_taker: bool, height: int, time_ms: int
) -> Document:
    """Return one side of a trade, as its trader sees it."""
    address = trade.taker if is_taker else trade.maker
    subaccount = trade.taker_subaccount if is_taker else trade.maker_subaccount
    order_id = trade.taker_order_id if is_taker else trade.maker_order_id
    return {
        "market": trade.market,
        "trade_id": trade.sequence,
        "account": account_text(address, subaccount),
        "order_id": "0x" + order_id.hex(),
        "side": "buy" if trade.taker_is_buy == is_taker else "sell",
        "price": price_text(spec, trade.price),
        "size": size_text(spec, trade.size),
        "liquidity": "taker" if is_taker else "maker",
        "fee": quote_text(spec, trade.taker_fee if is_taker else trade.maker_fee),
        "fee_asset": spec.quote,
        "height": height,
        "time_ms": time_ms,
    }


def result_document(rules: Genesis, result: TransactionResult) -> Document:
    """Return what became of a transaction."""
    return {
        "hash": "0x" + result.hash.hex(),
        "code": result.code,
        "reason": result.reason,
        "items": [item_document(rules, item) for item in result.items],
    }


def item_document(rules: Genesis, item: ItemResult) -> Document:
    """Return what became of one order, cancel or replacement."""
    document: Document = {"status": item.status, "reason": item.reason}
    if item.order_id or item.client_id:
        document["order_id"] = "0x" + item.order_id.hex() if item.order_id else None
        document["client_id"] = item.client_id
    spec = rules.market_rules(item.market)
    if spec is not None:
        document["market"] = item.market
        document["filled"] = size_text(spec, item.filled)
        document["average_price"] = average_price_text(spec, item.notional, item.filled)
        document["fees"] = quote_text(spec, item.fees)
    return document


def event_document(rules: Genesis, event: Event, *, height: int, time_ms: int) -> Document:
    """Return any event with its kind in `event`, for block documents and streams."""
    match event:
        case OrderUpdated():
            spec = rules.market_specs[event.order.market]
            order = order_document(spec, event.order, event.state, event.reason)
            return {"event": "order", "account": _owner(event.order), **order}
        case OrderRejected():
            account = account_text(event.account, event.subaccount)
            return {"event": "order", "account": account, **rejected_order_document(event, height)}
        case Trade():
            spec = rules.market_specs[event.market]
            return {
                "event": "trade",
                **trade_document(spec, event, height=height, time_ms=time_ms),
            }
        case LevelChanged():
            spec = rules.market_specs[event.market]
            return {
                "event": "level",
                "market": event.market,
                "side": "buy" if event.is_buy else "sell",
                "price": price_text(spec, event.price),
                "size": size_text(spec, event.size),
            }
        case Transferred():
            return _transfer_document(rules, event)
        case AgentApproved() | AgentRevoked():
            return _agent_document(event)
        case CheckpointMade(checkpoint=checkpoint):
            return {"event": "checkpoint", **checkpoint_document(checkpoint)}
        case CheckpointCertified(certified=certified):
            return {
                "event": "checkpoint_certified",
                **checkpoint_document(certified.checkpoint),
                "signers": [index for index, _ in certified.signatures],
            }
        case HandoverCertified(certified=certified_handover):
            handover = certified_handover.handover
            return {
                "event": "handover_certified",
                "epoch": handover.epoch,
                "next_epoch": handover.next_epoch,
                "next_set_hash": "0x" + handover.next_set_hash.hex(),
                "signers": [index for index, _ in certified_handover.signatures],
            }
        case (
            DepositCredited()
            | DepositIgnored()
            | StakeIgnored()
            | DepositDisagreement()
            | WithdrawalRequested()
        ):
            return _funds_document(rules, event)
        case SealedCommitted() | SealedRevealed() | SealedCleared() | BondBurnt():
            return _sealed_document(rules, event)
        case _:
            return staking_document(event)


def _owner(order: OrderRecord) -> str:
    return account_text(order.account, order.subaccount)


def asset_text(rules: Genesis, asset: str, amount: bytes) -> str:
    """Write a 16-byte amount of an asset in human units."""
    decimals = rules.assets[rules.asset_index[asset]].decimals
    return format_units(amount_from_bytes(amount), decimals)


def _transfer_document(rules: Genesis, event: Transferred) -> Document:
    return {
        "event": "transfer",
        "from": account_text(event.sender, event.sender_subaccount),
        "to": account_text(event.recipient, event.recipient_subaccount),
        "asset": event.asset,
        "amount": asset_text(rules, event.asset, event.amount),
    }


def _funds_document(
    rules: Genesis,
    event: DepositCredited
    | DepositIgnored
    | StakeIgnored
    | DepositDisagreement
    | WithdrawalRequested,
) -> Document:
    match event:
        case DepositCredited():
            return {
                "event": "deposit",
                "index": event.index,
                "account": account_text(event.account, event.subaccount),
                "asset": event.asset,
                "amount": asset_text(rules, event.asset, event.amount),
                "token": checksum_address(event.token),
            }
        case DepositIgnored():
            return {
                "event": "deposit_ignored",
                "index": event.index,
                "address": checksum_address(event.account),
                "token": checksum_address(event.token),
                "units": str(amount_from_bytes(event.amount)),
            }
        case StakeIgnored():
            return {
                "event": "stake_ignored",
                "index": event.index,
                "owner": checksum_address(event.owner),
                "kind": STAKE_KINDS[event.kind],
                "units": str(amount_from_bytes(event.amount)),
                "reason": event.reason,
            }
        case DepositDisagreement():
            return {"event": "deposit_disagreement", **disagreement_document(event)}
        case WithdrawalRequested():
            return {
                "event": "withdrawal",
                "index": event.index,
                "account": account_text(event.account, event.subaccount),
                "asset": event.asset,
                "amount": asset_text(rules, event.asset, event.amount),
                "token": checksum_address(event.token),
                "recipient": checksum_address(event.recipient),
                "transaction": "0x" + event.transaction_hash.hex(),
            }


def sealed_order_document(order_id: bytes, market: str, state: str, height: int) -> Document:
    """Return the document of an order of which only the market is known."""
    return {
        "order_id": "0x" + order_id.hex(),
        "client_id": "",
        "market": market,
        "side": None,
        "type": None,
        "tif": None,
        "state": state,
        "reason": "",
        "price": None,
        "size": None,
        "filled": "0",
        "remaining": None,
        "average_price": None,
        "fees": "0",
        "height": height,
        "children": [],
    }


_SEALED_NAMES: Final = {
    SealedCommitted: "sealed_committed",
    SealedRevealed: "sealed_revealed",
    BondBurnt: "bond_burnt",
}


def _sealed_document(
    rules: Genesis, event: SealedCommitted | SealedRevealed | SealedCleared | BondBurnt
) -> Document:
    spec = rules.market_specs[event.market]
    if isinstance(event, SealedCleared):
        return {
            "event": "sealed_cleared",
            "market": event.market,
            "batch": event.batch,
            "price": price_text(spec, event.price) if event.price else None,
            "size": size_text(spec, event.lots),
            "orders": event.orders,
        }
    document: Document = {
        "event": _SEALED_NAMES[type(event)],
        "account": account_text(event.account, event.subaccount),
        "order_id": "0x" + event.order_id.hex(),
        "market": event.market,
        "batch": event.batch,
        "bond": quote_text(spec, event.bond),
    }
    if isinstance(event, SealedCommitted):
        document["commitment"] = "0x" + event.commitment.hex()
    return document


def disagreement_document(disagreement: Disagreement | DepositDisagreement) -> Document:
    """Return which validators say what about the first deposit that they see differently."""
    return {
        "index": disagreement.index,
        "sides": [
            {"hash": "0x" + side.hex(), "validators": [checksum_address(a) for a in addresses]}
            for side, addresses in disagreement.sides
        ],
    }


def checkpoint_document(checkpoint: Checkpoint) -> Document:
    """Return a checkpoint's fields under their own names, hashes as 0x hex."""
    return {
        name: "0x" + value.hex() if isinstance(value, bytes) else value
        for name, value in msgspec.structs.asdict(checkpoint).items()
    }


def _agent_document(event: AgentApproved | AgentRevoked) -> Document:
    document: Document = {
        "event": "agent",
        "account": checksum_address(event.account),
        "agent": checksum_address(event.agent),
        "state": "revoked",
    }
    if isinstance(event, AgentApproved):
        document["state"] = "approved"
        document["name"] = event.name
        document["permissions"] = list(event.permissions)
        document["expires_ms"] = event.expires_ms
    return document
