from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from omninode.consensus.types import Header
from omninode.encoding import encode
from omninode.errors import Malformed
from omninode.node.heads import HEADS_TOPIC, Head, HeadNews

VALIDATORS = frozenset({"v0", "v1"})


class Peers:
    """What the news need of a network."""

    validator_peers = VALIDATORS

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.heard: list[str] = []
        self.spoken: list[str] = []
        self.listeners = True

    def subscribe(self, topic: str, _handler: object) -> None:
        self.heard.append(topic)

    def speak(self, topic: str) -> None:
        self.spoken.append(topic)

    def has_listeners(self, _topic: str) -> bool:
        return self.listeners

    def publish(self, _topic: str, data: bytes) -> bool:
        self.published.append(data)
        return True


class World:
    """One node's news."""

    def __init__(self, index: int | None, height: int = 5) -> None:
        self.peers = Peers()
        self.fetched = 0
        self.news = HeadNews(
            cast("Any", self.peers),
            own_index=lambda: index,
            own_height=lambda: height,
            fetch=self.fetch,
        )

    def fetch(self) -> None:
        self.fetched += 1

    async def hear(self, author: str, height: int) -> bool:
        return await self.news.hear(author, encode(Head(height)))


def _header(height: int, proposer: int) -> Header:
    class Stored:
        pass

    stored: Any = Stored()
    stored.height, stored.proposer = height, proposer
    return cast("Header", stored)


def test_the_proposer_alone_tells_of_a_block() -> None:
    world = World(index=1)
    for proposer in (0, 1, 2):
        world.news.stored(_header(7, proposer))
    assert world.peers.published == [encode(Head(7))]
    assert (world.peers.spoken, world.peers.heard) == ([HEADS_TOPIC], [])


def test_nothing_is_told_while_nobody_listens() -> None:
    world = World(index=1)
    world.peers.listeners = False
    world.news.stored(_header(7, 1))
    assert not world.peers.published


async def test_news_of_a_validator_are_fetched_and_passed_on() -> None:
    world = World(index=None)
    assert world.peers.heard == [HEADS_TOPIC]
    assert await world.hear("v0", 6)
    assert world.fetched == 1
    assert await world.hear("v1", 5)
    assert world.fetched == 1, "this node has that height"


async def test_news_of_strangers_and_old_news_are_not_passed_on() -> None:
    world = World(index=None)
    assert not await world.hear("stranger", 99)
    assert await world.hear("v0", 9)
    assert not await world.hear("v0", 9)
    assert not await world.hear("v0", 8)
    assert world.fetched == 1


async def test_a_validator_that_claims_too_much_silences_nobody(autojump_clock: MockClock) -> None:
    world = World(index=None)
    for step in range(1_000):
        await world.hear("v0", (1 << 60) + step)
    assert world.fetched == 1
    await trio.sleep(1)
    assert await world.hear("v1", 6)
    assert world.fetched == 2


@pytest.mark.parametrize("data", [b"", b"\x91\xc0", b"\x91\x01\x01", b"\x91" * 20])
async def test_news_in_bad_form_are_a_fault(data: bytes) -> None:
    with pytest.raises(Malformed):
        await World(index=None).news.hear("v0", data)
