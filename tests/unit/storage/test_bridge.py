"""Deposits, withdrawals and checkpoints are kept for ever, and every withdrawal can be proven."""

from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest

from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.evm import withdrawal_leaf
from omninode.dex.bridge.merkle import root_of, verify
from omninode.dex.events import (
    CheckpointCertified,
    DepositCredited,
    DepositIgnored,
    WithdrawalRequested,
)
from omninode.encoding import amount_to_bytes
from omninode.errors import BrokenInvariant, StorageFault
from omninode.storage import keys
from omninode.storage import pruning as pruning_module
from omninode.storage import rows as rows_module
from omninode.storage.limits import PAGE_SCANNED_MAX
from omninode.storage.rows import Page

TOKEN, RECIPIENT = b"\xcc" * 20, b"\xdd" * 20
COUNT = 21


def amount(index: int) -> int:
    return 2**70 + index


def withdrawal(index: int, account: bytes) -> WithdrawalRequested:
    return WithdrawalRequested(
        index, account, 3, "USDC", amount_to_bytes(amount(index)), TOKEN, RECIPIENT, bytes(32)
    )


def deposit(index: int, account: bytes) -> DepositCredited:
    return DepositCredited(index, account, 1, "USDC", amount_to_bytes(amount(index)), TOKEN)


def certified(number: int, height: int, count: int = 0) -> CheckpointCertified:
    checkpoint = Checkpoint(number, 0, height, 1, *(bytes(32),) * 2, count, bytes(32), 0, bytes(32))
    return CheckpointCertified(CertifiedCheckpoint(checkpoint, ((0, b"\5" * 65),)))


def leaf(index: int) -> bytes:
    return withdrawal_leaf(index, TOKEN, RECIPIENT, amount(index))


@pytest.fixture
async def store(open_store: Callable, world: SimpleNamespace) -> SimpleNamespace:
    opened = open_store()
    await opened.chain.begin(world.genesis, world.genesis.app_hash, [])
    return opened


@pytest.fixture
async def withdrawals(
    store: SimpleNamespace, open_store: Callable, maker: SimpleNamespace, world: SimpleNamespace
) -> SimpleNamespace:
    """Withdrawals of two accounts, two a block, with a restart after each block."""
    opened = store
    for first in range(0, COUNT, 2):
        accounts = ((first, world.alice), (first + 1, world.bob))
        events = tuple(withdrawal(i, account) for i, account in accounts if i < COUNT)
        await opened.chain.commit(maker.block(events=events))
        opened = open_store()
    return opened


async def test_every_withdrawal_is_proven_against_every_later_root(
    withdrawals: SimpleNamespace,
) -> None:
    leaves = [leaf(index) for index in range(COUNT)]
    assert withdrawals.history.bridge.withdrawal_count() == COUNT
    for count in range(1, COUNT + 1):
        root = root_of(leaves[:count])
        for index in range(count):
            proof = withdrawals.history.bridge.withdrawal_proof(index, count=count)
            assert verify(leaves[index], proof, root), (index, count)
            assert not verify(leaf(COUNT), proof, root)
    with pytest.raises(BrokenInvariant):
        withdrawals.history.bridge.withdrawal_proof(5, count=5)


async def test_each_node_of_the_tree_is_stored_once(withdrawals: SimpleNamespace) -> None:
    nodes = list(withdrawals.database.iterate(keys.WITHDRAWAL_NODE))
    assert len(nodes) == sum(COUNT >> level for level in range(COUNT.bit_length()))


async def test_withdrawals_page_backwards(
    withdrawals: SimpleNamespace, world: SimpleNamespace
) -> None:
    bridge = withdrawals.history.bridge
    rows = bridge.withdrawals(world.alice, limit=1_000).rows
    assert [row.event.index for row in rows] == [*range(COUNT - 1, -1, -2)]
    assert rows[0] == bridge.withdrawal(COUNT - 1)
    assert rows[-1].event == withdrawal(0, world.alice)
    assert (rows[-1].height, rows[-1].time_ms) == (1, 2_000)
    page = bridge.withdrawals(world.alice, limit=3, before=rows[4].event.index)
    assert page == Page(rows[5:8], rows[7].event.index)
    assert bridge.withdrawals(b"\0" * 20, limit=3) == Page([], None)
    assert bridge.withdrawal(COUNT) is None
    with pytest.raises(BrokenInvariant):
        bridge.withdrawals(world.alice, limit=1_001)


