"""A new node takes a sealed snapshot from peers of whom most lie or stop in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio
from tests.exchange_world import ALICE, BOB, World, make_settled_genesis
from tests.sealed_chain import SealedChain, validator_keys
from trio.testing import MockClock

from omninode.consensus.types import NextEpoch
from omninode.dex.actions import Transfer
from omninode.dex.exchange import Exchange
from omninode.dex.outcomes import block_input
from omninode.dex.transaction import Transaction, decode_transaction
from omninode.encoding import decode, encode
from omninode.errors import PeerFault
from omninode.node.net.requests import RequestFailed
from omninode.node.state_sync import limits
from omninode.node.state_sync.fetching import Fetching, SnapshotLost
from omninode.node.state_sync.messages import (
    CHUNK_PROTOCOL,
    EPOCHS_PROTOCOL,
    SNAPSHOT_PROTOCOL,
    ChunkRequest,
    EpochsReply,
    EpochsRequest,
    SnapshotReply,
)
from omninode.node.state_sync.restoring import restore_chain
from omninode.node.state_sync.serving import SnapshotServer
from omninode.storage import snapshot
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.epochs import Epochs
from omninode.storage.journal import Journal
from omninode.storage.records import StoredBlock
from omninode.storage.snapshot import Snapshots

GENESIS = make_settled_genesis()
Answer = Callable[[str, bytes], Awaitable[bytes]]


@pytest.fixture
async def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SealedChain]:
    monkeypatch.setattr(snapshot, "CHUNK_BYTES_MAX", 400)
    made = SealedChain(tmp_path / "source", GENESIS, validator_keys(4))
    await made.begin()
    yield made
    made.database.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once. A virtual clock would not wait for the threads that read and write."""
    monkeypatch.setattr("omninode.node.state_sync.fetching.PAUSE_S", 0.001)


async def traded(source: SealedChain, count: int = 3) -> None:
    """Grow the chain by blocks that move money."""
    world = World(GENESIS)
    world.exchange = source.exchange
    for _ in range(count):
        await source.grow(1, world.transaction(ALICE, Transfer(0, BOB, 0, "USDC", "5")))


def answers_of(source: SealedChain) -> Answer:
    server = SnapshotServer(source.chain, source.snapshots)
    handlers = {
        EPOCHS_PROTOCOL: server.serve_epochs,
        SNAPSHOT_PROTOCOL: server.serve_snapshot,
        CHUNK_PROTOCOL: server.serve_chunk,
    }

    async def answer(protocol: str, payload: bytes) -> bytes:
        return await handlers[protocol]("asker", payload)

    return answer


