"""The ledger between consensus, the exchange and the disk."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from omninode.consensus.types import Block, Certificate, Header, VoteKind, body_root
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.actions import CancelAll
from omninode.dex.eip712 import Domain
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
)
from omninode.dex.transaction import Transaction, sign_wallet
from omninode.errors import BrokenInvariant, StorageFault
from omninode.node.chain_state import ChainState
from omninode.node.execution import BLOCKS_UNSTORED_MAX, Execution
from omninode.node.home import Home
from omninode.storage.records import CommittedBlock

NOW = 1_700_000_000_000
ALICE = SigningKey(keccak256(b"alice"))
GENESIS = Genesis(
    chain_id="test",
    settlement_chain_id=31337,
    genesis_time_ms=NOW,
    fees=FeeShares(
        treasury=checksum_address(b"\xe0" * 20), development=checksum_address(b"\xe1" * 20)
    ),
    validators=(),
    assets=(GenesisAsset(name="USDC", decimals=6), GenesisAsset(name="BTC", decimals=8)),
    markets=(
        GenesisMarket(name="BTC-USDC", base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
    ),
    balances=(
        GenesisBalance(address=checksum_address(ALICE.address), asset="USDC", amount="1000000"),
    ),
)
DOMAIN = Domain(GENESIS.settlement_chain_id, GENESIS.hash)


class Ledger:
    """An execution on a real home, with a chain of blocks of one transaction each."""

    def __init__(self, state: ChainState) -> None:
        self.state = state
        self.executed: list[int] = []
        self.stored: list[int] = []
        self.made: list[tuple[Block, tuple[Transaction, ...]]] = []
        self.tip: Header = state.genesis
        self.execution = Execution(
            state.exchange,
            state.chain,
            epochs=state.epochs,
            on_executed=lambda committed, _: self.executed.append(height_of(committed)),
            on_stored=lambda committed: self.stored.append(height_of(committed)),
        )

    def execute(self, count: int = 1) -> None:
        for _ in range(count):
            height = self.tip.height + 1
            action = CancelAll(0, "")
            transaction = sign_wallet(ALICE, action, nonce=NOW + height, domain=DOMAIN)
            ids = (transaction.hash,)
            header = replace(
                self.tip,
                height=height,
                view=height,
                parent_hash=self.tip.hash,
                parent_view=self.tip.view,
                time_ms=self.tip.time_ms + 1,
                body_root=body_root(ids),
            )
            block, bodies = Block(header, ids), (transaction,)
            self.made.append((block, bodies))
            self.tip = header
            self.execution.execute(block, bodies, certificate_of(header))


def height_of(committed: CommittedBlock) -> int:
    return committed.block.header.height


def certificate_of(header: Header) -> Certificate:
    return Certificate(VoteKind.FINALIZE, 0, header.view, header.hash, (0,), (bytes(65),))


async def opened(path: Path) -> Ledger:
    return Ledger(await ChainState.open(Home(path), GENESIS))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    made = await opened(tmp_path)
    yield made
    made.state.database.close()


async def until(numbers: Sequence[int], count: int) -> None:
    with trio.fail_after(10):
        while len(numbers) < count:
            await trio.sleep(0.001)


async def test_a_block_is_told_of_when_it_is_durable(ledger: Ledger, nursery: trio.Nursery) -> None:
    ledger.execute(3)
    assert ledger.executed == [1, 2, 3]
    assert ledger.stored == []
    await nursery.start(ledger.execution.run)
    await until(ledger.stored, 3)
    assert ledger.stored == [1, 2, 3]
    head = ledger.state.chain.head()
    assert head is not None
    assert (head.height, head.app_hash) == (3, ledger.state.exchange.app_hash)


async def test_a_block_is_served_from_its_execution_on(
    ledger: Ledger, nursery: trio.Nursery
) -> None:
    ledger.execute(2)
    block, bodies = ledger.made[1]
    expected = (block, [body.raw for body in bodies])
    assert ledger.execution.stored_block(block.hash) == expected
    await nursery.start(ledger.execution.run)
    await until(ledger.stored, 2)
    assert ledger.execution.stored_block(block.hash) == expected
    assert ledger.execution.stored_block(bytes(32)) is None


async def test_execution_waits_for_storage_that_is_far_behind(
    ledger: Ledger, nursery: trio.Nursery
) -> None:
    ledger.execute(BLOCKS_UNSTORED_MAX - 1)
    with trio.fail_after(1):
        await ledger.execution.store()
    ledger.execute()
    went_on = trio.Event()

    async def store() -> None:
        await ledger.execution.store()
        went_on.set()

    nursery.start_soon(store)
    await trio.testing.wait_all_tasks_blocked()
    assert not went_on.is_set()
    await nursery.start(ledger.execution.run)
    with trio.fail_after(10):
        await went_on.wait()


async def test_a_clean_stop_stores_what_was_executed(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.execution.run)
        ledger.execute(5)
        nursery.cancel_scope.cancel()
    await ledger.execution.finish()
    app_hash = ledger.state.exchange.app_hash
    ledger.state.database.close()
    again = await opened(tmp_path)
    assert (again.state.exchange.height, again.state.exchange.app_hash) == (5, app_hash)
    again.state.database.close()


async def test_after_a_storage_fault_nothing_more_is_tried(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    async def full(committed: CommittedBlock) -> None:
        tried.append(height_of(committed))
        raise StorageFault("the disk is full")

    monkeypatch.setattr(ledger.state.chain, "commit", full)
    ledger.execute(3)
    with pytest.raises(StorageFault):
        await ledger.execution.run()
    await ledger.execution.finish()
    assert tried == [1]
    assert ledger.stored == []


@pytest.mark.parametrize("was_enabled", [True, False])
@pytest.mark.parametrize("fails", [True, False])
async def test_the_garbage_collector_rests_and_is_as_it_was(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, was_enabled: bool, fails: bool
) -> None:
    apply = ledger.state.exchange.apply
    seen: list[bool] = []

    def watched(*arguments: object) -> object:
        seen.append(gc.isenabled())
        if fails:
            raise BrokenInvariant("a defect")
        return apply(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger.state.exchange, "apply", watched)
    before = gc.isenabled()
    (gc.enable if was_enabled else gc.disable)()
    try:
        if fails:
            with pytest.raises(BrokenInvariant):
                ledger.execute()
        else:
            ledger.execute()
        assert gc.isenabled() is was_enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False]


async def test_a_block_that_fails_is_not_stored(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.execute(2)

    def broken(_block: object) -> object:
        raise BrokenInvariant("the sum is wrong")

    monkeypatch.setattr(ledger.state.exchange, "apply", broken)
    with pytest.raises(BrokenInvariant):
        ledger.execute()
    await ledger.execution.finish()
    head = ledger.state.chain.head()
    assert head is not None
    assert head.height == 2


async def test_a_run_of_blocks_under_one_certificate_is_served_as_one(ledger: Ledger) -> None:
    ledger.execute(2)
    await ledger.execution.finish()
    run = ledger.execution.stored_run(1, count_max=10, bytes_max=1 << 20)
    assert run is not None
    assert [block for block, _ in run.blocks] == [block for block, _ in ledger.made]
    assert run.certificate.block_hash == ledger.tip.hash
    assert ledger.execution.stored_run(3, count_max=10, bytes_max=1 << 20) is None
