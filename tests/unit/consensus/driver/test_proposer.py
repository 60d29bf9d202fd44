"""When a leader wakes up, and when it sleeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus.driver.proposer import Proposer
from omninode.consensus.messages import PendingMessage
from omninode.consensus.types import genesis_header
from omninode.crypto import ZERO_HASH
from omninode.encoding import decode

DELTA_MS = 50
PARENT = genesis_header(b"\1" * 32, time_ms=0, app_hash=ZERO_HASH, valset_hash=ZERO_HASH)


def now_ms() -> int:
    return round(trio.current_time() * 1_000)


class Pool:
    """Arrivals by time."""

    def __init__(self) -> None:
        self.arrived: dict[bytes, int] = {}
        self.looked = 0
        self.spread_again: list[bytes] = []
        self._arrivals = trio.lowlevel.ParkingLot()

    def add(self, transaction: bytes) -> None:
        self.arrived[transaction] = now_ms()
        self._arrivals.unpark_all()

    def select(self, excluded: Collection[bytes]) -> tuple[bytes, ...]:
        return tuple(t for t in self.arrived if t not in excluded)

    def oldest_ms(self, excluded: Collection[bytes]) -> int | None:
        self.looked += 1
        return min((at for t, at in self.arrived.items() if t not in excluded), default=None)

    def stale(self, excluded: Collection[bytes], *, before_ms: int, bytes_max: int) -> list[bytes]:
        return [t for t, at in self.arrived.items() if t not in excluded and at < before_ms]

    def newest_ms(self, ids: Iterable[bytes]) -> int | None:
        return max((self.arrived[i] for i in ids if i in self.arrived), default=None)

    def spread(self, raws: Iterable[bytes]) -> None:
        self.spread_again += raws

    async def changed(self) -> None:
        await self._arrivals.park()


class Service:
    """What a proposer sees of consensus; validator 0 of two."""

    def __init__(self, me: int | None = 0) -> None:
        self.core = type("Core", (), {"me": me})()
        self.bodies = self
        self.halted = None
        self.fed: list[tuple[int, into.Input]] = []
        self.sent: list[tuple[int, str, tuple[bytes, ...]]] = []
        self.pool = Pool()
        self.peers = self
        self.clock = now_ms
        self.proposer = Proposer(self, self, delta_ms=DELTA_MS)  # type: ignore[arg-type]

    def ids_of(self, ancestors: Sequence[bytes]) -> set[bytes]:
        return set(ancestors)

    def hold_own(self, ids: Sequence[bytes]) -> None:
        pass

    def feed(self, event: into.Input) -> None:
        self.fed.append((now_ms(), event))

    def peer_of(self, validator: int) -> str:
        return f"peer{validator}"

    def send(self, peer: str, frame: bytes) -> bool:
        message = decode(frame, PendingMessage, size_max=len(frame))
        self.sent.append((now_ms(), peer, message.transactions))
        return True


def order(not_before_ms: int, empty_at_ms: int, view: int = 1) -> out.BuildBlock:
    return out.BuildBlock(
        view,
        PARENT,
        (),
        transactions_allowed=True,
        not_before_ms=not_before_ms,
        empty_at_ms=empty_at_ms,
    )


@pytest.fixture
def service() -> Service:
    return Service()


async def test_an_idle_leader_proposes_an_empty_block_at_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    start_ms = now_ms()
    service.proposer.build(order(start_ms + 20, start_ms + 2_000))
    await trio.sleep(5)
    assert service.fed == [(start_ms + 2_000, into.BlockBuilt(1, PARENT.hash, ()))]


async def test_an_arrival_wakes_an_idle_leader(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    start_ms = now_ms()
    service.proposer.build(order(start_ms + 20, start_ms + 2_000))
    await trio.sleep(0.5)
    service.pool.add(b"t")
    await trio.sleep(0.01)
    assert service.fed == [(start_ms + 500, into.BlockBuilt(1, PARENT.hash, (b"t",)))]


@pytest.mark.parametrize("attempt", range(20))
async def test_an_arrival_in_the_same_breath_as_the_order_is_not_missed(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service, attempt: int
) -> None:
    """Trio runs ready tasks in a random order: whatever it is, the arrival counts."""

    async def arrive() -> None:
        for _ in range(attempt % 7):
            await trio.lowlevel.checkpoint()
        service.pool.add(b"t")

    nursery.start_soon(service.proposer.run)
    await trio.testing.wait_all_tasks_blocked()
    start_ms = now_ms()
    nursery.start_soon(arrive)
    service.proposer.build(order(start_ms, start_ms + 2_000))
    await trio.sleep(0.1)
    assert [at for at, _ in service.fed if at - start_ms < 10]


async def test_a_new_order_replaces_the_old_one(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    start_ms = now_ms()
    service.pool.add(b"t")
    service.proposer.build(order(start_ms + 1_000, start_ms + 2_000))
    await trio.sleep(0.1)
    service.proposer.view_entered(0, ())
    service.proposer.build(order(start_ms + 200, start_ms + 2_000, view=2))
    await trio.sleep(5)
    built = [event for _, event in service.fed if isinstance(event, into.BlockBuilt)]
    assert built == [into.BlockBuilt(2, PARENT.hash, (b"t",))]


async def test_nothing_to_do_is_no_work(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    service.proposer.view_entered(1, ())
    await trio.sleep(1)
    looked = service.pool.looked
    await trio.sleep(1_000)
    assert service.pool.looked == looked


async def test_what_is_a_delay_old_is_handed_over_and_starts_patience(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    service.proposer.view_entered(1, ())
    await trio.sleep(1)
    start_ms = now_ms()
    service.pool.add(b"t")
    await trio.sleep(0.12)
    assert service.fed == [(start_ms + DELTA_MS, into.PendingChanged(pending=True))]
    assert service.sent == [(start_ms + DELTA_MS, "peer1", (b"t",))]


async def test_it_is_handed_over_again_while_the_view_lasts_and_in_every_new_one(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    service.proposer.view_entered(1, ())
    start_ms = now_ms()
    service.pool.add(b"t")
    await trio.sleep((DELTA_MS + 9 * DELTA_MS) / 1_000)
    assert [at - start_ms for at, _, _ in service.sent] == [50, 250, 450]
    service.proposer.executed()
    await trio.sleep(0.01)
    assert len(service.sent) == 3
    service.proposer.view_entered(2, ())
    await trio.sleep(0.01)
    assert service.sent[-1][1] == "peer2"
    told = [event for _, event in service.fed if isinstance(event, into.PendingChanged)]
    assert len(told) == 2


async def test_what_an_ancestor_holds_is_not_pending(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    service.pool.add(b"t")
    service.proposer.view_entered(1, (b"t",))
    await trio.sleep(1)
    assert service.fed == []
    assert service.sent == []


async def test_what_was_passed_over_is_handed_over_and_a_backlog_is_not(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service
) -> None:
    nursery.start_soon(service.proposer.run)
    for name in (b"lost", b"taken", b"backlog"):
        service.pool.add(name)
        await trio.sleep(0.1)
    service.proposer.view_entered(1, (b"taken",))
    await trio.sleep(0.01)
    assert [raws for _, _, raws in service.sent] == [(b"lost",)]
    assert service.fed[-1] == (now_ms() - 10, into.PendingChanged(pending=True))


async def test_an_account_funded_by_a_block_is_looked_at_again(
    autojump_clock: MockClock, nursery: trio.Nursery, service: Service, monkeypatch: Any
) -> None:
    oldest_ms = service.pool.oldest_ms
    monkeypatch.setattr(service.pool, "oldest_ms", lambda _excluded: None)
    nursery.start_soon(service.proposer.run)
    service.proposer.view_entered(1, ())
    service.pool.add(b"t")
    await trio.sleep(1)
    assert service.fed == []
    monkeypatch.setattr(service.pool, "oldest_ms", oldest_ms)
    service.proposer.executed()
    await trio.sleep(0.1)
    assert len(service.fed) == 1


async def test_an_observer_hands_nothing_over_but_repeats_itself(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    service = Service(me=None)
    nursery.start_soon(service.proposer.run)
    service.proposer.view_entered(1, ())
    service.pool.add(b"t")
    await trio.sleep(0.9)
    assert service.pool.spread_again == []
    await trio.sleep(4)
    assert service.fed == []
    assert service.sent == []
    assert 2 <= len(service.pool.spread_again) <= 4