class Peers:
    """Peers by name; the transport is a call."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.blamed: list[tuple[str, str]] = []

    def connected_peers(self) -> tuple[str, ...]:
        return tuple(self.answers)

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        return await self.answers[peer](protocol, payload)

    def penalize(self, peer: str, fault: PeerFault) -> None:
        self.blamed.append((peer, fault.reason))


def fetching(peers: Peers, folder: Path) -> tuple[Fetching, Snapshots]:
    snapshots = Snapshots(folder / "snapshots")
    made = Fetching(peers, snapshots, validators=GENESIS.validator_set, genesis_hash=GENESIS.hash)
    return made, snapshots


async def take_all(peers: Peers, folder: Path) -> tuple[ChainStore, Exchange, Database]:
    """Sync a new home and open it."""
    fetch, snapshots = fetching(peers, folder)
    offer = await fetch.find()
    assert offer is not None
    told: list[tuple[int, int]] = []
    await fetch.fetch(offer, progress=lambda held, total: told.append((held, total)))
    assert told[-1] == (len(offer.manifest.chunks), len(offer.manifest.chunks))
    before = fetch.proofs[: offer.proof.epoch]
    restore_chain(folder / "chain", offer, before, genesis=GENESIS, snapshots=snapshots)
    database = Database.open(folder / "chain")
    chain = ChainStore.open(database, Journal(database), genesis_hash=GENESIS.hash)
    return chain, Exchange.load(GENESIS, chain.state_records()), database


def _checked(stored: StoredBlock) -> list[Transaction]:
    transactions = [decode_transaction(raw) for raw in stored.transactions]
    for transaction in transactions:
        transaction.set_signer(transaction.account)
    return transactions


@pytest.mark.parametrize("fillers", [0, 3])
async def test_a_new_node_has_the_state_of_the_newest_cut(
    source: SealedChain, tmp_path: Path, fillers: int
) -> None:
    await traded(source)
    await source.seal_epoch(fillers=fillers)
    await traded(source)
    cut = source.tip
    proof = await source.seal_epoch(blocks_between=4)
    await traded(source)
    chain, exchange, database = await take_all(Peers(a=answers_of(source)), tmp_path / "new")
    with database:
        head = chain.head()
        assert head is not None
        assert head.header == cut
        assert head.certificate == proof.certificate
        assert (exchange.height, exchange.app_hash) == (cut.height, head.app_hash)
        assert head.app_hash == source.chain.app_hashes(cut.height)[cut.height]
        assert chain.first_height == cut.height + 1
        assert [chain.epoch_proof(epoch) for epoch in (0, 1, 2)] == [
            source.chain.epoch_proof(0),
            None,
            None,
        ]
        epochs = Epochs(database, chain, Snapshots(tmp_path / "none"))
        assert epochs.reached(GENESIS.validator_set).epoch == 1
        assert epochs.following(1) == NextEpoch(proof.seal, proof.validators)
        for stored in source.chain.blocks(cut.height + 1, source.tip.height):
            outcome = exchange.apply(block_input(stored.block, _checked(stored)))
            assert outcome.app_hash == source.chain.app_hashes(exchange.height)[exchange.height]
        assert exchange.app_hash == source.exchange.app_hash


async def test_a_network_without_epochs_has_no_snapshots(
    source: SealedChain, tmp_path: Path, mock_clock: MockClock
) -> None:
    await source.grow(3)
    fetch, _ = fetching(Peers(a=answers_of(source)), tmp_path / "new")
    assert await fetch.find() is None
    assert trio.current_time() == 0, "nobody is waited for"


async def test_nobody_there_is_waited_for_and_then_given_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    fetch, _ = fetching(Peers(), tmp_path)
    assert await fetch.find() is None
    assert trio.current_time() == pytest.approx(limits.SEARCH_S)


async def _unanswered(_protocol: str, _payload: bytes) -> bytes:
    raise RequestFailed("timeout")


async def _rubbish(_protocol: str, _payload: bytes) -> bytes:
    return b"\xc1rubbish"


def _lying(source: SealedChain) -> dict[str, Answer]:
    honest = answers_of(source)

    async def forged_proof(protocol: str, payload: bytes) -> bytes:
        if protocol != EPOCHS_PROTOCOL:
            raise RequestFailed("busy")
        proof = source.chain.epoch_proof(0)
        assert proof is not None
        seal = msgspec.structs.replace(proof.seal, snapshot_root=bytes(32))
        header = msgspec.structs.replace(proof.header, seal=seal)
        return encode(EpochsReply((msgspec.structs.replace(proof, header=header),)))

    async def other_headers(protocol: str, payload: bytes) -> bytes:
        answer = await honest(protocol, payload)
        if protocol != SNAPSHOT_PROTOCOL:
            return answer
        reply = decode(answer, SnapshotReply, size_max=len(answer))
        return encode(SnapshotReply(reply.manifest, reply.headers[1:]))

    async def other_manifest(protocol: str, payload: bytes) -> bytes:
        answer = await honest(protocol, payload)
        if protocol != SNAPSHOT_PROTOCOL:
            return answer
        reply = decode(answer, SnapshotReply, size_max=len(answer))
        return encode(SnapshotReply(encode(snapshot.Manifest(1, ())), reply.headers))

    async def other_chunks(protocol: str, payload: bytes) -> bytes:
        answer = await honest(protocol, payload)
        return answer[:-1] + b"x" if protocol == CHUNK_PROTOCOL else answer

    async def half_of_the_chunks(protocol: str, payload: bytes) -> bytes:
        if protocol == CHUNK_PROTOCOL:
            request = decode(payload, ChunkRequest, size_max=len(payload))
            if request.index % 2:
                return b""
        return await honest(protocol, payload)

    return {
        "a": forged_proof,
        "b": other_headers,
        "c": other_manifest,
        "d": other_chunks,
        "e": half_of_the_chunks,
        "f": _unanswered,
        "g": _rubbish,
    }


async def test_liars_pay_and_do_not_stop_it(
    source: SealedChain, tmp_path: Path, impatient: None
) -> None:
    await traded(source)
    cut = source.tip
    await source.seal_epoch()
    peers = Peers(**_lying(source), z=answers_of(source))
    chain, exchange, database = await take_all(peers, tmp_path / "new")
    with database:
        assert exchange.height == cut.height
        head = chain.head()
        assert head is not None
        assert head.app_hash == exchange.app_hash
    assert {peer for peer, _ in peers.blamed} == {"a", "b", "c", "d", "g"}


async def test_a_snapshot_that_nobody_has_any_more_is_given_up(
    source: SealedChain, tmp_path: Path, impatient: None
) -> None:
    await traded(source)
    await source.seal_epoch()
    peers = Peers(a=answers_of(source))
    fetch, snapshots = fetching(peers, tmp_path / "new")
    offer = await fetch.find()
    assert offer is not None
    honest = peers.answers["a"]
    served = 0

    async def stops(protocol: str, payload: bytes) -> bytes:
        nonlocal served
        served += 1
        return await honest(protocol, payload) if served <= 2 else b""

    peers.answers["a"] = stops
    with pytest.raises(SnapshotLost):
        await fetch.fetch(offer, progress=lambda *_: None)
    assert snapshots.heights() == []
    peers.answers["a"] = honest
    told: list[int] = []
    await fetch.fetch(offer, progress=lambda held, _total: told.append(held))
    assert told[0] == 3, "what was copied is not copied again"
    assert snapshots.heights() == [offer.header.height]


async def test_pages_of_proofs_are_bounded(
    source: SealedChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await source.grow(1)
        await source.seal_epoch()
    size = len(encode(source.chain.epoch_proof(0)))
    monkeypatch.setattr("omninode.node.state_sync.serving.EPOCHS_PAGE_BYTES", 2 * size + 10)
    answer = answers_of(source)
    first = decode(
        await answer(EPOCHS_PROTOCOL, encode(EpochsRequest(0))), EpochsReply, size_max=10**6
    )
    assert len(first.proofs) == 2
    fetch, _ = fetching(Peers(a=answer), tmp_path / "new")
    assert await fetch.find() is not None
    assert [proof.epoch for proof in fetch.proofs] == [0, 1, 2, 3, 4]


async def test_a_peer_is_served_within_its_credit(
    source: SealedChain, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    await traded(source)
    cut = source.tip
    await source.seal_epoch()
    monkeypatch.setattr("omninode.node.state_sync.serving.SERVED_BURST_BYTES", 1_000)
    answer = answers_of(source)
    request = encode(ChunkRequest(cut.height, 0))
    served = [bool(await answer(CHUNK_PROTOCOL, request)) for _ in range(5)]
    assert served[0]
    assert not served[-1]
    assert not decode(
        await answer(EPOCHS_PROTOCOL, encode(EpochsRequest(0))), EpochsReply, size_max=10**6
    ).proofs
    mock_clock.jump(1.0)
    assert await answer(CHUNK_PROTOCOL, request)
