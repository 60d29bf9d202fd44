"""The judge of client histories finds what it is there to find."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from history_judge import (
    NONCE_WINDOW_MS,
    Chain,
    Read,
    Sent,
    Supply,
    judge_order,
    judge_reads,
    judge_sent,
    judge_supplies,
)

FUNDS = {
    (account, asset): Decimal(1_000) for account in ("alice", "bob") for asset in ("XOM", "USDC")
}
NODES = ("node0", "node1")
START_MS = 1_000_000


def transaction(name: str, code: str = "ok", reason: str = "") -> dict[str, Any]:
    return {"hash": name, "code": code, "reason": reason}


def order(name: str, account: str, side: str, price: str, filled: str) -> dict[str, Any]:
    return {
        "event": "order",
        "account": f"{account}/0",
        "order_id": name,
        "side": side,
        "price": price,
        "size": "10",
        "filled": filled,
    }


def trade(number: int, taker: str, maker: str, **changes: Any) -> dict[str, Any]:
    fields = {"side": "sell", "price": "2", "size": "10"} | changes
    return {
        "event": "trade",
        "market": "XOM-USDC",
        "trade_id": number,
        "taker_order_id": taker,
        "maker_order_id": maker,
        **fields,
    }


def blocks() -> list[dict[str, Any]]:
    """Alice bids 2 for 10 XOM, Bob sells at 1.9 and gets 2; then Alice sends Bob 5 USDC."""
    return [
        {
            "height": 1,
            "time_ms": START_MS,
            "transactions": [transaction("bid")],
            "events": [order("o1", "alice", "buy", "2", "0")],
        },
        {
            "height": 2,
            "time_ms": START_MS + 1_000,
            "transactions": [transaction("ask")],
            "events": [
                trade(1, "o2", "o1"),
                order("o1", "alice", "buy", "2", "10"),
                order("o2", "bob", "sell", "1.9", "10"),
            ],
        },
        {
            "height": 3,
            "time_ms": START_MS + NONCE_WINDOW_MS + 2_000,
            "transactions": [
                transaction("bid", "ignored", "nonce_used"),
                transaction("gift"),
                transaction("late", "ignored", "nonce_out_of_window"),
            ],
            "events": [
                {
                    "event": "transfer",
                    "from": "alice/0",
                    "to": "bob/1",
                    "asset": "USDC",
                    "amount": "5",
                }
            ],
        },
    ]


def chain_of(told: list[dict[str, Any]]) -> Chain:
    chain = Chain(FUNDS)
    for block in told:
        chain.add(block)
    return chain


def sent(name: str, number: int, **changes: Any) -> Sent:
    one = Sent(name, "alice", START_MS + number, "node0", started_s=number, acknowledged_s=number)
    for field, value in changes.items():
        setattr(one, field, value)
    return one


def fates(**told: tuple[int, int] | str) -> dict[str, dict[str, Any]]:
    """What every node says: a place, or a state."""
    return {
        name: {
            node: {"state": known}
            if isinstance(known, str)
            else {"state": "final", "height": known[0], "index": known[1]}
            for node in NODES
        }
        for name, known in told.items()
    }


def read(account: str, height: int, usdc: str, **changes: Any) -> Read:
    totals = {"USDC": Decimal(usdc), "XOM": Decimal(1_000)}
    return Read("node0", 1, account, height, totals | changes, height, height + 0.5)


def test_balances_follow_from_trades_fees_and_transfers() -> None:
    chain = chain_of(blocks())
    assert chain.places == {"bid": (1, 0), "ask": (2, 0), "gift": (3, 1)}
    assert [chain.total("alice", "USDC", h) for h in range(4)] == [
        Decimal(1000),
        Decimal(1000),
        Decimal("979.98"),
        Decimal("974.98"),
    ]
    assert chain.total("alice", "XOM", 3) == Decimal(1_010)
    assert chain.total("bob", "USDC", 2) == Decimal("1019.96")
    assert chain.total("bob", "XOM", 3) == Decimal(990)
    assert chain.total("carol", "XOM", 3) == 0


Change = Callable[[list[dict[str, Any]]], object]

WRONG_CHAINS: dict[str, Change] = {
    "a block is missing": lambda told: told.pop(1),
    "a transaction counts twice": lambda told: told[2]["transactions"][0].update(code="ok"),
    "a new one is ignored": lambda told: told[0]["transactions"][0].update(
        code="ignored", reason="nonce_used"
    ),
    "a trade is missing": lambda told: told[1]["events"][0].update(trade_id=2),
    "a trade is told twice": lambda told: told[2]["events"].append(trade(1, "o2", "o1")),
    "an order fills twice": lambda told: told[2]["events"].append(trade(2, "o2", "o1")),
    "it fills more than its size": lambda told: told[1]["events"][0].update(size="11"),
    "it fills less than it says": lambda told: told[1]["events"][0].update(size="9"),
    "both sides sell": lambda told: told[1]["events"][1].update(side="sell"),
    "a maker gets another price": lambda told: told[1]["events"][0].update(price="1.95"),
    "a taker gets a worse price": lambda told: told[1]["events"][2].update(price="2.1"),
    "more is sent than there is": lambda told: told[2]["events"][0].update(amount="999"),
}


@pytest.mark.parametrize("name", WRONG_CHAINS)
def test_a_wrong_chain_is_found(name: str) -> None:
    told = copy.deepcopy(blocks())
    WRONG_CHAINS[name](told)
    if name == "both sides sell":
        told[0]["events"][0]["side"] = "sell"
    with pytest.raises(AssertionError):
        chain_of(told)


def test_what_is_final_or_expired_is_not_lost() -> None:
    chain = chain_of(blocks())
    known = [sent("bid", 1, final=(1, 0)), sent("late", 2), sent("refused", 3, acknowledged_s=None)]
    judge_sent(chain, known, fates(bid=(1, 0), late="expired"))
    told = fates(bid=(1, 0), late="expired")
    told["late"]["node1"] = {"state": "unknown_transaction"}
    judge_sent(chain, known, told)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (sent("lost", 1), fates(lost="received")),
        (sent("lost", 1), fates(lost="unknown_transaction")),
        (sent("young", 5_000), fates(young="expired")),
        (sent("bid", 1), fates(bid="received")),
        (sent("bid", 1), fates(bid="expired")),
        (sent("bid", 1), fates(bid=(1, 1))),
        (sent("bid", 1, final=(3, 0)), fates(bid=(1, 0))),
        (sent("never", 1, final=(1, 0)), fates(never=(1, 0))),
    ],
)
def test_a_lost_or_moved_transaction_is_found(one: Sent, told: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        judge_sent(chain_of(blocks()), [one], told)


def test_a_nonce_used_twice_is_found() -> None:
    known = [sent("bid", 1), sent("gift", 1)]
    with pytest.raises(AssertionError, match="nonce"):
        judge_sent(chain_of(blocks()), known, fates(bid=(1, 0), gift=(3, 1)))


def test_an_order_against_time_is_found() -> None:
    chain = chain_of(blocks())
    first, second = sent("bid", 1, known_final_s=2), sent("ask", 3, known_final_s=4)
    assert judge_order(chain, [second, first]) == 1
    first, second = sent("gift", 1, known_final_s=2), sent("ask", 3)
    with pytest.raises(AssertionError, match="was known to be final"):
        judge_order(chain, [first, second])
    second.started_s = 1.5
    assert judge_order(chain, [first, second]) == 0


def test_a_wrong_balance_is_found() -> None:
    chain = chain_of(blocks())
    good = [read("alice", 1, "1000"), read("bob", 0, "1000")]
    judge_reads(chain, good, FUNDS)
    bought = {"XOM": Decimal(1_010)}
    judge_reads(chain, [read("alice", 2, "979.98", **bought)], FUNDS)
    for wrong in (
        read("alice", 1, "979.98"),
        read("alice", 2, "979.98"),
        read("alice", 2, "979.99", **bought),
    ):
        with pytest.raises(AssertionError):
            judge_reads(chain, [*good, wrong], FUNDS)


def test_a_height_that_falls_is_found() -> None:
    chain = chain_of(blocks())
    one = Read("node0", 1, "bob", 1, {"USDC": Decimal(1_000), "XOM": Decimal(1_000)}, 1, 2)
    earlier = Read("node0", 1, "bob", 0, one.totals, 3, 4)
    another_life = Read("node0", 2, "bob", 0, one.totals, 3, 4)
    at_once = Read("node0", 1, "bob", 0, one.totals, 1.5, 4)
    judge_reads(chain, [one, another_life], FUNDS)
    judge_reads(chain, [one, at_once], FUNDS)
    with pytest.raises(AssertionError, match="was told before"):
        judge_reads(chain, [one, earlier], FUNDS)


def test_a_wrong_sum_is_found() -> None:
    totals = {"XOM": Decimal(2_000), "USDC": Decimal(2_000)}
    judge_supplies([Supply("node0", 1, totals)], FUNDS)
    with pytest.raises(AssertionError):
        judge_supplies([Supply("node0", 1, totals | {"XOM": Decimal(2_001)})], FUNDS)
