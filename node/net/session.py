"""One connection to one peer, from the handshake to its end.

Rules
    N1. First the hello, within its time; before it nothing of ours is served (H1).
    N2. A ping that is not answered in time means the peer hangs: the socket is closed at once (S3).
    N3. Planes exist only between two validators; each side opens its own streams. They come and go
        with the validator set, on the same connection.
    N4. Whatever ends a session, its socket is closed and its reason kept.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from omninode.errors import PeerFault
from omninode.node.net.framing import FrameDecoder, encode_frame
from omninode.node.net.hardening import GuardedYamux, reset_quietly
from omninode.node.net.hello import (
    HELLO_PROTOCOL,
    Hello,
    Refusal,
    decode_hello,
    encode_hello,
    refusal_reason,
)
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    HELLO_BYTES_MAX,
    HELLO_TIMEOUT_MS,
    PENALTY_MALFORMED,
    REQUESTS_SENT_PER_PEER_MAX,
    STREAM_READ_BYTES,
)
from omninode.node.net.link import Link, LinkStalled
from omninode.node.net.negotiation import OpeningAnswer, ProtocolRefused, opening
from omninode.node.net.peers import Direction
from omninode.node.net.settings import NetworkSettings, Plane


class SessionRefused(Exception):
    """One side will not talk to the other; the text says why (H3)."""


class Session:
    """A connection that was let in.

    Args:
        peer: Who is at the other end; proven by Noise.
        connection: The connection.
        direction: Who dialled.
        settings: The network's settings.
        has_planes: Whether both ends are validators (N3).
    """

    def __init__(
        self,
        *,
        peer: PeerId,
        connection: GuardedYamux,
        direction: Direction,
        settings: NetworkSettings,
        has_planes: bool,
    ) -> None:
        self.peer = peer
        self.connection = connection
        self.direction = direction
        self.socket = connection.socket
        self._settings = settings
        self._hello = Hello(version=1, network_tag=settings.network_tag, moniker=settings.moniker)
        self.moniker = ""
        self.rtt_ms: float | None = None
        self.end_reason = ""
        self.is_ready = False
        self.ready = trio.Event()
        """Set when the hello is done, and when the session ends before: then look at `is_ready`."""
        self._heard = trio.Event()
        self._refusal = ""
        self.links: dict[Plane, Link] = {}
        self.planes_open = trio.Event()
        """Set while both ends are validators."""
        self.requests = trio.CapacityLimiter(REQUESTS_SENT_PER_PEER_MAX)
        self.readers: dict[Plane, YamuxStream] = {}
        self.holds_place = False
        """Whether it takes one of the strangers' places."""
        self.told_peers_ms = 0
        """When it was last told addresses."""
        self._nursery: trio.Nursery | None = None
        self.set_planes(open_now=has_planes)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Say hello, then ping and keep the planes open until the connection ends (N1 to N3).

        Args:
            on_ready: Called once, when the hello is done.

        Raises:
            SessionRefused: One side will not talk to the other.
            PeerFault: The peer broke the protocol on a stream of ours.
        """
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with_connection, nursery.cancel_scope)
                await self._open()
                self.is_ready = True
                self.ready.set()
                on_ready()
                nursery.start_soon(self._ping)
                self._nursery = nursery
                for link in self.links.values():
                    nursery.start_soon(self._run_link, link)
        except* (SessionRefused, PeerFault) as group:
            failure = first_of(group)
        if failure is not None:
            raise failure

    def set_planes(self, *, open_now: bool) -> None:
        """Open the planes to this peer, or close them (N3)."""
        if not open_now:
            for link in self.links.values():
                link.stop()
            self.links = {}
            if self.planes_open.is_set():
                self.planes_open = trio.Event()
            readers, self.readers = self.readers, {}
            if self._nursery is not None:
                for stream in readers.values():
                    self._nursery.start_soon(reset_quietly, stream)
        elif not self.links:
            self.links = {plane: Link(self.connection, plane) for plane in Plane}
            self.planes_open.set()
            if self._nursery is not None:
                for link in self.links.values():
                    self._nursery.start_soon(self._run_link, link)
        else:
            for link in self.links.values():
                link.retry()

    async def abort(self, reason: str) -> None:
        """End the session at once; the first reason stays (N4)."""
        self.end_reason = self.end_reason or reason
        self.is_ready = False
        self.ready.set()
        await self.socket.abort()

    async def hear_hello(self, stream: YamuxStream) -> None:
        """Serve the stream on which the dialler says hello (H1).

        Raises:
            PeerFault: It is no hello, or a second one.
        """
        if self.direction == "outbound" or self._heard.is_set() or self.moniker:
            raise PeerFault("bad_hello", "hello out of turn", penalty=PENALTY_MALFORMED)
        decoder = FrameDecoder(HELLO_BYTES_MAX)
        with trio.fail_after(HELLO_TIMEOUT_MS / 1000):
            while not (frames := decoder.feed(await stream.read(STREAM_READ_BYTES))):
                pass
            theirs = decode_hello(frames[0])
            if isinstance(theirs, Refusal):
                raise PeerFault("bad_hello", "refused unasked", penalty=PENALTY_MALFORMED)
            reason = refusal_reason(self._hello, theirs)
            answer = Refusal(reason) if reason else self._hello
            await stream.write(encode_frame(encode_hello(answer)))
            await stream.close()
        self.moniker, self._refusal = theirs.moniker, reason
        self._heard.set()

    async def _open(self) -> None:
        """Exchange hellos (N1).

        Raises:
            SessionRefused: One side will not talk to the other.
            PeerFault: The answer is no hello.
        """
        try:
            with trio.fail_after(HELLO_TIMEOUT_MS / 1000):
                if self.direction == "outbound":
                    await self._say_hello()
                    return
                await self._heard.wait()
                if self._refusal:
                    # The dialler hangs up once it has read why; closing first could lose it.
                    await trio.sleep_forever()
        except trio.TooSlowError:
            raise SessionRefused(self._refusal or "no hello in time") from None
        except ProtocolRefused:
            raise SessionRefused("peer is no OmniNode") from None
        except BaseLibp2pError as error:
            raise SessionRefused(f"no hello: {error!r}") from None

    async def _end_with_connection(self, scope: trio.CancelScope) -> None:
        await self.connection.event_shutting_down.wait()
        self.end_reason = self.end_reason or self._refusal or "connection ended"
        scope.cancel()

    async def _say_hello(self) -> None:
        stream = await self.connection.open_stream()
        try:
            await stream.write(opening(HELLO_PROTOCOL) + encode_frame(encode_hello(self._hello)))
            opened = OpeningAnswer(HELLO_PROTOCOL)
            decoder = FrameDecoder(HELLO_BYTES_MAX)
            while not (frames := decoder.feed(opened.feed(await stream.read(STREAM_READ_BYTES)))):
                pass
        finally:
            with trio.CancelScope(shield=True):
                await reset_quietly(stream)
        theirs = decode_hello(frames[0])
        if isinstance(theirs, Refusal):
            raise SessionRefused(f"refused: {theirs.reason}")
        if reason := refusal_reason(self._hello, theirs):
            raise SessionRefused(reason)
        self.moniker = theirs.moniker

    async def _ping(self) -> None:
        """Measure the round trip for ever; give the peer up when it does not answer (N2)."""
        while True:
            try:
                with trio.fail_after(self._settings.ping_timeout_ms / 1000):
                    self.rtt_ms = await self.connection.ping() * 1000
            except trio.TooSlowError:
                await self.abort("no answer to a ping")
                return
            except BaseLibp2pError:
                await self.abort("connection broke")
                return
            await trio.sleep(self._settings.ping_interval_ms / 1000)

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run()
        except LinkStalled as error:
            await self.abort(str(error))


def first_of(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first error in a group, however deep."""
    error: Exception | BaseExceptionGroup[Exception] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
