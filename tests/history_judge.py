"""Judges what clients of an exchange saw, knowing nothing of how the exchange is made.

It reads blocks as a node shows them and keeps balances by itself: who traded or sent what to whom,
with what a market's fees are. All it imports is the standard library.

Rules
    J1. What was acknowledged is final, in one place, on every node; or provably expired: chain time
        has passed its nonce by the window, and no block holds it (PROTOCOL.md P8). Then the node
        that took it says so, and others say so or that they never saw it.
    J2. A transaction counts once: where a block has it again, or too late, it is ignored
        (PROTOCOL.md P4). An account uses a nonce once.
    J3. Trades are numbered without gaps. No order fills more than its size, at a price worse than
        its limit, or against its own side.
    J4. A client's answer about a final transaction names the place where the chain has it.
    J5. What was sent after another one was known to be final is behind it on the chain.
    J6. A balance that any node tells for a height is the one that follows from the chain up to
        there, so all nodes tell the same; while a process lives, the heights it tells never fall.
    J7. All balances together are what genesis made, at every height that a node tells.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

MAKER_FEE: Final = Decimal("0.001")
TAKER_FEE: Final = Decimal("0.002")
NONCE_WINDOW_MS: Final = 30_000

Document = Mapping[str, Any]
Place = tuple[int, int]
Balances = dict[tuple[str, str], Decimal]


@dataclass
class Sent:
    """One transaction as its client saw it; `final` is where an answer said that it is."""

    hash: str
    account: str
    nonce: int
    node: str
    started_s: float
    acknowledged_s: float | None = None
    final: Place | None = None
    known_final_s: float | None = None


@dataclass(frozen=True)
class Read:
    """Balances that a node told, by asset; `life` counts its processes."""

    node: str
    life: int
    account: str
    height: int
    totals: Mapping[str, Decimal]
    started_s: float
    ended_s: float


@dataclass(frozen=True)
class Supply:
    """What a node told of all balances together, by asset."""

    node: str
    height: int
    totals: Mapping[str, Decimal]


@dataclass
class Histories:
    """All that clients saw; appended to by their threads."""

    sent: list[Sent] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    supplies: list[Supply] = field(default_factory=list)

    def acknowledged(self) -> list[Sent]:
        """Return what a node took."""
        return [one for one in list(self.sent) if one.acknowledged_s is not None]


@dataclass
class _Order:
    account: str
    side: str
    limit: Decimal
    size: Decimal
    filled: Decimal = Decimal(0)


class Chain:
    """The blocks of one node, added in order, and the balances that follow from them."""

    def __init__(self, funds: Balances) -> None:
        self.height = 0
        self.time_ms = 0
        self.places: dict[str, Place] = {}
        self._now: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal, funds)
        self._heights: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0])
        self._totals: defaultdict[tuple[str, str], list[Decimal]] = defaultdict(list)
        for key, amount in funds.items():
            self._totals[key].append(amount)
        self._orders: dict[str, _Order] = {}
        self._trades: defaultdict[str, int] = defaultdict(int)

    def add(self, block: Document) -> None:
        """Take the next block (J2, J3)."""
        assert block["height"] == self.height + 1
        self.height, self.time_ms = block["height"], block["time_ms"]
        for index, transaction in enumerate(block["transactions"]):
            name = transaction["hash"]
            if transaction["code"] != "ignored":
                assert name not in self.places, f"{name} counts at {self.places[name]} and here"
                self.places[name] = (self.height, index)
            elif transaction["reason"] != "nonce_out_of_window":
                assert name in self.places, f"{transaction} is ignored and was never before"
        # Orders first: an event of an order shows it as it is after the block's trades.
        for event in block["events"]:
            if event["event"] == "order" and event["order_id"] not in self._orders:
                self._orders[event["order_id"]] = _Order(
                    event["account"].partition("/")[0],
                    event["side"],
                    Decimal(event["price"]),
                    Decimal(event["size"]),
                )
        for event in block["events"]:
            if event["event"] == "trade":
                self._trade(event)
            elif event["event"] == "transfer":
                self._move(event["from"], event["asset"], -Decimal(event["amount"]))
                self._move(event["to"], event["asset"], Decimal(event["amount"]))
        told = {e["order_id"]: e["filled"] for e in block["events"] if e["event"] == "order"}
        for order, filled in told.items():
            assert Decimal(filled) == self._orders[order].filled, f"{order} filled {filled}"

    def total(self, account: str, asset: str, height: int) -> Decimal:
        """Return a balance after a block."""
        key = (account, asset)
        totals = self._totals[key]
        if not totals:
            return Decimal(0)
        return totals[bisect_right(self._heights[key], height) - 1]

    def _trade(self, trade: Document) -> None:
        market = trade["market"]
        base, quote = market.split("-")
        self._trades[market] += 1
        assert trade["trade_id"] == self._trades[market], f"{trade}: a gap or a repetition"
        taker, maker = (self._orders[trade[f"{role}_order_id"]] for role in ("taker", "maker"))
        price, size = Decimal(trade["price"]), Decimal(trade["size"])
        assert taker.side == trade["side"] != maker.side, f"{trade}: both {maker.side}"
        assert price == maker.limit, f"{trade}: the maker wanted {maker.limit}"
        worse = price > taker.limit if taker.side == "buy" else price < taker.limit
        assert not worse, f"{trade}: the taker wanted {taker.limit}"
        for order, rate in ((taker, TAKER_FEE), (maker, MAKER_FEE)):
            order.filled += size
            assert order.filled <= order.size, f"{trade}: {order.filled} of {order.size}"
            sign = 1 if order.side == "buy" else -1
            self._move(order.account, base, sign * size)
            self._move(order.account, quote, -sign * price * size - rate * price * size)

    def _move(self, account: str, asset: str, amount: Decimal) -> None:
        key = (account.partition("/")[0], asset)
        self._now[key] += amount
        assert self._now[key] >= 0, f"{key} has {self._now[key]} at {self.height}"
        heights, totals = self._heights[key], self._totals[key]
        if not totals:
            totals.append(Decimal(0))
        if heights[-1] == self.height:
            totals[-1] = self._now[key]
        else:
            heights.append(self.height)
            totals.append(self._now[key])


def judge_sent(chain: Chain, sent: Iterable[Sent], fates: Mapping[str, Mapping[str, Any]]) -> None:
    """Check what was acknowledged (J1, J2, J4); `fates` has each node's answer by hash."""
    nonces: dict[tuple[str, int], str] = {}
    for one in sent:
        place = chain.places.get(one.hash)
        if place is not None:
            other = nonces.setdefault((one.account, one.nonce), one.hash)
            assert other == one.hash, f"nonce {one.nonce} of {one.account}: {other}, {one.hash}"
        if one.final is not None:
            assert place == one.final, f"{one}: it is at {place}"
        if one.acknowledged_s is None:
            continue
        for node, fate in fates[one.hash].items():
            if place is None:
                states = ("expired",) if node == one.node else ("expired", "unknown_transaction")
                assert fate["state"] in states, f"{one}: lost, {node} says {fate}"
            else:
                told = (fate["state"], fate.get("height"), fate.get("index"))
                assert told == ("final", *place), f"{one} is at {place}: {node} says {fate}"
        if place is None:
            late_ms = chain.time_ms - one.nonce
            assert late_ms > NONCE_WINDOW_MS, f"{one}: expired after {late_ms} ms"