async def test_a_gap_in_the_numbers_is_our_defect(
    withdrawals: SimpleNamespace, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    with pytest.raises(BrokenInvariant, match=f"withdrawal {COUNT + 1} after {COUNT}"):
        await withdrawals.chain.commit(maker.block(events=(withdrawal(COUNT + 1, world.bob),)))


async def test_a_lost_node_is_noticed_at_the_start(
    withdrawals: SimpleNamespace, open_store: Callable
) -> None:
    level = COUNT.bit_length() - 1
    await withdrawals.database.write([(keys.node_key(level, 0), None)], sync=True)
    with pytest.raises(StorageFault, match="withdrawal tree"):
        open_store()


async def test_deposits_page_backwards(
    store: SimpleNamespace, open_store: Callable, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    for index in range(10):
        await store.chain.commit(maker.block(events=(deposit(index, world.alice),)))
    ignored = DepositIgnored(10, b"\xee" * 20, world.alice, amount_to_bytes(7))
    await store.chain.commit(maker.block(events=(ignored, deposit(11, world.bob))))
    bridge = open_store().history.bridge
    rows = bridge.deposits(world.alice, limit=1_000).rows
    assert [row.event.index for row in rows] == [*range(10, -1, -1)]
    assert (rows[0].event, rows[0].height) == (ignored, 11)
    assert bridge.deposits(world.alice, limit=4, before=7) == Page(rows[4:8], 3)
    [row] = bridge.deposits(world.bob, limit=9).rows
    assert row.event == deposit(11, world.bob)


@pytest.mark.parametrize("scanned_max", [1, 4, PAGE_SCANNED_MAX])
async def test_deposits_and_withdrawals_of_one_subaccount(
    store: SimpleNamespace,
    maker: SimpleNamespace,
    world: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    scanned_max: int,
) -> None:
    monkeypatch.setattr(rows_module, "PAGE_SCANNED_MAX", scanned_max)
    whose = [0, 5, 1, 1, 5, 1, 1, 1, 0, 1, 5, 5]
    for index, subaccount in enumerate(whose):
        made = deposit(index, world.alice), withdrawal(index, world.alice)
        events = [msgspec.structs.replace(event, subaccount=subaccount) for event in made]
        await store.chain.commit(maker.block(events=tuple(events)))
    ignored = DepositIgnored(len(whose), b"\xee" * 20, world.alice, amount_to_bytes(7))
    await store.chain.commit(maker.block(events=(ignored,)))
    bridge = store.history.bridge
    for read in (bridge.deposits, bridge.withdrawals):
        for subaccount in (0, 1, 5, 2):
            wanted = [i for i in range(len(whose) - 1, -1, -1) if whose[i] == subaccount]
            for limit in (1, 2, 100):
                found: list[int] = []
                page = read(world.alice, limit=limit, subaccount=subaccount)
                while True:
                    assert len(page.rows) <= limit
                    found += [row.event.index for row in page.rows]
                    if page.next is None:
                        break
                    page = read(world.alice, limit=limit, subaccount=subaccount, before=page.next)
                assert found == wanted


async def test_checkpoints_by_height_and_number(
    store: SimpleNamespace, open_store: Callable, maker: SimpleNamespace
) -> None:
    assert store.history.bridge.checkpoint_at() is None
    for number, height in ((1, 2), (2, 5), (5, 9)):
        await store.chain.commit(maker.block(events=(certified(number, height),)))
    bridge = open_store().history.bridge
    found = {h: bridge.checkpoint_at(h) for h in range(12)}
    numbers = {h: at and at.certified.checkpoint.number for h, at in found.items()}
    assert [numbers[h] for h in range(12)] == [None, None, 1, 1, 1, 2, 2, 2, 2, 5, 5, 5]
    assert bridge.checkpoint_at() == bridge.checkpoint(5) == found[9]
    assert bridge.checkpoint(3) is None
    assert found[9].certified == certified(5, 9).certified
    assert found[9].height == 3


async def test_pruning_leaves_them(
    store: SimpleNamespace,
    open_store: Callable,
    maker: SimpleNamespace,
    world: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning_module, "BLOCKS_KEPT_MIN", 1)
    for index in range(6):
        events = (withdrawal(index, world.alice), deposit(index, world.alice))
        await store.chain.commit(maker.block(events=(*events, certified(index + 1, index + 1))))
    assert await store.pruner.step(before_ms=10**15) == 5
    bridge = open_store().history.bridge
    assert len(bridge.deposits(world.alice, limit=10).rows) == 6
    assert len(bridge.withdrawals(world.alice, limit=10).rows) == 6
    assert bridge.checkpoint(1) is not None
    root = root_of(leaf(index) for index in range(6))
    assert verify(leaf(0), bridge.withdrawal_proof(0, count=6), root)
