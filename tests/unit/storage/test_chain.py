"""The chain store: one batch per block, and what a restart, a peer and a replay read back."""

from collections.abc import Callable
from types import SimpleNamespace

import plyvel
import pytest

from omninode.dex.outcomes import IGNORED
from omninode.errors import BrokenInvariant, ConfigError, StorageFault
from omninode.storage import chain as chain_module
from omninode.storage import keys
from omninode.storage.chain import ChainStore
from omninode.storage.records import JournalEntry, StoredBlock


@pytest.fixture
async def store(open_store: Callable, world: SimpleNamespace) -> SimpleNamespace:
    opened = open_store()
    await opened.chain.begin(world.genesis, world.genesis.app_hash, [(b"a", b"1"), (b"b", b"2")])
    return opened


async def test_an_empty_database_has_no_head(open_store: Callable) -> None:
    assert open_store().chain.head() is None


async def test_begins_with_the_state_of_genesis(
    store: SimpleNamespace, open_store: Callable, world: SimpleNamespace
) -> None:
    again = open_store()
    head = again.chain.head()
    assert (head.height, head.app_hash) == (0, world.genesis.app_hash)
    assert (head.block_hash, head.certificate) == (world.genesis.hash, None)
    assert list(again.chain.state_records()) == [(b"a", b"1"), (b"b", b"2")]
    with pytest.raises(BrokenInvariant):
        await again.chain.begin(world.genesis, world.genesis.app_hash, [])


