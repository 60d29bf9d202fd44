"""What is remembered of acknowledged transactions, and who is woken."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from omninode.consensus.types import Block, genesis_header
from omninode.crypto import ZERO_HASH, SigningKey
from omninode.dex.actions import Batch, PlaceOrder
from omninode.dex.eip712 import Domain
from omninode.dex.outcomes import BlockOutcome, HashParts, ItemResult, TransactionResult
from omninode.dex.transaction import Transaction, order_id, sign_wallet
from omninode.errors import UserError
from omninode.node.rpc import receipts as module
from omninode.node.rpc.receipts import Receipts, order_ids
from omninode.storage.records import CommittedBlock

NOW = 1_700_000_000_000
KEY = SigningKey(b"\x01" * 32)
ORDER = PlaceOrder(0, "BTC-USDC", "buy", "limit", "0.1", "78000", "gtc", False, 0, "")


def signed(nonce: int, count: int = 1) -> Transaction:
    action = ORDER if count == 1 else Batch((), (), (ORDER,) * count)
    return sign_wallet(KEY, action, nonce=nonce, domain=Domain(1, ZERO_HASH))


def stored(*transactions: Transaction, code: str = "ok") -> CommittedBlock:
    header = genesis_header(ZERO_HASH, time_ms=NOW, app_hash=ZERO_HASH, valset_hash=ZERO_HASH)
    results = tuple(
        TransactionResult(t.hash, code, "", tuple(ItemResult("open", "", i) for i in order_ids(t)))
        for t in transactions
    )
    block = Block(header, tuple(t.hash for t in transactions))
    parts = HashParts(ZERO_HASH, ())
    outcome = BlockOutcome(1, ZERO_HASH, parts, results, (), {})
    return CommittedBlock(block, tuple(t.raw for t in transactions), None, outcome)


def test_received_until_the_window_has_passed_then_expired() -> None:
    receipts, transaction = Receipts(nonce_window_ms=30_000), signed(NOW)
    assert receipts.state_of(transaction.hash, chain_time_ms=NOW) is None
    receipts.acknowledged(transaction)
    assert receipts.state_of(transaction.hash, chain_time_ms=NOW + 30_000) == "received"
    assert receipts.state_of(transaction.hash, chain_time_ms=NOW + 30_001) == "expired"


def test_what_is_stored_is_forgotten_and_an_ignored_inclusion_is_not() -> None:
    receipts, transaction = Receipts(nonce_window_ms=30_000), signed(NOW, 3)
    receipts.acknowledged(transaction)
    identifier = order_id(transaction.hash, 2)
    assert receipts.transaction_of_order(identifier) == transaction.hash
    receipts.stored(stored(transaction, code="ignored"))
    assert receipts.state_of(transaction.hash, chain_time_ms=NOW) == "received"
    receipts.stored(stored(transaction))
    assert receipts.state_of(transaction.hash, chain_time_ms=NOW) is None
    assert receipts.transaction_of_order(identifier) is None


def test_memory_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECEIPTS_MAX", 3)
    receipts, transactions = Receipts(nonce_window_ms=1), [signed(NOW + n) for n in range(4)]
    for transaction in transactions:
        receipts.acknowledged(transaction)
    states = [receipts.state_of(t.hash, chain_time_ms=NOW) for t in transactions]
    assert states == [None, "received", "received", "received"]
    assert receipts.transaction_of_order(order_id(transactions[0].hash, 0)) is None


async def test_all_who_wait_are_woken_and_nothing_is_left_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    receipts, transaction = Receipts(nonce_window_ms=1), signed(NOW)
    woken: list[bool] = []

    async def wait(seconds: float) -> None:
        with receipts.waiting(transaction.hash) as waiting:
            with trio.move_on_after(seconds):
                await waiting.stored.wait()
            woken.append(waiting.receipt is not None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, 100)
        nursery.start_soon(wait, 100)
        await trio.sleep(2)
        receipts.stored(stored(transaction))
    assert sorted(woken) == [False, True, True]
    assert receipts._waits == {}
    assert receipts._waiting == 0


def test_the_number_of_waiting_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITERS_MAX", 1)
    receipts = Receipts(nonce_window_ms=1)
    with (
        receipts.waiting(b"1"),
        pytest.raises(UserError) as caught,
        receipts.waiting(b"2"),
    ):
        raise AssertionError
    assert caught.value.reason == "busy"
