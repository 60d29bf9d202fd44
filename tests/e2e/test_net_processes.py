"""Validators in processes of their own: one is killed, one is stopped; the others go on."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from omninode.node.net.identity import NodeIdentity

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("network_process.py")
COUNT = 3


class Member:
    """One validator process and the last thing it said."""

    def __init__(self, number: int, port: int) -> None:
        self.seed = hashlib.sha256(b"process %d" % number).digest()
        self.id = NodeIdentity.from_seed(self.seed).peer_id
        self.port = port
        self.process: trio.Process | None = None
        self.last: dict[str, Any] = {}
        self.spoke_at = 0.0

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{self.id}"

    def is_linked(self, other: Member) -> bool:
        return self.last.get("linked", {}).get(other.id) == 2

    def heard(self, other: Member) -> int:
        return int(self.last.get("heard", {}).get(other.id, 0))


class Group:
    """The validators of one test."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.members = [Member(number, port) for number, port in enumerate(_free_ports(COUNT))]

    async def start(self, member: Member) -> None:
        told = {
            "seed": member.seed.hex(),
            "port": member.port,
            "peers": [other.address for other in self.members if other is not member],
            "validators": [other.id for other in self.members],
        }
        member.last = {}
        member.process = await trio.lowlevel.open_process(
            [sys.executable, str(PROGRAM), json.dumps(told)], stdout=subprocess.PIPE
        )
        self.nursery.start_soon(_listen, member, member.process)

    def send_signal(self, member: Member, number: signal.Signals) -> None:
        assert member.process is not None
        member.process.send_signal(number)

    async def kill(self, member: Member) -> None:
        if member.process is not None:
            member.process.kill()
            with trio.CancelScope(shield=True):
                await member.process.wait()

    def all_linked(self, *members: Member) -> bool:
        chosen = members or tuple(self.members)
        return all(a.is_linked(b) for a in chosen for b in chosen if a is not b)


async def _listen(member: Member, process: trio.Process) -> None:
    assert process.stdout is not None
    rest = b""
    async for data in process.stdout:
        *lines, rest = (rest + data).split(b"\n")
        if lines and member.process is process:
            member.last = json.loads(lines[-1])
            member.spoke_at = time.monotonic()


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


async def _until(condition: Callable[[], Any], within_s: float) -> float:
    started = time.monotonic()
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.02)
    return time.monotonic() - started


@asynccontextmanager
async def group_of_three() -> AsyncIterator[Group]:
    async with trio.open_nursery() as nursery:
        group = Group(nursery)
        try:
            for member in group.members:
                await group.start(member)
            await _until(group.all_linked, 30)
            yield group
        finally:
            for member in group.members:
                await group.kill(member)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("victim", range(COUNT))
async def test_a_killed_validator_is_linked_again_soon_after_it_listens(victim: int) -> None:
    async with group_of_three() as group:
        dead = group.members[victim]
        others = [member for member in group.members if member is not dead]
        await group.kill(dead)
        await _until(lambda: not any(dead.id in member.last["connected"] for member in others), 3)
        assert group.all_linked(*others)
        # Long enough for the others' back-off to have grown.
        counts = [member.heard(dead) for member in others]
        await trio.sleep(3)
        assert [member.heard(dead) for member in others] == counts
        await group.start(dead)
        await _until(lambda: dead.last, 20)
        took_s = await _until(group.all_linked, 10)
        assert took_s < 4
        await _until(lambda: all(m.heard(dead) > c for m, c in zip(others, counts, strict=True)), 3)


async def test_a_stopped_validator_is_dropped_and_comes_back() -> None:
    async with group_of_three() as group:
        stopped, *others = group.members
        group.send_signal(stopped, signal.SIGSTOP)
        try:
            await _until(
                lambda: not any(stopped.id in member.last["connected"] for member in others), 6
            )
            assert any(
                "no answer to a ping" in member.last["errors"][stopped.id] for member in others
            )
            # The others go on talking to each other meanwhile.
            first, second = others
            heard = first.heard(second)
            await _until(lambda: first.heard(second) > heard + 20, 10)
            assert group.all_linked(*others)
        finally:
            group.send_signal(stopped, signal.SIGCONT)
        await _until(lambda: all(stopped.id in member.last["connected"] for member in others), 20)
        heard = first.heard(stopped)
        await _until(group.all_linked, 20)
        await _until(lambda: first.heard(stopped) > heard + 5, 5)
