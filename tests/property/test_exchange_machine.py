"""The exchange against a naive model of a spot market, under every mix of actions.

The model keeps its book as one plain list and its money as exact fractions, rounded where the fee
rules say so; it shares no code with the engine. After every block: the same open orders in the same
priority, the same trades, the same money to the last base unit, every invariant, and a database
that gives the same exchange back.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exchange_world import ALICE, BOB, BTC, CAROL, DEVELOPMENT, TREASURY, World, order
from omninode.crypto import keccak256
from omninode.dex.actions import Batch, CancelAll, CancelOrder, ReplaceOrder
from omninode.dex.decimals import format_units
from omninode.dex.events import Trade
from omninode.dex.exchange import Exchange
from omninode.dex.fees import VALIDATOR_POOL

TRADERS = (ALICE, BOB, CAROL)
PRICES = st.integers(9_997, 10_003)
PASSIVE = st.sampled_from([1, 1, 2, 2, 3, -1, -2])
"""How far from the middle an order stays away; negative: it crosses the middle."""

SIZES = st.integers(1, 30)
LOT = 10_000_003
"""Lots of the model in lots of the market: funds run out in long runs, and nothing is round."""

MAKER, TAKER = Fraction(1, 1_000), Fraction(2, 1_000)
SLIPPAGE = 250
"""In ppm; about two and a half ticks at these prices."""


@dataclass
class Resting:
    """An order of the model."""

    order_id: bytes
    owner: bytes
    is_buy: bool
    price: int
    size: int
    remaining: int
    spent: Fraction = Fraction(0)
    fee: Fraction = Fraction(0)


class Model:
    """Price-time priority over a list: oldest first, searched from end to end for every match."""

    def __init__(self) -> None:
        self.resting: list[Resting] = []
        self.trades: list[tuple[bytes, bytes, int, int]] = []
        self.usdc: dict[bytes | str, int] = dict.fromkeys((*TRADERS, "pots"), 0)
        self.btc = dict.fromkeys(TRADERS, 0)
        for trader in TRADERS:
            self.usdc[trader] = 10**12
            self.btc[trader] = 10**9

    def best(self, *, is_buy: bool) -> Resting | None:
        """Return the order that an arriving buy (or sell) would meet first."""
        found = [o for o in self.resting if o.is_buy != is_buy]
        if not found:
            return None
        prices = [o.price for o in found]
        price = min(prices) if is_buy else max(prices)
        return next(o for o in found if o.price == price)

    def crosses(self, taker: Resting, limit: int) -> Resting | None:
        maker = self.best(is_buy=taker.is_buy)
        if maker is None or (maker.price > limit if taker.is_buy else maker.price < limit):
            return None
        return maker

    def fillable(self, owner: bytes, *, is_buy: bool, limit: int) -> int:
        """Add up what others offer at the limit or better."""
        return sum(
            o.remaining
            for o in self.resting
            if o.is_buy != is_buy
            and o.owner != owner
            and (o.price <= limit if is_buy else o.price >= limit)
        )

    def match(self, taker: Resting, limit: int) -> None:
        while taker.remaining:
            maker = self.crosses(taker, limit)
            if maker is None:
                return
            if maker.owner == taker.owner:
                self.resting.remove(maker)
                continue
            lots = min(maker.remaining, taker.remaining)
            self.trades.append((taker.order_id, maker.order_id, maker.price, lots))
            self.settle(taker, maker, Fraction(maker.price * lots * LOT, 10_000), lots * LOT)
            maker.remaining -= lots
            taker.remaining -= lots
            if not maker.remaining:
                self.resting.remove(maker)

    def settle(self, taker: Resting, maker: Resting, price: Fraction, base: int) -> None:
        """Move the money of one fill; a buyer's rounding goes on over its order's fills."""
        buyer, seller = (taker, maker) if taker.is_buy else (maker, taker)
        paid = ceil(buyer.spent + price) - ceil(buyer.spent)
        fee_rate = TAKER if taker.is_buy else MAKER
        paid += ceil(buyer.fee + price * fee_rate) - ceil(buyer.fee)
        buyer.spent += price
        buyer.fee += price * fee_rate
        gained = floor(price) - ceil(price * (MAKER if taker.is_buy else TAKER))
        self.usdc[buyer.owner] -= paid
        self.usdc[seller.owner] += gained
        self.usdc["pots"] += paid - gained
        self.btc[buyer.owner] += base
        self.btc[seller.owner] -= base


class ExchangeMachine(RuleBasedStateMachine):
    """Random actions to both."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model = Model()
        self.trades: list[tuple[bytes, bytes, int, int]] = []

    def _do(self, trader: bytes, action: Any) -> Any:
        result = self.world.do(trader, action)
        self.trades += [
            (t.taker_order_id, t.maker_order_id, t.price, t.size // LOT)
            for t in self.world.of_type(Trade)
        ]
        return result

    @rule(
        trader=st.sampled_from(TRADERS),
        is_buy=st.booleans(),
        away=PASSIVE,
        size=SIZES,
        kind=st.sampled_from(["gtc", "gtc", "gtc", "ioc", "fok", "post_only"]),
    )
    def limit(self, *, trader: bytes, is_buy: bool, away: int, size: int, kind: str) -> None:
        price = 10_000 - away if is_buy else 10_000 + away
        action = order(
            "buy" if is_buy else "sell",
            format_units(size * LOT, 8),
            format_units(price, 2),
            tif="gtc" if kind == "post_only" else kind,
            post_only=kind == "post_only",
        )
        fillable = self.model.fillable(trader, is_buy=is_buy, limit=price)
        crossing = self.model.crosses(Resting(b"", trader, is_buy, price, size, size), price)
        free = self.world.balance(trader, "USDC" if is_buy else "BTC")[0]
        result = self._do(trader, action)
        taker = Resting(result.items[0].order_id, trader, is_buy, price, size, size)
        cost = Fraction(price * size * LOT, 10_000)
        needed = ceil(cost) + ceil(cost * TAKER) if is_buy else size * LOT
        if kind == "post_only" and crossing is not None:
            assert result.reason == "would_cross"
        elif kind == "fok" and fillable < size:
            assert result.reason == "fok_unfillable"
        elif needed > free:
            assert result.reason == "insufficient_balance"
        else:
            assert result.code == "ok", result.reason
            self.model.match(taker, price)
            if taker.remaining and kind in ("gtc", "post_only"):
                self.model.resting.append(taker)
            assert result.items[0].filled == (size - taker.remaining) * LOT

    @rule(is_buy=st.booleans(), away=st.integers(1, 2), sizes=st.lists(SIZES, max_size=8))
    def queue(self, *, is_buy: bool, away: int, sizes: list[int]) -> None:
        """Many small orders of all traders at one price."""
        for place, size in enumerate(sizes):
            trader = TRADERS[place % len(TRADERS)]
            self.limit(trader=trader, is_buy=is_buy, away=away, size=1 + size // 10, kind="gtc")

    @rule(trader=st.sampled_from(TRADERS), is_buy=st.booleans(), size=SIZES)
    def market(self, *, trader: bytes, is_buy: bool, size: int) -> None:
        best = self.model.best(is_buy=is_buy)
        result = self._do(
            trader,
            order("buy" if is_buy else "sell", format_units(size * LOT, 8), slippage_ppm=SLIPPAGE),
        )
        if best is None:
            assert result.reason == "no_liquidity"
            return
        if result.code == "rejected":
            assert result.reason == "insufficient_balance"
            return
        bound = Fraction(SLIPPAGE, 1_000_000) * best.price
        limit = floor(best.price + bound) if is_buy else ceil(best.price - bound)
        taker = Resting(result.items[0].order_id, trader, is_buy, 0, size, size)
        self.model.match(taker, limit)
        assert result.items[0].filled == (size - taker.remaining) * LOT

    @precondition(lambda self: self.model.resting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.model.resting))
        assert self._do(chosen.owner, CancelOrder(0, chosen.order_id, "")).code == "ok"
        self.model.resting.remove(chosen)

    @precondition(lambda self: self.model.resting)
    @rule(data=st.data(), price=PRICES, size=SIZES)
    def replace(self, data: st.DataObject, price: int, size: int) -> None:
        chosen = data.draw(st.sampled_from(self.model.resting))
        filled = chosen.size - chosen.remaining
        result = self._do(
            chosen.owner,
            ReplaceOrder(
                0,
                BTC,
                chosen.order_id,
                "",
                format_units(size * LOT, 8),
                format_units(price, 2),
            ),
        )
        if size <= filled:
            assert result.reason == "below_filled"
        if result.code == "rejected":
            assert result.reason in ("below_filled", "insufficient_balance", "would_cross")
            return
        if price == chosen.price and size < chosen.size:
            chosen.size, chosen.remaining = size, size - filled
            return
        self.model.resting.remove(chosen)
        chosen.price, chosen.size, chosen.remaining = price, size, size - filled
        self.model.match(chosen, price)
        if chosen.remaining:
            self.model.resting.append(chosen)

    @rule(trader=st.sampled_from(TRADERS))
    def cancel_all(self, trader: bytes) -> None:
        result = self._do(trader, CancelAll(0, ""))
        mine = [o for o in self.model.resting if o.owner == trader]
        assert [item.order_id for item in result.items] == [o.order_id for o in mine]
        self.model.resting = [o for o in self.model.resting if o.owner != trader]

    @rule(
        sender=st.sampled_from(TRADERS),
        to=st.sampled_from(TRADERS),
        amount=st.integers(1, 10**6 + 1),
    )
    def transfer(self, sender: bytes, to: bytes, amount: int) -> None:
        free = self.world.balance(sender, "USDC")[0]
        result = self.world.transfer(sender, to, str(amount))
        if sender == to:
            assert result.reason == "same_account"
        else:
            assert (result.code == "ok") == (amount * 10**6 <= free)
        if result.code == "ok":
            self.model.usdc[sender] -= amount * 10**6
            self.model.usdc[to] += amount * 10**6

    @rule(
        trader=st.sampled_from(TRADERS), action=st.sampled_from(["tick", "lot", "market", "funds"])
    )
    def refused(self, trader: bytes, action: str) -> None:
        """What is refused changes nothing but the nonces."""
        before = {k: v for k, v in self.world.records().items() if k[:1] not in b"nh"}
        broken = {
            "tick": order("buy", "1", "100.001"),
            "lot": order("sell", "0.000000001", "100"),
            "market": order("buy", "1", "100", market="NO-SUCH"),
            "funds": order("buy", "1000000", "100"),
        }[action]
        assert self._do(trader, broken).code == "rejected"
        empty = Batch((CancelOrder(0, keccak256(b"nothing"), ""),), (), (broken,))
        assert {item.status for item in self._do(trader, empty).items} == {"rejected"}
        assert {k: v for k, v in self.world.records().items() if k[:1] not in b"nh"} == before

    @rule(after_ms=st.sampled_from([1, 100, 40_000, 70_000]))
    def time_passes(self, after_ms: int) -> None:
        self.world.apply(after_ms=after_ms)

    @rule()
    def restart(self) -> None:
        """Go on from the database alone."""
        loaded = Exchange.load(self.world.exchange.rules, self.world.database.items())
        assert loaded.app_hash == self.world.exchange.app_hash
        self.world.exchange = loaded

    @invariant()
    def same_book(self) -> None:
        book = self.world.exchange.state.markets[BTC].book
        for is_buy, levels in ((True, book.bids), (False, book.asks)):
            for price, level in levels.items():
                queue = []
                resting = level.head
                while resting is not None:
                    queue.append((resting.order_id, resting.remaining // LOT))
                    resting = resting.next
                assert queue == [
                    (o.order_id, o.remaining)
                    for o in self.model.resting
                    if o.is_buy == is_buy and o.price == price
                ]
        assert len(self.model.resting) == len(self.world.exchange.state.open_orders.by_id)

    @invariant()
    def same_money(self) -> None:
        for trader in TRADERS:
            assert sum(self.world.balance(trader, "USDC")) == self.model.usdc[trader]
            assert sum(self.world.balance(trader, "BTC")) == self.model.btc[trader]
        pots = (VALIDATOR_POOL, TREASURY, DEVELOPMENT)
        collected = sum(sum(self.world.balance(pot, "USDC")) for pot in pots)
        assert collected == self.model.usdc["pots"]

    @invariant()
    def same_trades(self) -> None:
        assert self.trades == self.model.trades

    @invariant()
    def the_database_is_the_state(self) -> None:
        if self.world.exchange.height:
            assert self.world.database == self.world.records()


TestExchangeMachine = ExchangeMachine.TestCase
TestExchangeMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
