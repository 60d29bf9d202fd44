"""Nothing leaves before the log is durable; what was promised is there after a crash."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from trio.testing import MockClock

from driver_world import Node, World, make_genesis, until
from omninode.consensus.messages import Message, ProposalMessage, VoteMessage
from omninode.consensus.records import WalBlock, WalRecord, WalVote
from omninode.consensus.types import Block, Certificate, Vote, VoteKind, body_root
from omninode.consensus.vote_log import VoteLog
from omninode.crypto import keccak256
from omninode.dex.transaction import Transaction
from omninode.encoding import decode
from omninode.errors import BrokenInvariant, StorageFault


class GatedLog:
    """A real vote log whose sync waits for the test."""

    def __init__(self, log: VoteLog) -> None:
        self._log = log
        self.appended: list[WalRecord] = []
        self.durable: list[WalRecord] = []
        self.open = threading.Event()
        self.open.set()
        self.waiting = 0

    def append(self, record: WalRecord) -> None:
        self.appended.append(record)
        self._log.append(record)

    def guard(self, vote: Vote) -> None:
        self._log.guard(vote)

    def sync(self) -> None:
        covered = len(self.appended)
        self.waiting += 1
        assert self.open.wait(timeout=30)
        self._log.sync()
        self.durable = self.appended[:covered]
        self.waiting -= 1


def votes_of(frame: bytes) -> list[Vote]:
    message: Message = decode(frame, Message, size_max=len(frame))  # type: ignore[arg-type]
    if isinstance(message, ProposalMessage):
        return [message.proposal.vote]
    return [message.vote] if isinstance(message, VoteMessage) else []


async def test_no_vote_and_no_final_block_leaves_before_the_log_is_durable(
    world: World, mock_clock: MockClock
) -> None:
    logs: dict[str, GatedLog] = {}

    def wrap(name: str, log: VoteLog) -> GatedLog:
        logs[name] = GatedLog(log)
        return logs[name]

    world.wrap_log = wrap
    sent: list[Vote] = []

    def watch(sender: str, _receiver: str, frame: bytes) -> bytes:
        durable = {r.vote for r in logs[sender].durable if isinstance(r, WalVote)}
        blocks = {r.block.hash for r in logs[sender].durable if isinstance(r, WalBlock)}
        for vote in votes_of(frame):
            assert vote in durable
            assert vote.block_hash in {*blocks, bytes(32)}
            sent.append(vote)
        return frame

    world.hub.bend_frame = watch
    nodes = await world.start_armed()
    await world.grow(nodes[0], 5, others=nodes)
    slow = nodes[2]
    log = logs[slow.name]
    log.open.clear()
    world.clock.stuck = 1
    others = [node for node in nodes if node is not slow]
    await world.grow(others[0], 3, others=others)
    # The vote is in the log's buffer, and nothing of this node has left since.
    assert log.waiting == 1
    stuck = {r.vote for r in log.appended[len(log.durable) :] if isinstance(r, WalVote)}
    assert stuck
    assert stuck.isdisjoint(sent)
    assert slow.height < others[0].height
    world.clock.stuck = 0
    log.open.set()
    await until(lambda: stuck <= set(sent))
    await world.final(await world.submit(slow))
    world.agree()


async def test_a_disk_fault_of_the_log_ends_the_node(world: World, mock_clock: MockClock) -> None:
    class FailingLog(GatedLog):
        def sync(self) -> None:
            raise StorageFault("the disk is full")

    await world.start_armed(1, 2, 3)
    world.wrap_log = lambda _name, log: FailingLog(log)
    node = Node(world, "peer0", 0)
    faults: list[StorageFault] = []
    try:
        await node.run()
    except* StorageFault as group:
        faults += [error for error in _leaves(group) if isinstance(error, StorageFault)]
    assert [str(fault) for fault in faults] == ["the disk is full"]


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def test_a_storage_fault_is_the_last_word(
    world: World, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping after it must not try to store more and hide it behind another error."""
    nodes = await world.start_armed(1, 2, 3)
    node = Node(world, "peer0", 0)
    faults: list[BaseException] = []

    async def run() -> None:
        try:
            await node.run()
        except* StorageFault as group:
            faults.extend(_leaves(group))

    world.nursery.start_soon(run)
    await until(lambda: "peer0" in world.hub.nodes and node.core.is_armed)
    database = node.state.database
    database.fault = StorageFault("the disk is full")
    await world.submit(nodes[0], 3)
    await until(lambda: faults)
    assert [str(fault) for fault in faults] == ["the disk is full"]


