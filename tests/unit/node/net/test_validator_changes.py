"""Validators that come and go while the network runs."""

from __future__ import annotations

import pytest
import trio

from network_world import Net, Node, identity, until
from omninode.node.net import link, serving
from omninode.node.net.settings import Plane


def _set(*numbers: int) -> frozenset[str]:
    return frozenset(identity(number).peer_id for number in numbers)


def _linked(one: Node, two: Node) -> bool:
    return len(one.info(two).planes) == len(two.info(one).planes) == 2


async def test_a_validator_that_leaves_the_set_stays_as_a_peer(net: Net) -> None:
    one, two = await net.pair()
    await until(lambda: _linked(one, two))
    for node in (one, two):
        node.network.set_validator_peers(_set(1))
    assert not one.network.send(two.id, Plane.VOTE, b"x")
    assert one.network.broadcast(Plane.VOTE, b"x") == 0
    await until(lambda: not one.info(two).planes and not two.info(one).planes)
    assert not one.info(two).is_validator
    assert one.network.validator_peers == _set(1)
    assert not one.went
    assert one.network._admission._strangers.total() == 1


async def test_a_peer_that_joins_the_set_is_linked_on_its_connection(net: Net) -> None:
    one = await net.start(1, validator_peers=_set(1))
    two = await net.start(2, dials=(one,), validator_peers=_set(1))
    await until(lambda: one.knows(two) and two.knows(one))
    assert one.network._admission._strangers.total() == 1
    one.network.set_validator_peers(_set(1, 2))
    two.network.set_validator_peers(_set(1, 2))
    await until(lambda: _linked(one, two))
    assert one.network.send(two.id, Plane.VOTE, b"vote")
    await until(lambda: two.frames[Plane.VOTE] == [(one.id, b"vote")])
    assert one.came == [two.id]
    assert not one.network._admission._strangers
    assert one.info(two).is_validator


async def test_a_set_that_one_side_learns_later_costs_nobody(net: Net) -> None:
    one, two = await net.pair(validator_peers=_set(1))
    two.network.set_validator_peers(_set(1, 2))
    await trio.sleep(0.5)
    two.network.send(one.id, Plane.VOTE, b"early")
    assert not one.frames[Plane.VOTE]
    one.network.set_validator_peers(_set(1, 2))
    await until(lambda: one.frames[Plane.VOTE] == [(two.id, b"early")])
    await until(lambda: _linked(one, two))
    assert one.info(two).score == 0


async def test_a_set_that_one_side_learns_much_later_is_taken_up_at_once(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PLANE_WAIT_MS", 50)
    monkeypatch.setattr(link, "LINK_REOPEN_DELAY_MS", 1_000)
    one, two = await net.pair(validator_peers=_set(1))
    two.network.set_validator_peers(_set(1, 2))
    await until(lambda: one.info(two).score < 0)
    assert one.info(two).score >= -4
    one.network.set_validator_peers(_set(1, 2))
    two.network.set_validator_peers(_set(1, 2))
    await until(lambda: _linked(one, two), within_s=3)
