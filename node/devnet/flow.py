"""The recorded order flow as actions of many accounts. No clock, no chance, no input or output.

Rules
    F1. An order goes to a buyer or a seller by its side, and among those by its number; its cancel
        to the same account. Buyers never sell and sellers never buy, so nobody trades with itself.
    F2. A client id is `RUN-ROUND-NUMBER`: no two runs, and no two rounds of one, share any.
    F3. A round begins with the opening book (the events at ms 0): first each trader cancels what it
        has open, then the orders come in batches. When the file ends, the next round begins so.
    F4. A cancel names its order by client id and may overtake it on its way through another
        validator: the exchange remembers it for the order that comes later (PROTOCOL.md P4).
    F5. What no order of ours can say is left out: a price or an amount of 0 (the shipped file has
        22 bids below one cent), and the cancel of an order that was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from omninode.dex.actions import (
    BATCH_ITEMS_MAX,
    DEFAULT_SLIPPAGE_PPM,
    Action,
    Batch,
    CancelAll,
    CancelOrder,
    PlaceOrder,
)
from omninode.dex.decimals import format_units
from omninode.dex.replay import MARKET, PRICE_DECIMALS, SIZE_DECIMALS, Operation, Replay


@dataclass(frozen=True, slots=True)
class Request:
    """What one account is to sign and send; `orders` is how many operations it carries."""

    trader: str
    action: Action
    orders: int


class Flow:
    """Turns recorded operations into requests.

    Args:
        replay: The recorded flow.
        run: A text of this run alone, letters and digits (F2).
        buyers: Names of the accounts that buy.
        sellers: Names of the accounts that sell.
    """

    def __init__(
        self, replay: Replay, *, run: str, buyers: Sequence[str], sellers: Sequence[str]
    ) -> None:
        sides: dict[int, bool] = {}
        opening: list[Operation] = []
        live: list[Operation] = []
        for operation in replay.operations:
            if operation.kind == "C":
                if operation.number not in sides:
                    continue  # F5
            elif not operation.amount or not (operation.price or operation.kind == "M"):
                continue
            else:
                sides[operation.number] = operation.is_buy
            (live if operation.time_ms else opening).append(operation)
        self.live: Final = tuple(live)
        self.traders: Final = (*buyers, *sellers)
        self._opening = tuple(opening)
        self._sides = sides
        self._run = run
        self._buyers = tuple(buyers)
        self._sellers = tuple(sellers)

    def clearing(self) -> Iterator[Request]:
        """Yield what empties the book of this flow's own orders (F3)."""
        for trader in self.traders:
            yield Request(trader, CancelAll(0, MARKET), 1)

    def opening(self, number: int) -> Iterator[Request]:
        """Yield the opening book of a round, in batches (F3)."""
        yield from self.pack(number, self._opening)

    def request(self, number: int, operation: Operation) -> Request:
        """Return one operation of a round as a request."""
        return Request(self._trader(operation.number), self._action(number, operation), 1)

    def pack(self, number: int, operations: Sequence[Operation]) -> Iterator[Request]:
        """Yield operations of a round as one batch per account, or more where one is too long."""
        by_trader: dict[str, list[CancelOrder | PlaceOrder]] = {}
        for operation in operations:
            action = self._action(number, operation)
            by_trader.setdefault(self._trader(operation.number), []).append(action)
        for trader, actions in by_trader.items():
            for start in range(0, len(actions), BATCH_ITEMS_MAX):
                yield _batch(trader, actions[start : start + BATCH_ITEMS_MAX])

    def _trader(self, order_number: int) -> str:
        side = self._buyers if self._sides[order_number] else self._sellers
        return side[order_number % len(side)]

    def _client_id(self, number: int, order_number: int) -> str:
        return f"{self._run}-{number}-{order_number}"

    def _action(self, number: int, operation: Operation) -> CancelOrder | PlaceOrder:
        client_id = self._client_id(number, operation.number)
        if operation.kind == "C":
            return CancelOrder(0, b"", client_id)
        is_market = operation.kind == "M"
        return PlaceOrder(
            subaccount=0,
            market=MARKET,
            side="buy" if operation.is_buy else "sell",
            order_type="market" if is_market else "limit",
            size=format_units(operation.amount, SIZE_DECIMALS),
            price="" if is_market else format_units(operation.price, PRICE_DECIMALS),
            tif="ioc" if is_market else "gtc",
            post_only=operation.kind == "P",
            slippage_ppm=DEFAULT_SLIPPAGE_PPM if is_market else 0,
            client_id=client_id,
        )


def _batch(trader: str, actions: Sequence[CancelOrder | PlaceOrder]) -> Request:
    """Put actions under one signature; a batch does its cancels before its orders."""
    cancels = tuple(action for action in actions if isinstance(action, CancelOrder))
    orders = tuple(action for action in actions if isinstance(action, PlaceOrder))
    return Request(trader, Batch(cancels=cancels, replaces=(), orders=orders), len(actions))
