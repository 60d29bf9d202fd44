"""The house's quotes: where they stand, and when they are filled up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from omninode.dex.actions import Batch
from omninode.node.devnet.house import LEVELS, quotes, refills


def open_order(market: str, side: str, price: str, remaining: str) -> dict[str, Any]:
    return {"market": market, "side": side, "price": price, "remaining": remaining}


def all_open() -> list[dict[str, Any]]:
    return [open_order(q.market, q.side, q.price, q.size) for q in quotes()]


def test_xom_between_its_quotes_is_free_for_others() -> None:
    bids = [Decimal(q.price) for q in quotes() if (q.market, q.side) == ("XOM-USDC", "buy")]
    offers = [Decimal(q.price) for q in quotes() if (q.market, q.side) == ("XOM-USDC", "sell")]
    assert max(bids) == Decimal("0.99")
    assert min(offers) == Decimal("1.01")
    assert len(bids) == len(offers) == LEVELS


def test_eth_is_quoted_around_3000() -> None:
    bids = [Decimal(q.price) for q in quotes() if (q.market, q.side) == ("ETH-USDC", "buy")]
    offers = [Decimal(q.price) for q in quotes() if (q.market, q.side) == ("ETH-USDC", "sell")]
    assert max(bids) < 3000 < min(offers)


def test_bitcoin_is_left_to_the_recorded_flow() -> None:
    assert "BTC-USDC" not in {quote.market for quote in quotes()}


def test_everything_is_placed_at_first_post_only() -> None:
    request = refills([], "r", 0)
    assert request is not None
    assert isinstance(request.action, Batch)
    assert len(request.action.orders) == request.orders == 4 * LEVELS
    assert all(order.post_only for order in request.action.orders)
    assert len({order.client_id for order in request.action.orders}) == 4 * LEVELS


def test_nothing_is_placed_when_all_is_there() -> None:
    assert refills(all_open(), "r", 1) is None


def test_a_level_is_filled_up_when_less_than_half_is_left() -> None:
    orders = [order for order in all_open() if order["price"] not in ("0.99", "1.01")]
    orders += [
        open_order("XOM-USDC", "buy", "0.99", "300"),
        open_order("XOM-USDC", "buy", "0.99", "100"),
        open_order("XOM-USDC", "sell", "1.01", "500"),
    ]
    request = refills(orders, "r", 2)
    assert request is not None
    assert isinstance(request.action, Batch)
    (order,) = request.action.orders
    assert (order.side, order.price, order.size) == ("buy", "0.99", "600")
