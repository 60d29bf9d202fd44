"""The pool: oldest first, bounded, one transaction per nonce, and its books always add up."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from omninode.dex.actions import CancelAll, SignCheckpoint
from omninode.dex.transaction import (
    SCHEME_AGENT,
    SCHEME_VALIDATOR,
    SCHEME_WALLET,
    Transaction,
)
from omninode.errors import UserError
from omninode.node.limits import (
    FIRST_PER_VALIDATOR_MAX,
    POOL_PER_VALIDATOR_MAX,
    VALIDATORS_SHARE,
)
from omninode.node.mempool import BlockLimits, Mempool, PoolLimits

WINDOW_MS = 30_000
NOW = 1_700_000_000_000
BLOCK = BlockLimits(bytes_max=1_000_000, count_max=1_000, per_signer_max=1_000)


def account(number: int) -> bytes:
    return number.to_bytes(20, "big")


def transaction(
    nonce: int = NOW, *, owner: int = 1, signer: int | None = None, note: int = 0
) -> Transaction:
    """A transaction as if its signature had been checked; `note` tells equal ones apart."""
    made = Transaction(
        version=1,
        scheme=SCHEME_WALLET if signer in (None, owner) else SCHEME_AGENT,
        account=account(owner),
        nonce=nonce,
        action=CancelAll(0, ""),
        signature=note.to_bytes(65, "big"),
    )
    made.set_signer(account(owner if signer is None else signer))
    return made


def pool(
    count_max: int = 1_000, bytes_max: int = 1_000_000, per_signer_max: int = 1_000
) -> Mempool:
    limits = PoolLimits(count_max, bytes_max, per_signer_max)
    return Mempool(limits, nonce_window_ms=WINDOW_MS)


def fill(target: Mempool, transactions: Iterable[Transaction]) -> list[bytes]:
    hashes = []
    for index, item in enumerate(transactions):
        assert target.add(item, received_ms=NOW + index)
        hashes.append(item.hash)
    return hashes


def everybody(_: bytes) -> bool:
    return True


def test_oldest_first_whatever_the_nonce() -> None:
    held = pool()
    hashes = fill(held, [transaction(NOW - index, owner=index) for index in range(1, 6)])
    assert held.select(set(), limits=BLOCK, funded=everybody) == tuple(hashes)
    assert held.select({hashes[0], hashes[3]}, limits=BLOCK, funded=everybody) == (
        hashes[1],
        hashes[2],
        hashes[4],
    )


def test_a_known_transaction_is_no_error_and_changes_nothing() -> None:
    held = pool()
    item = transaction()
    assert held.add(item, received_ms=NOW)
    assert not held.add(item, received_ms=NOW + 1)
    assert len(held) == 1
    assert held.oldest_ms(set(), funded=everybody) == NOW


def test_one_transaction_per_account_signer_and_nonce() -> None:
    held = pool()
    fill(held, [transaction(), transaction(signer=2), transaction(owner=2), transaction(NOW + 1)])
    with pytest.raises(UserError) as caught:
        held.add(transaction(note=7), received_ms=NOW)
    assert caught.value.reason == "nonce_used"


@pytest.mark.parametrize("bound", ["count", "bytes", "signer"])
def test_the_newest_is_refused_at_a_bound(bound: str) -> None:
    size = len(transaction().raw)
    held = {
        "count": pool(count_max=3),
        "bytes": pool(bytes_max=4 * size - 1),
        "signer": pool(per_signer_max=3),
    }[bound]
    hashes = fill(held, [transaction(NOW + index) for index in range(3)])
    with pytest.raises(UserError) as caught:
        held.add(transaction(NOW + 3), received_ms=NOW)
    assert caught.value.reason == "mempool_full"
    assert held.missing(hashes) == []
    if bound == "signer":
        held.add(transaction(NOW + 3, owner=2), received_ms=NOW)
    held.remove(hashes[:1])
    held.add(transaction(NOW + 3), received_ms=NOW)


def test_a_block_is_bounded_by_count_bytes_and_signer() -> None:
    held = pool()
    size = len(transaction().raw)
    mine = fill(held, [transaction(NOW + index) for index in range(4)])
    other = fill(held, [transaction(owner=2)])
    for limits, expected in (
        (BlockLimits(bytes_max=10**6, count_max=2, per_signer_max=9), mine[:2]),
        (BlockLimits(bytes_max=3 * size, count_max=9, per_signer_max=9), mine[:3]),
        (BlockLimits(bytes_max=3 * size + size - 1, count_max=9, per_signer_max=9), mine[:3]),
        (BlockLimits(bytes_max=10**6, count_max=9, per_signer_max=2), mine[:2] + other),
        (BlockLimits(bytes_max=size - 1, count_max=9, per_signer_max=9), []),
    ):
        assert held.select(set(), limits=limits, funded=everybody) == tuple(expected)


def test_accounts_without_funds_wait_and_are_not_pending() -> None:
    held = pool()
    (poor,) = fill(held, [transaction(owner=1)])
    assert held.oldest_ms(set(), funded=lambda _: False) is None
    held.add(rich := transaction(owner=2), received_ms=NOW + 5)

    def funded(owner: bytes) -> bool:
        return owner == account(2)

    assert held.select(set(), limits=BLOCK, funded=funded) == (rich.hash,)
    assert held.oldest_ms(set(), funded=funded) == NOW + 5
    assert held.oldest_ms({rich.hash}, funded=funded) is None
    assert held.select(set(), limits=BLOCK, funded=everybody) == (poor, rich.hash)


def test_executed_transactions_leave_with_those_they_made_void() -> None:
    held = pool()
    mine = transaction(note=1)
    rival = transaction(note=2)
    kept = transaction(NOW + 1)
    fill(held, [mine, kept])
    assert held.executed([rival, transaction(owner=9)]) == [mine]
    assert mine.hash not in held
    assert held.executed([kept]) == [kept]
    assert len(held) == held.size_bytes == 0
    held.add(mine, received_ms=NOW)


def test_expiry_needs_chain_time_past_the_window() -> None:
    held = pool()
    item = transaction(NOW)
    held.add(item, received_ms=NOW)
    assert held.expire(NOW + WINDOW_MS) == []
    assert held.expire(NOW + WINDOW_MS + 1_001) == [item]
    assert held.expire(NOW + WINDOW_MS + 1_001) == []


def test_stale_ones_for_the_leader_are_bounded() -> None:
    held = pool()
    items = [transaction(NOW + index) for index in range(4)]
    hashes = fill(held, items)
    raws = [item.raw for item in items]
    assert held.stale(set(), before_ms=NOW + 3, bytes_max=10**6) == raws[:3]
    assert held.stale({hashes[0]}, before_ms=NOW + 9, bytes_max=2 * len(raws[0])) == raws[1:3]
    assert held.stale(set(), before_ms=NOW, bytes_max=10**6) == []


def word(nonce: int, *, validator: int = 9) -> Transaction:
    """What a validator says."""
    made = Transaction(
        version=1,
        scheme=SCHEME_VALIDATOR,
        account=account(validator),
        nonce=nonce,
        action=SignCheckpoint(1, bytes(65)),
        signature=bytes(65),
    )
    made.set_signer(account(validator))
    return made


def test_no_flood_of_orders_shuts_out_what_validators_say() -> None:
    held = pool(count_max=5, bytes_max=2_000)
    fill(held, [transaction(NOW + index) for index in range(5)])
    with pytest.raises(UserError, match="are pending"):
        held.add(transaction(NOW + 5), received_ms=NOW + 5)
    spoken = word(NOW)
    assert held.add(spoken, received_ms=NOW + 5)
    assert spoken.hash in held.select(set(), limits=BLOCK, funded=lambda _: False)
    assert held.oldest_ms(set(), funded=lambda _: False) == NOW + 5


def test_a_block_takes_first_what_validators_say() -> None:
    held = pool()
    orders = fill(held, [transaction(NOW + index, owner=1 + index % 7) for index in range(100)])
    said = fill(held, [word(NOW + index, validator=v) for index in range(2) for v in (8, 9)])
    limits = BlockLimits(bytes_max=10**6, count_max=20, per_signer_max=20)
    assert held.select(set(), limits=limits, funded=everybody) == (*said, *orders[:16])
    # What is in the ancestry is not taken again, and what was executed is forgotten.
    chosen = held.select({said[0], orders[0]}, limits=limits, funded=everybody)
    assert chosen == (*said[1:], *orders[1:18])
    held.remove(said)
    assert held.select(set(), limits=limits, funded=everybody) == tuple(orders[:20])


def test_what_validators_say_goes_first_within_a_share_of_the_block() -> None:
    """The rest of it waits in line with everything else, so a talkative one delays little."""
    held = pool()
    orders = fill(held, [transaction(NOW + index) for index in range(100)])
    said = fill(held, [word(NOW + index) for index in range(FIRST_PER_VALIDATOR_MAX + 3)])
    others = fill(held, [word(NOW, validator=v) for v in range(10, 60)])
    first = said[:FIRST_PER_VALIDATOR_MAX]

    def chosen(**more: int) -> tuple[bytes, ...]:
        bounds = {"bytes_max": 10**6, "count_max": 40, "per_signer_max": 1_000, **more}
        return held.select(set(), limits=BlockLimits(**bounds), funded=everybody)

    share = 40 // VALIDATORS_SHARE
    assert chosen() == (*first, *others[: share - len(first)], *orders[: 40 - share])
    assert chosen(count_max=1) == (said[0],)
    assert chosen(per_signer_max=1)[:2] == (said[0], others[0])
    size, order_size = len(word(NOW).raw), len(transaction(NOW).raw)
    room = VALIDATORS_SHARE * 3 * size
    assert chosen(bytes_max=room)[:4] == (*said[:3], orders[0])
    assert len(chosen(bytes_max=room)) == 3 + (room - 3 * size) // order_size
    whole = chosen(count_max=1_000)
    assert set(whole) == {*orders, *said, *others}
    assert len(whole) == len(set(whole))
    assert whole[-1] == said[-1] or whole[-1] in others


def test_what_one_validator_says_is_bounded_apart_from_its_orders() -> None:
    held = pool(per_signer_max=3)
    fill(held, [word(NOW + index) for index in range(POOL_PER_VALIDATOR_MAX)])
    with pytest.raises(UserError, match="of this signer"):
        held.add(word(NOW - 1), received_ms=NOW + 1_000)
    assert held.add(word(NOW, validator=8), received_ms=NOW + 1_000)
    for index in range(3):
        mine = transaction(NOW + 10_000 + index, owner=9)
        assert held.add(mine, received_ms=NOW + 1_000)
    with pytest.raises(UserError, match="of this signer"):
        held.add(transaction(NOW + 20_000, owner=9), received_ms=NOW + 1_000)
    held.remove([word(NOW).hash])
    assert held.add(word(NOW - 1), received_ms=NOW + 1_000)


def test_the_newest_of_some_is_found_among_those_held() -> None:
    held = pool()
    hashes = fill(held, [transaction(NOW + index) for index in range(4)])
    assert held.newest_ms(hashes[1:3]) == NOW + 2
    assert held.newest_ms([hashes[0], b"unknown"]) == NOW
    assert held.newest_ms([b"unknown"]) is None
    assert held.newest_ms([]) is None


def test_the_oldest_is_found_quickly_behind_a_large_backlog() -> None:
    held = pool(count_max=50_000, bytes_max=10**9, per_signer_max=50_000)
    hashes = fill(held, [transaction(NOW + index) for index in range(20_000)])
    ancestry = set(hashes[:2_000])
    started = time.perf_counter()
    for _ in range(20):
        assert held.oldest_ms(ancestry, funded=everybody) == NOW + 2_000
    assert time.perf_counter() - started < 1
    held.remove(hashes[:-1])
    started = time.perf_counter()
    for _ in range(100):
        held.oldest_ms(set(), funded=everybody)
    assert time.perf_counter() - started < 1


class PoolMachine(RuleBasedStateMachine):
    """Any mix of calls against a plain list of what must be held."""

    nonces = st.integers(NOW, NOW + 5)
    owners = st.integers(1, 3)
    notes = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.held = pool(count_max=8, bytes_max=10**6, per_signer_max=4)
        self.expected: list[Transaction] = []
        self.now = NOW

    @rule(nonce=nonces, owner=owners, note=notes)
    def add(self, nonce: int, owner: int, note: int) -> None:
        item = transaction(nonce, owner=owner, note=note)
        known = item in self.expected
        rival = any((e.account, e.nonce) == (item.account, nonce) for e in self.expected)
        full = len(self.expected) >= 8
        full |= sum(e.account == item.account for e in self.expected) >= 4
        self.now += 1
        if not known and (rival or full):
            with pytest.raises(UserError) as caught:
                self.held.add(item, received_ms=self.now)
            assert caught.value.reason == ("nonce_used" if rival else "mempool_full")
            return
        assert self.held.add(item, received_ms=self.now) is not known
        if not known:
            self.expected.append(item)

    @rule(nonce=nonces, owner=owners, note=notes)
    def execute(self, nonce: int, owner: int, note: int) -> None:
        self.held.executed([transaction(nonce, owner=owner, note=note)])
        self.expected = [
            e for e in self.expected if (e.account, e.nonce) != (account(owner), nonce)
        ]

    @rule(after_ms=st.integers(0, 3_000))
    def expire(self, after_ms: int) -> None:
        chain_time_ms = NOW + WINDOW_MS + after_ms
        expired = self.held.expire(chain_time_ms)
        assert all(e.nonce + WINDOW_MS < chain_time_ms for e in expired)
        self.expected = [e for e in self.expected if e not in expired]
        assert all(e.nonce + WINDOW_MS + 1_000 >= chain_time_ms for e in self.expected)

    @invariant()
    def books_add_up(self) -> None:
        assert len(self.held) == len(self.expected)
        assert self.held.size_bytes == sum(len(e.raw) for e in self.expected)
        chosen = self.held.select(set(), limits=BLOCK, funded=everybody)
        assert chosen == tuple(e.hash for e in self.expected)
        assert all(self.held.get(e.hash) is e or self.held.get(e.hash) == e for e in self.expected)


TestPoolMachine = PoolMachine.TestCase