def judge_order(chain: Chain, sent: Iterable[Sent]) -> int:
    """Check that the chain's order is one in time (J5); returns how many it compared."""
    known = sorted((s for s in sent if s.hash in chain.places), key=lambda s: s.started_s)
    ended = sorted((s for s in known if s.known_final_s is not None), key=_known_final_s)
    newest: Place = (0, 0)
    compared = position = 0
    for one in known:
        while position < len(ended) and _known_final_s(ended[position]) < one.started_s:
            newest = max(newest, chain.places[ended[position].hash])
            position += 1
        compared += newest != (0, 0)
        place = chain.places[one.hash]
        assert place > newest, f"{one} at {place} was sent after {newest} was known to be final"
    return compared


def judge_reads(chain: Chain, reads: Iterable[Read], funds: Balances) -> None:
    """Check balances that nodes told (J6)."""
    assets = {asset for _, asset in funds}
    newest: dict[tuple[str, int], tuple[float, int]] = {}
    for read in sorted(reads, key=lambda one: one.ended_s):
        for asset in assets:
            expected = chain.total(read.account, asset, read.height)
            told = read.totals.get(asset, Decimal(0))
            assert told == expected, f"{read}: {asset} is {expected} after that block"
        life = (read.node, read.life)
        ended_s, height = newest.get(life, (0.0, 0))
        assert read.height >= height or read.started_s < ended_s, (
            f"{read}: {height} was told before"
        )
        newest[life] = max(newest.get(life, (0.0, 0)), (read.ended_s, read.height), key=_height)


def judge_supplies(supplies: Iterable[Supply], funds: Balances) -> None:
    """Check sums of all balances (J7)."""
    made: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (_, asset), amount in funds.items():
        made[asset] += amount
    for supply in supplies:
        assert dict(supply.totals) == dict(made), f"{supply}: genesis made {dict(made)}"


def _known_final_s(one: Sent) -> float:
    assert one.known_final_s is not None
    return one.known_final_s


def _height(known: tuple[float, int]) -> int:
    return known[1]
