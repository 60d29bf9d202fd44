"""The transaction pool: its bounds, its order, what replaces what."""

from __future__ import annotations

import random
from typing import Any

import pytest
from devchain_bench import ALICE, BOB, COINS, GWEI, address_of, signed
from eth_account import Account

from omninode.contracts.devchain import pool as pool_module
from omninode.contracts.devchain.limits import POOL_ACCOUNT_MAX
from omninode.contracts.devchain.pool import Pool
from omninode.contracts.devchain.refusals import CallRefused
from omninode.contracts.devchain.transactions import Transaction


def enter(pool: Pool, transaction: Transaction, *, nonce: int = 0, balance: int = COINS) -> None:
    pool.check(transaction, nonce=nonce, balance=balance)
    pool.add(transaction, arrival=pool.next_arrival)


def offered(pool: Pool, base_fee: int = 0, nonces: dict[bytes, int] | None = None) -> list[Any]:
    known = nonces or {}
    return pool.offered(base_fee, lambda sender: known.get(sender, 0))


def test_order_is_by_tip_then_by_arrival_and_by_nonce_within_an_account() -> None:
    pool = Pool()
    cheap = [signed(ALICE, nonce) for nonce in (1, 0)]
    rich = signed(BOB, 1, maxPriorityFeePerGas=5 * GWEI)
    before = signed(BOB, 0)
    for item in (*cheap, rich, before):
        enter(pool, item)
    assert offered(pool) == [cheap[1], cheap[0], before, rich]
    other = Pool()
    for item in (before, rich, *cheap):
        enter(other, item)
    assert offered(other) == [before, rich, cheap[1], cheap[0]]


def test_a_gap_waits_and_so_does_what_can_not_pay_the_base_fee() -> None:
    pool = Pool()
    first, third = signed(ALICE, 0), signed(ALICE, 2)
    poor = signed(BOB, 0, maxFeePerGas=2 * GWEI)
    after = signed(BOB, 1)
    for item in (first, third, poor, after):
        enter(pool, item)
    assert offered(pool, base_fee=3 * GWEI) == [first]
    assert pool.next_nonce(address_of(ALICE), 0) == 1
    assert pool.next_nonce(address_of(ALICE), 2) == 3
    assert offered(pool, nonces={address_of(ALICE): 2, address_of(BOB): 1}) == [after, third] or (
        offered(pool, nonces={address_of(ALICE): 2, address_of(BOB): 1}) == [third, after]
    )
    assert pool.stale({address_of(ALICE): 1, address_of(BOB): 0}.__getitem__) == [first]


def test_replacement_needs_a_tenth_more_of_both_fees() -> None:
    pool = Pool()
    first = signed(ALICE, 0)
    enter(pool, first)
    for fee, tip in ((11 * GWEI, GWEI), (10 * GWEI, 2 * GWEI)):
        with pytest.raises(CallRefused, match="underpriced"):
            enter(pool, signed(ALICE, 0, maxFeePerGas=fee, maxPriorityFeePerGas=tip))
    second = signed(ALICE, 0, maxFeePerGas=11 * GWEI, maxPriorityFeePerGas=11 * GWEI // 10)
    assert pool.check(second, nonce=0, balance=COINS) is first
    pool.add(second, arrival=pool.next_arrival)
    assert list(pool) == [second]
    with pytest.raises(CallRefused, match="already known"):
        enter(pool, second)


def test_an_account_pays_for_all_that_waits() -> None:
    pool = Pool()
    cost = signed(ALICE, 0).cost_max
    enter(pool, signed(ALICE, 0), balance=2 * cost)
    enter(pool, signed(ALICE, 1), balance=2 * cost)
    with pytest.raises(CallRefused, match="insufficient funds"):
        enter(pool, signed(ALICE, 2), balance=3 * cost - 1)
    dearer = signed(ALICE, 1, maxFeePerGas=11 * GWEI, maxPriorityFeePerGas=2 * GWEI)
    with pytest.raises(CallRefused, match="insufficient funds"):
        enter(pool, dearer, balance=2 * cost)
    enter(pool, dearer, balance=cost + dearer.cost_max)


def test_bounds_refuse_the_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    for nonce in range(POOL_ACCOUNT_MAX):
        enter(pool, signed(ALICE, nonce))
    with pytest.raises(CallRefused, match="account limit"):
        enter(pool, signed(ALICE, POOL_ACCOUNT_MAX))
    enter(pool, signed(ALICE, 3, maxFeePerGas=20 * GWEI, maxPriorityFeePerGas=2 * GWEI))
    monkeypatch.setattr(pool_module, "POOL_TRANSACTIONS_MAX", POOL_ACCOUNT_MAX)
    with pytest.raises(CallRefused, match="txpool is full"):
        enter(pool, signed(BOB, 0))
    monkeypatch.undo()
    monkeypatch.setattr(pool_module, "POOL_BYTES_MAX", 1_000)
    with pytest.raises(CallRefused, match="txpool is full"):
        enter(pool, signed(BOB, 0))
    with pytest.raises(CallRefused, match="nonce too low"):
        enter(pool, signed(BOB, 0), nonce=1)


def test_many_accounts_in_any_order(seed: int) -> None:
    chance = random.Random(seed)
    accounts = [Account.from_key(number.to_bytes(32)) for number in range(1, 6)]
    made = [
        signed(account, nonce, maxPriorityFeePerGas=chance.randrange(1, 9 * GWEI))
        for account in accounts
        for nonce in range(4)
    ]
    chance.shuffle(made)
    pool = Pool()
    for item in made:
        enter(pool, item)
    order = offered(pool, base_fee=GWEI)
    assert sorted(item.hash for item in order) == sorted(item.hash for item in made)
    for account in accounts:
        mine = [item.nonce for item in order if item.sender == address_of(account)]
        assert mine == [0, 1, 2, 3]
    heads = {address_of(account): 0 for account in accounts}
    for item in order:
        rivals = [other for other in made if other.nonce == heads[other.sender]]
        assert item.tip(GWEI) == max(other.tip(GWEI) for other in rivals)
        heads[item.sender] += 1
    pool.remove(made[:7])
    pool.remove(made[:7])
    assert len(pool) == len(made) - 7
    pool.remove(made)
    assert (len(pool), offered(pool)) == (0, [])