async def test_a_restart_reads_back_the_newest_block(
    store: SimpleNamespace, open_store: Callable, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    raws = world.transaction(world.alice, 1), world.transaction(world.bob, 2)
    await store.chain.commit(maker.block(*raws, writes={b"a": None, b"c": b"3"}))
    second = maker.block()
    await store.chain.commit(second)
    again = open_store()
    head = again.chain.head()
    assert head.header == second.block.header
    assert head.app_hash == second.outcome.app_hash
    assert head.certificate == second.certificate
    assert list(again.chain.state_records()) == [(b"b", b"2"), (b"c", b"3")]
    first = again.chain.stored_block(1)
    assert first == StoredBlock(maker.made[0].block, raws)
    assert again.chain.block_by_hash(first.block.hash) == first
    assert again.chain.block(3) is None
    assert again.chain.block_by_hash(b"\0" * 32) is None
    assert again.chain.parts(1).parts == maker.made[0].outcome.parts
    assert again.chain.app_hashes(1) == {1: maker.made[0].outcome.app_hash, 2: head.app_hash}
    assert list(again.chain.blocks(1, 2)) == [first, StoredBlock(second.block, ())]


async def test_a_transaction_is_found_with_its_result(
    store: SimpleNamespace, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    raws = [world.transaction(world.alice, nonce) for nonce in range(3)]
    committed = maker.block(*raws)
    await store.chain.commit(committed)
    found = store.chain.transaction(committed.block.transaction_ids[1])
    assert (found.height, found.index, found.raw) == (1, 1, raws[1])
    assert found.result == committed.outcome.results[1]
    assert store.chain.transaction(b"\0" * 32) is None


async def test_the_first_result_of_a_transaction_stands(
    store: SimpleNamespace, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    raw = world.transaction(world.alice, 1)
    await store.chain.commit(maker.block(raw))
    again = maker.block(raw, codes=(IGNORED,))
    await store.chain.commit(again)
    assert store.chain.transaction(again.block.transaction_ids[0]).height == 1
    rows = store.history.transactions(world.alice, limit=10)
    assert [row.height for row in rows] == [1]


async def test_refuses_a_block_that_does_not_follow(
    store: SimpleNamespace, maker: SimpleNamespace
) -> None:
    maker.block()
    second = maker.block()
    with pytest.raises(BrokenInvariant, match="does not follow"):
        await store.chain.commit(second)
    assert store.chain.head().height == 0


async def test_the_head_carries_the_certificate_that_covers_it(
    store: SimpleNamespace, maker: SimpleNamespace
) -> None:
    inner = maker.block(certified=False)
    await store.chain.commit(inner)
    assert store.chain.head().certificate == inner.certificate
    assert store.chain.certificate_at_or_after(1) is None
    last = maker.block()
    await store.chain.commit(last)
    assert store.chain.certificate_at_or_after(1) == (2, last.certificate)
    assert store.chain.certificate_at_or_after(3) is None


async def test_a_run_for_a_peer_ends_at_a_certificate(
    store: SimpleNamespace, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    big = world.transaction(world.alice, 1) + bytes(3_000)
    for height in range(1, 21):
        raws = (big + bytes((height,)),) if height > 10 else ()
        await store.chain.commit(maker.block(*raws, certified=height % 4 == 0))
    run = store.chain.blocks_for_sync

    def heights(from_height: int, count_max: int, bytes_max: int) -> list[int]:
        found = run(from_height, count_max=count_max, bytes_max=bytes_max)
        last = found.blocks[-1].block
        assert found.certificate.block_hash == last.hash
        return [each.block.header.height for each in found.blocks]

    assert heights(1, 10, 10**6) == [*range(1, 9)]
    assert heights(3, 10, 10**6) == [*range(3, 13)]
    assert heights(1, 100, 10**6) == [*range(1, 21)]
    assert heights(1, 2, 10**6) == [1, 2, 3, 4], "goes on to the first certificate"
    assert heights(9, 100, 9_000) == [9, 10, 11, 12]
    assert heights(13, 100, 1) == [13, 14, 15, 16]
    assert run(13, count_max=1, bytes_max=1).blocks[0].transactions == (big + bytes((13,)),)
    assert run(21, count_max=10, bytes_max=10**6) is None


async def test_a_run_without_a_certificate_near_is_not_served(
    store: SimpleNamespace, maker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_module, "SYNC_BLOCKS_MAX", 5)
    for height in range(1, 10):
        await store.chain.commit(maker.block(certified=height == 9))
    assert store.chain.blocks_for_sync(1, count_max=2, bytes_max=100) is None
    assert store.chain.blocks_for_sync(5, count_max=2, bytes_max=100) is not None


async def test_another_network_is_refused(store: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="another network"):
        ChainStore.open(store.database, store.journal, genesis_hash=rb"\9" * 32)


async def test_another_format_is_refused(
    store: SimpleNamespace, open_store: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_module, "FORMAT", 99)
    with pytest.raises(ConfigError, match="format 3"):
        open_store()


@pytest.mark.parametrize("lost", [1, 3, 5])
async def test_a_lost_batch_is_noticed_at_the_start(
    store: SimpleNamespace, open_store: Callable, maker: SimpleNamespace, lost: int
) -> None:
    for _ in range(5):
        await store.chain.commit(maker.block())
    await store.database.write([(keys.BLOCK + keys.height_bytes(lost), None)], sync=True)
    with pytest.raises(StorageFault, match=f"lost block {lost}"):
        open_store()


async def test_a_damaged_record_is_a_fault(store: SimpleNamespace, maker: SimpleNamespace) -> None:
    await store.chain.commit(maker.block())
    await store.database.write([(keys.BLOCK + keys.height_bytes(1), b"rubbish")], sync=True)
    with pytest.raises(StorageFault, match="damaged"):
        store.chain.block(1)


async def test_after_a_failed_write_every_commit_says_why(
    store: SimpleNamespace, maker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __getattr__(self, name: str) -> object:
            raise plyvel.IOError(b"No space left on device")

    level = store.database._level
    monkeypatch.setattr(store.database, "_level", Full())
    committed = maker.block()
    for block in (committed, committed, maker.block()):
        with pytest.raises(StorageFault, match="No space left on device"):
            await store.chain.commit(block)
    monkeypatch.setattr(store.database, "_level", level)
    assert store.chain.head().height == 0


async def test_a_commit_takes_its_transactions_from_the_journal(
    store: SimpleNamespace, open_store: Callable, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    raws = [world.transaction(world.alice, nonce) for nonce in range(3)]
    committed = maker.block(raws[0], raws[1], codes=("ok", IGNORED))
    ids = committed.block.transaction_ids
    third = world.order_id(3)
    entries = [(ids[0], 7, raws[0]), (ids[1], 9, raws[1]), (third, 8, raws[2])]
    await store.journal.add([(name, JournalEntry(ms, raw)) for name, ms, raw in entries])
    await store.chain.commit(committed)
    assert ids[0] not in store.journal
    again = open_store()
    assert again.pending == [(third, JournalEntry(8, raws[2])), (ids[1], JournalEntry(9, raws[1]))]
