from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError

from omninode.node.net import transport
from omninode.node.net.settings import TcpAddress
from omninode.node.net.transport import Listener, PeerSocket, dial


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[PeerSocket, PeerSocket]]:
    accepted: list[PeerSocket] = []
    listener = Listener((TcpAddress("127.0.0.1", 0),))
    await listener.bind()

    async def accept(socket: PeerSocket) -> None:
        accepted.append(socket)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, accept)
        near = await dial(listener.addresses[0])
        with trio.fail_after(5):
            while not accepted:
                await trio.sleep(0.001)
        try:
            yield near, accepted[0]
        finally:
            await near.abort()
            await accepted[0].abort()
            await listener.close()
            nursery.cancel_scope.cancel()


async def _fill(socket: PeerSocket) -> None:
    while True:
        await socket.write(b"x" * 65536)


async def test_bytes_come_out_in_the_sizes_asked_for() -> None:
    async with _connected() as (near, far):
        await near.write(b"0123456789")
        assert [await far.read(2), await far.read(5), await far.read(100)] == [
            b"01",
            b"23456",
            b"789",
        ]
        assert (near.bytes_written, far.bytes_read) == (10, 10)


async def test_a_closed_peer_is_an_end() -> None:
    async with _connected() as (near, far):
        await near.write(b"last")
        await near.abort()
        assert await far.read(4) == b"last"
        assert await far.read(1) == b""
        assert await near.read(1) == b""
        with pytest.raises(ConnectionClosedError):
            await near.write(b"x")


async def test_a_write_that_nobody_reads_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "SOCKET_WRITE_TIMEOUT_MS", 100)
    async with _connected() as (near, _far):
        with trio.fail_after(10), pytest.raises(ConnectionClosedError, match="takes no data"):
            await _fill(near)
        assert await near.read(1) == b""


async def test_a_cancelled_write_is_still_written_whole() -> None:
    async with _connected() as (near, far):
        data = b"x" * 20_000_000
        got = 0
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def write() -> None:
                with scope:
                    await near.write(data)

            nursery.start_soon(write)
            while got < len(data):
                got += len(await far.read(1 << 20))
                scope.cancel()
        assert got == len(data)


async def test_abort_wakes_a_writer_that_hangs() -> None:
    async with _connected() as (near, _far), trio.open_nursery() as nursery:

        async def fill() -> None:
            with pytest.raises(ConnectionClosedError):
                await _fill(near)

        nursery.start_soon(fill)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(1):
            await near.abort()
