"""A validator's duties against a real exchange: what they say is executed, and what comes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from exchange_world import VALIDATORS
from omninode.consensus.types import Vote, VoteKind
from omninode.contracts.statements import Statements
from omninode.crypto import SigningKey
from omninode.dex.staking.registry import TOMBSTONED
from omninode.dex.transaction import Transaction, decode_transaction
from omninode.errors import UserError
from omninode.node.duties.limits import FRESH_MS, PROBE_DEADLINE_MS
from omninode.node.duties.service import Duties
from omninode.node.net.requests import RequestFailed
from staking_world import (
    NEWCOMER,
    OWNERS,
    StakedWorld,
    change,
    identity_of,
    make_staked_genesis,
    vote,
)

BLOCK_S = 0.1
FULL, NOTHING = 10_000, 0


class Network:
    """The world's validators, each with its duties; what they say is in the next block."""

    def __init__(self, world: StakedWorld, clock: MockClock, nursery: trio.Nursery) -> None:
        self.world = world
        self.clock = clock
        self.nursery = nursery
        self.waiting: list[Transaction] = []
        self.members: list[Duties] = []
        self.silent: set[str] = set()
        self.said: list[str] = []
        self.speaks = True
        self.ahead_ms = 0

    # A door and an asker.

    async def submit(self, raw: bytes) -> bytes:
        transaction = decode_transaction(raw)
        transaction.set_signer(transaction.account)
        self.waiting.append(transaction)
        self.said.append(type(transaction.action).__name__)
        return transaction.hash

    async def request(self, peer: str, _protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        assert timeout_ms <= PROBE_DEADLINE_MS
        if peer in self.silent:
            raise RequestFailed("not_connected")
        return await self.submit(payload)

    async def join(self, key: SigningKey) -> deque[tuple[Vote, Vote]]:
        evidence: deque[tuple[Vote, Vote]] = deque(maxlen=8)
        exchange = self.world.exchange
        duties = Duties(
            exchange,
            me=key.address,
            statements=Statements(
                key, door=self, exchange=exchange, now_ms=lambda: self.world.now_ms
            ),
            evidence=evidence,
            network=self,
            may_speak=lambda: self.speaks,
            now_ms=lambda: self.world.now_ms + self.ahead_ms,
        )
        self.members.append(duties)
        await self.nursery.start(duties.run)
        await wait_all_tasks_blocked()
        return evidence

    async def block(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.world.apply(*waiting, after_ms=int(BLOCK_S * 1000))
        self.clock.jump(BLOCK_S)
        for duties in self.members:
            duties.changed()
        await wait_all_tasks_blocked()

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(500):
            if condition():
                return
            await self.block()
        raise AssertionError("it does not come true")


@pytest.fixture
async def network(mock_clock: MockClock) -> AsyncIterator[Network]:
    async with trio.open_nursery() as nursery:
        yield Network(StakedWorld(make_staked_genesis(settled=True)), mock_clock, nursery)
        nursery.cancel_scope.cancel()


async def test_a_newcomer_says_once_that_it_has_caught_up(
    network: Network, mock_clock: MockClock
) -> None:
    world = network.world
    world.bring(change(1, OWNERS[5], 5_000, identity_of(world, OWNERS[5])))
    network.speaks = False
    await network.join(NEWCOMER)
    await network.block()
    assert network.said == [], "it is behind"
    network.speaks, network.ahead_ms = True, FRESH_MS
    await network.block()
    assert network.said == [], "its newest block is old"
    network.ahead_ms = 0
    await network.until(lambda: world.member(OWNERS[5]).is_synced)
    await network.until(lambda: world.set.index_of(NEWCOMER.address) is not None)
    assert network.said.count("Synced") == 1


async def test_a_stranger_has_nothing_to_say(network: Network, mock_clock: MockClock) -> None:
    await network.join(SigningKey(b"\x55" * 32))
    evidence = await network.join(NEWCOMER)
    evidence.append(contradiction(network.world, VALIDATORS[0]))
    for _ in range(40):
        await network.block()
    assert network.said == []


def contradiction(world: StakedWorld, key: SigningKey) -> tuple[Vote, Vote]:
    return vote(world, key, VoteKind.NOTARIZE, b"one"), vote(world, key, VoteKind.NOTARIZE, b"two")


async def test_two_contradictory_votes_end_in_a_tombstone(
    network: Network, mock_clock: MockClock
) -> None:
    world = network.world
    seen = [await network.join(VALIDATORS[n]) for n in (0, 1)]
    before = world.stake_of(OWNERS[3])[0]
    for evidence in seen:
        evidence.append(contradiction(world, VALIDATORS[3]))
        evidence.append(contradiction(world, SigningKey(b"\x77" * 32)))
    await network.until(lambda: world.member(OWNERS[3]).status == TOMBSTONED)
    await network.until(lambda: not any(seen))
    assert world.stake_of(OWNERS[3])[0] < before
    assert network.said.count("ReportEvidence") == 2, "each that saw it reports it once"


async def test_evidence_that_was_refused_is_reported_again(
    network: Network, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = await network.join(VALIDATORS[0])
    submit, refused = network.submit, 0

    async def busy(raw: bytes) -> bytes:
        nonlocal refused
        refused += 1
        if refused < 3:
            raise UserError("busy", "the mempool is full")
        return await submit(raw)

    monkeypatch.setattr(network, "submit", busy)
    evidence.append(contradiction(network.world, VALIDATORS[2]))
    await network.until(lambda: network.world.member(OWNERS[2]).status == TOMBSTONED)
    assert refused >= 3


async def test_audits_find_who_serves_and_who_does_not(
    network: Network, mock_clock: MockClock
) -> None:
    """Everybody examines everybody: the silent one's exchange service is worth nothing."""
    world = network.world
    for key in VALIDATORS[:4]:
        await network.join(key)
    network.silent.add(world.set.validators[2].peer_id)
    await network.until(lambda: world.number == 1)
    assert network.said.count("AuditProbe") == 9
    assert network.said.count("CommitAudits") == 4
    await network.until(lambda: world.number == 2)
    assert network.said.count("RevealAudits") == 8, "those of both epochs, each once"
    results = [world.member(owner).services[0] for owner in OWNERS[:4]]
    assert results == [FULL, FULL, NOTHING, FULL]


async def test_a_probe_that_is_never_final_is_worth_nothing(
    network: Network, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audited node says that it took it, and lets it go."""
    world = network.world
    liar = world.set.validators[1].peer_id
    request = network.request

    async def lost(peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        if peer == liar:
            return b"ok"
        return await request(peer, protocol, payload, timeout_ms=timeout_ms)

    monkeypatch.setattr(network, "request", lost)
    monkeypatch.setattr("omninode.node.duties.challenges.PROBE_DEADLINE_MS", 500)
    for key in VALIDATORS[:4]:
        await network.join(key)
    await network.until(lambda: world.number == 2)
    assert [world.member(owner).services[0] for owner in OWNERS[:4]] == [FULL, NOTHING, FULL, FULL]
