"""The open orders of all markets: who has them, how they are found, which changed in this block.

It tells the rest of the state and the event feed about every change of an order; the book itself
(levels, priority) is changed by the callers. Compiled by mypyc where that is asked for.
"""

from __future__ import annotations

from omninode.dex.accounts import Account
from omninode.dex.book import Order
from omninode.dex.events import Event, OrderRecord, OrderUpdated
from omninode.dex.fees import hold_needed
from omninode.dex.markets import MarketSpec
from omninode.encoding import amount_from_bytes, amount_to_bytes

OPEN = "open"
PARTIALLY_FILLED = "partially_filled"
FILLED = "filled"
CANCELLED = "cancelled"

_ZERO_AMOUNT = amount_to_bytes(0)


class OpenOrders:
    """Every resting order by its id; `changed` has the new record (or None: gone) of this block."""

    __slots__ = ("by_id", "changed", "events")

    def __init__(self) -> None:
        self.by_id: dict[bytes, Order] = {}
        self.changed: dict[bytes, OrderRecord | None] = {}
        self.events: list[Event] = []

    def opened(self, order: Order) -> None:
        """Register an order that came to rest."""
        account = order.account
        self.by_id[order.order_id] = order
        account.orders[order.order_id] = order
        account.owner.open_orders += 1
        if order.client_id:
            account.by_client_id[order.client_id] = order

    def updated(self, order: Order) -> None:
        """Report an open order's new state (opened, replaced, partially filled)."""
        record = order_record(order)
        self.changed[order.order_id] = record
        state = OPEN if order.remaining == order.size else PARTIALLY_FILLED
        self.events.append(OrderUpdated(record, state))

    def closed(self, order: Order, state: str, reason: str) -> None:
        """Forget an order that no longer rests, and report why."""
        account = order.account
        del self.by_id[order.order_id]
        del account.orders[order.order_id]
        account.owner.open_orders -= 1
        if order.client_id:
            del account.by_client_id[order.client_id]
        if order.is_stored:
            self.changed[order.order_id] = None
        else:
            self.changed.pop(order.order_id, None)
        self.events.append(OrderUpdated(order_record(order), state, reason))

    def finished(self, order: Order, state: str, reason: str) -> None:
        """Report the end of an order that never rested."""
        self.events.append(OrderUpdated(order_record(order), state, reason))


def restored_order(record: OrderRecord, account: Account, spec: MarketSpec) -> Order:
    """Return the order that a record was made of, in no book yet."""
    order = Order(
        record.order_id,
        account,
        spec.name,
        record.is_buy,
        record.price,
        record.size,
        record.order_type,
        record.tif,
        record.post_only,
        record.client_id,
        record.height,
        record.time_ms,
    )
    order.remaining = record.size - record.filled
    order.notional = amount_from_bytes(record.notional)
    order.fee_numerator = amount_from_bytes(record.fee_numerator)
    order.fees = amount_from_bytes(record.fees)
    order.sequence = record.sequence
    if order.is_buy:
        order.hold = hold_needed(
            spec,
            price=order.price,
            remaining=order.remaining,
            notional=order.notional,
            fee_numerator=order.fee_numerator,
        )
    return order


def order_record(order: Order) -> OrderRecord:
    """Return the order as records and events have it."""
    account = order.account
    if order.notional:
        notional = amount_to_bytes(order.notional)
        fee_numerator = amount_to_bytes(order.fee_numerator)
        fees = amount_to_bytes(order.fees)
    else:
        notional = fee_numerator = fees = _ZERO_AMOUNT
    return OrderRecord(
        order.order_id,
        account.owner.address,
        account.subaccount,
        order.market,
        order.is_buy,
        order.order_type,
        order.tif,
        order.post_only,
        order.client_id,
        order.price,
        order.size,
        order.size - order.remaining,
        notional,
        fee_numerator,
        fees,
        order.sequence,
        order.height,
        order.time_ms,
    )