async def test_final_blocks_that_only_the_log_holds_are_executed_after_a_restart(
    world: World, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed and acted upon, but the database died before its batch: all of a lone network."""
    world.use_genesis(make_genesis(1))
    (node,) = await world.start_armed()
    await world.grow(node, 5)
    await until(lambda: len(node.stored) == node.height)
    kept = node.state.chain.head()
    assert kept is not None

    async def lost(_committed: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(node.state.chain, "commit", lost)
    await world.grow(node, 4)
    final, app_hash = node.height, node.execution.exchange.app_hash
    assert final >= kept.height + 4
    node.execution._unstored.clear()
    await node.stop()
    (again,) = await world.start_armed()
    await until(lambda: again.height >= final)
    await until(lambda: again.state.chain.parts(final) is not None)
    assert again.app_hash_at(final) == app_hash


async def test_an_acknowledged_transaction_outlives_a_restart_of_everybody(
    world: World, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    for node in nodes[1:]:
        await node.stop()
    ids = await world.submit(nodes[0], 3)
    await nodes[0].stop()
    nodes = await world.start_armed()
    await world.final(ids)
    results = [nodes[1].state.chain.transaction(i) for i in ids]
    assert all(stored is not None and stored.result.code == "ok" for stored in results)


async def test_a_node_that_follows_without_voting_keeps_a_short_log(
    world: World, mock_clock: MockClock
) -> None:
    await world.start_armed(0, 1, 2)
    observer = await world.start_node("observer")
    service = observer.consensus
    synced = 0

    class Counting(GatedLog):
        def sync(self) -> None:
            nonlocal synced
            synced += 1
            super().sync()

    service._output._log = Counting(observer.vote_log)
    certificate = Certificate(VoteKind.FINALIZE, 0, 1, b"\1" * 32, (0, 1, 2), (bytes(65),) * 3)
    for _ in range(1_000):
        service._write_certificate(certificate)
        service._output.flush()
        await trio.sleep(0.001)
    assert 3 <= synced < 20


async def test_a_transaction_that_many_logged_blocks_name_is_checked_and_held_once(
    world: World, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(world, "peer0", 0)
    await node.open()
    try:
        raws = tuple(world.order(n).raw for n in range(8))
        ids = tuple(keccak256(raw) for raw in raws)
        genesis = node.state.genesis
        records: list[WalRecord] = []
        for view in range(1, 50):
            header = replace(genesis, height=1, view=view, body_root=body_root(ids))
            records.append(WalBlock(Block(header, ids), raws))
        checked: list[bytes] = []
        check = node.admission.check

        async def counted(some: Sequence[bytes]) -> list[Transaction]:
            checked.extend(some)
            return await check(some)

        monkeypatch.setattr(node.admission, "check", counted)
        await node.consensus.replay(records)
        assert checked == list(raws)
        bodies = node.consensus.bodies
        held = [bodies.of(record.block) for record in records if isinstance(record, WalBlock)]
        assert len(held) == 49
        assert {id(body) for row in held for body in row} == {id(body) for body in held[0]}
    finally:
        node.vote_log.close()
        node.state.database.close()


async def test_a_logged_block_that_was_never_valid_is_our_defect(
    world: World, mock_clock: MockClock
) -> None:
    node = Node(world, "peer0", 0)
    await node.open()
    try:
        raw = b"no transaction"
        ids = (keccak256(raw),)
        header = replace(node.state.genesis, height=1, view=1, body_root=body_root(ids))
        with pytest.raises(BrokenInvariant, match="invalid block"):
            await node.consensus.replay([WalBlock(Block(header, ids), (raw,))])
    finally:
        node.vote_log.close()
        node.state.database.close()
