"""The journal keeps what was acknowledged until it is final or expired."""

from collections.abc import Callable
from types import SimpleNamespace

from omninode.storage.records import JournalEntry


def entry(number: int) -> tuple[bytes, JournalEntry]:
    return bytes((number,)) * 32, JournalEntry(1_000 - number, b"raw %d" % number)


async def test_survives_a_restart_oldest_first(open_store: Callable) -> None:
    store = open_store()
    await store.journal.add([entry(1), entry(2)])
    await store.journal.add([entry(3)])
    assert len(store.journal) == 3
    again = open_store()
    assert again.pending == [entry(3), entry(2), entry(1)]
    assert entry(2)[0] in again.journal


async def test_expired_ones_are_forgotten(open_store: Callable) -> None:
    store = open_store()
    await store.journal.add([entry(1), entry(2)])
    await store.journal.remove([entry(1)[0], entry(9)[0]])
    await store.journal.remove([entry(1)[0]])
    assert entry(1)[0] not in store.journal
    assert open_store().pending == [entry(2)]


async def test_what_the_chain_holds_is_not_pending_again(
    open_store: Callable, maker: SimpleNamespace, world: SimpleNamespace
) -> None:
    """A transaction may be acknowledged in the moment in which its block is stored."""
    store = open_store()
    await store.chain.begin(world.genesis, world.genesis.app_hash, [])
    raw = world.transaction(world.alice, 1)
    committed = maker.block(raw)
    await store.chain.commit(committed)
    await store.journal.add([(committed.block.transaction_ids[0], JournalEntry(5, raw))])
    again = open_store()
    assert again.pending == []
    await again.journal.remove(committed.block.transaction_ids)
    assert len(again.journal) == 0
