"""A new home takes its chain from a running peer, over real sockets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import structlog
import trio
from tests.exchange_world import make_settled_genesis
from tests.network_world import Net
from tests.sealed_chain import SealedChain, validator_keys

from omninode.dex.genesis import GenesisStaking
from omninode.node.home import Home
from omninode.node.state_sync import startup
from omninode.node.state_sync.serving import SnapshotServer
from omninode.storage import snapshot
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.journal import Journal

GENESIS = make_settled_genesis()


async def test_a_new_home_begins_with_a_peers_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_BYTES_MAX", 400)
    source = SealedChain(tmp_path / "source", GENESIS, validator_keys(4))
    await source.begin()
    await source.grow(3)
    first = await source.seal_epoch()
    await source.grow(3)
    cut = source.tip
    await source.seal_epoch(fillers=2)
    async with trio.open_nursery() as nursery:
        net = Net(nursery)
        old = net.make(1)
        startup.register(old.network, SnapshotServer(source.chain, source.snapshots))
        await nursery.start(old.network.run)
        empty = net.make(2, persistent_peers=(old.address,))
        startup.register(empty.network, None)
        await nursery.start(empty.network.run)
        new = net.make(3, persistent_peers=(empty.address, old.address))
        home = Home(tmp_path / "home")
        with structlog.testing.capture_logs() as logs:
            head = await startup.take_snapshot(new.network, home, GENESIS)
        nursery.cancel_scope.cancel()
    source.database.close()
    assert head is not None
    assert head.header == cut
    assert not [entry for entry in logs if entry["event"] == "bad_answer"]
    copied = [entry["chunks"] for entry in logs if entry["event"] == "copying_snapshot"]
    assert copied[-1] == len(list((home.snapshots / str(cut.height)).iterdir())) - 1
    with Database.open(home.database) as database:
        chain = ChainStore.open(database, Journal(database), genesis_hash=GENESIS.hash)
        assert chain.head() == head
        assert chain.epoch_proof(0) == first
        assert chain.epoch_proof(1) is None, "its end is still to come"


async def test_a_network_that_has_none_is_joined_by_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omninode.node.state_sync.fetching.SEARCH_S", 1.0)
    async with trio.open_nursery() as nursery:
        net = Net(nursery)
        empty = net.make(1)
        startup.register(empty.network, None)
        await nursery.start(empty.network.run)
        for number, peers in ((2, (empty.address,)), (3, ())):
            new = net.make(number, persistent_peers=peers)
            home = Home(tmp_path / str(number))
            assert await startup.take_snapshot(new.network, home, GENESIS) is None
            assert not home.database.exists()
        nursery.cancel_scope.cancel()


def test_only_a_new_home_of_an_old_network_looks_for_a_snapshot(tmp_path: Path) -> None:
    staked = msgspec.structs.replace(GENESIS, staking=GenesisStaking())
    begun, epoch_ms = staked.genesis_time_ms, staked.epochs.epoch_ms
    home = Home(tmp_path)
    assert startup.is_wanted(home, staked, now_ms=begun + epoch_ms + 1)
    assert not startup.is_wanted(home, staked, now_ms=begun + epoch_ms)
    assert not startup.is_wanted(home, GENESIS, now_ms=begun + epoch_ms + 1)
    home.database.mkdir(parents=True)
    assert not startup.is_wanted(home, staked, now_ms=begun + epoch_ms + 1)
