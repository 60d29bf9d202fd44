"""TCP under libp2p: sockets that are never written half a frame and never wait for ever.

Rules
    S1. A write ends within `SOCKET_WRITE_TIMEOUT_MS` or the socket is closed.
    S2. A write is not cut short by a cancellation: Noise counts messages, so a frame that was
        encrypted but not sent would ruin the connection for everyone on it.
    S3. `abort` closes at once, whatever others are doing with the socket. It is the one way to be
        rid of a hung peer: libp2p's own disconnect first wants to write to it.
    S4. Nobody reads for long without giving way to others, also if all of it is there already; who
        has a pace is read no faster than that.

Listening and dialling are done here too. libp2p's listener never gives a slot back when an inbound
connection ends, and its dialler refuses a peer for a minute after one failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from typing_extensions import override

from omninode.errors import ConfigError
from omninode.node.net.allowance import Allowance
from omninode.node.net.limits import (
    SOCKET_READ_BYTES,
    SOCKET_TURN_READS,
    SOCKET_WRITE_TIMEOUT_MS,
)
from omninode.node.net.private_network import KeyMismatch, PrivateChannel
from omninode.node.net.settings import TcpAddress


class PeerSocket(ReadWriteCloser):
    """One TCP connection to a peer. One task reads at a time, one writes; Yamux sees to it.

    Args:
        stream: The connected socket; trio has set TCP_NODELAY and a low TCP_NOTSENT_LOWAT on it.
        private_key: The key of a private network; None for a public one.
    """

    def __init__(self, stream: trio.SocketStream, private_key: bytes | None = None) -> None:
        self._stream = stream
        self._channel = PrivateChannel(private_key) if private_key is not None else None
        self.pace: Allowance | None = None
        """How fast it is read, in pieces (S4); None for as fast as it comes."""
        self._reads = 0
        self.has_other_key = False
        """Whether the other end turned out not to be of the same private network."""
        self._buffer = b""
        self._taken = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.closed = trio.Event()
        host, port = stream.socket.getpeername()[:2]
        self.remote = TcpAddress(str(host), int(port))

    @override
    async def read(self, n: int | None = None) -> bytes:
        """Return up to `n` bytes; empty means that the connection ended.

        Noise asks for 2 bytes, then for a message: both come out of one larger read.

        Raises:
            ConnectionClosedError: The connection broke.
        """
        if not await self.has_data():
            return b""
        start = self._taken
        self._taken = len(self._buffer) if n is None else min(len(self._buffer), start + n)
        return self._buffer[start : self._taken]

    async def has_data(self) -> bool:
        """Wait until there is something to read; false at the end of the connection.

        Raises:
            ConnectionClosedError: The connection broke.
        """
        self._reads += 1
        if self._reads % SOCKET_TURN_READS == 0:
            await trio.lowlevel.checkpoint()
            if self.pace is not None:
                await self.pace.spend(SOCKET_TURN_READS)
        if self._taken < len(self._buffer):
            return True
        try:
            self._buffer, self._taken = await self._receive(), 0
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(f"connection broke: {error}", transport="tcp") from None
        except trio.ClosedResourceError:
            return False
        except KeyMismatch:
            self.has_other_key = True
            message = "the peer has another network key"
            raise ConnectionClosedError(message, transport="tcp") from None
        return bool(self._buffer)

    async def _receive(self) -> bytes:
        """Return the next bytes of the connection; empty at its end."""
        while received := bytes(await self._stream.receive_some(SOCKET_READ_BYTES)):
            self.bytes_read += len(received)
            if self._channel is None:
                return received
            if plain := self._channel.open(received):
                return plain
        return b""

    @override
    async def write(self, data: bytes) -> None:
        """Write all of `data` (S1, S2).

        Raises:
            ConnectionClosedError: The connection broke, was closed, or takes nothing.
        """
        if self._channel is not None:
            data = self._channel.seal(data)
        deadline = trio.current_time() + SOCKET_WRITE_TIMEOUT_MS / 1000
        with trio.CancelScope(shield=True, deadline=deadline) as scope:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError(
                    f"connection closed: {error}", transport="tcp"
                ) from None
        if scope.cancelled_caught:
            await self.abort()
            raise ConnectionClosedError("peer takes no data", transport="tcp")
        self.bytes_written += len(data)

    @override
    async def close(self) -> None:
        """Close the socket."""
        await self.abort()

    async def abort(self) -> None:
        """Close the socket at once (S3)."""
        self.closed.set()
        await trio.aclose_forcefully(self._stream)

    @override
    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the other end as host and port."""
        return self.remote.host, self.remote.port


async def dial(address: TcpAddress, private_key: bytes | None = None) -> PeerSocket:
    """Connect to an address, as a member of the private network if there is a key.

    Raises:
        OSError: Nobody answers there.
    """
    return PeerSocket(await trio.open_tcp_stream(address.host, address.port), private_key)


class Listener:
    """The sockets on which peers reach this node.

    Args:
        addresses: Where to listen; port 0 takes a free one.
        private_key: The key of a private network; None for a public one.
    """

    def __init__(self, addresses: tuple[TcpAddress, ...], private_key: bytes | None = None) -> None:
        self._requested = addresses
        self._private_key = private_key
        self._listeners: list[trio.SocketListener] = []
        self.addresses: tuple[TcpAddress, ...] = ()

    async def bind(self) -> None:
        """Open the sockets and fill `addresses` with where they really are.

        Raises:
            ConfigError: An address is taken or not ours.
        """
        bound: list[TcpAddress] = []
        for address in self._requested:
            try:
                opened = await trio.open_tcp_listeners(address.port, host=address.host)
            except OSError as error:
                await self.close()
                raise ConfigError(
                    f"can not listen for peers on {address.text()}: {error.strerror}",
                    hint="set p2p.listen to a free address of this machine",
                ) from None
            self._listeners += opened
            bound += [
                TcpAddress(address.host, int(listener.socket.getsockname()[1]))
                for listener in opened
            ]
        self.addresses = tuple(bound)

    def port_for(self, host: str) -> int:
        """Return where this node listens for a peer at an IP address; 0 if it does not."""
        is_ipv6 = ":" in host
        same = (a.port for a in self.addresses if (":" in a.host) == is_ipv6)
        return next(same, 0)

    async def serve(self, accept: Callable[[PeerSocket], Awaitable[None]]) -> None:
        """Hand every connection to `accept`, each in a task of its own, until cancelled."""

        async def handle(stream: trio.SocketStream) -> None:
            try:
                socket = PeerSocket(stream, self._private_key)
            except OSError:
                # The peer was gone before its address could be read.
                await trio.aclose_forcefully(stream)
                return
            await accept(socket)
            # trio closes a connection as soon as its handler returns.
            await socket.closed.wait()

        await trio.serve_listeners(handle, self._listeners)

    async def close(self) -> None:
        """Close the sockets."""
        for listener in self._listeners:
            with suppress(OSError):
                await listener.aclose()
        self._listeners = []
