"""Serving the streams that peers open: hello, planes, requests.

Rules
    V1. Nothing but the hello is served before the hello is done.
    V2. Plane streams are for validators; one per plane, a newer one takes the older's place. One of
        a peer that is none, as far as we know, waits unread for a moment: sets change with epochs,
        and not everywhere at once.
    V3. Frames of one stream are handled one after the other; a slow handler slows the peer.
    V4. What a handler raises decides: `PeerFault` and `Malformed` cost the peer; `BrokenInvariant`
        and `StorageFault` stop the node; anything else is our defect: logged, the stream is reset.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost

from omninode.errors import BrokenInvariant, Malformed, PeerFault, StorageFault
from omninode.node.net.framing import FrameDecoder
from omninode.node.net.hardening import GuardedYamuxStream, guarded, reset_quietly
from omninode.node.net.hello import HELLO_PROTOCOL
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    FRAME_BYTES_MAX,
    HELLO_TIMEOUT_MS,
    PENALTY_BROKEN_STREAM,
    PENALTY_FORBIDDEN,
    PENALTY_MALFORMED,
    PENALTY_STALLED,
    PLANE_WAIT_MS,
    PLANE_WINDOW_BYTES,
    REFUSAL_CHARACTERS_MAX,
    REQUEST_ANSWER_TIMEOUT_MS,
    STREAM_READ_BYTES,
)
from omninode.node.net.requests import (
    RequestProtocol,
    RequestRefused,
    ServedRequests,
    Status,
    read_request,
    write_answer,
)
from omninode.node.net.session import Session
from omninode.node.net.sessions import Sessions
from omninode.node.net.settings import FrameHandler, Plane

T = TypeVar("T")
_Serve = Callable[[Session, GuardedYamuxStream], Awaitable[None]]


class StreamServer:
    """Answers what peers begin.

    Args:
        host: Where protocols are registered.
        sessions: Who is connected.
        pay: Makes a peer pay for a fault.
        fail: Stops the network with an error of ours (V4).
        log: Where to say what happened.
    """

    def __init__(
        self,
        host: BasicHost,
        sessions: Sessions,
        *,
        pay: Callable[[PeerId, PeerFault], None],
        fail: Callable[[Exception], None],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._host = host
        self._sessions = sessions
        self._pay = pay
        self._fail = fail
        self._log = log
        self._served = ServedRequests()
        self._frame_handlers: dict[Plane, FrameHandler] = {}
        self._register(HELLO_PROTOCOL, self._serve_hello, needs_hello=False)

    def serve_plane(self, plane: Plane, handler: FrameHandler) -> None:
        """Hand the frames of a plane to `handler` from now on, also of open streams."""

        async def serve(session: Session, stream: GuardedYamuxStream) -> None:
            await self._read_plane(session, stream, plane)

        self._frame_handlers[plane] = handler
        self._register(plane.value, serve)

    def serve_requests(self, protocol: RequestProtocol) -> None:
        """Answer the requests of a protocol from now on."""

        async def serve(session: Session, stream: GuardedYamuxStream) -> None:
            await self._answer(session, stream, protocol)

        self._register(protocol.name, serve)

    async def peer_of(self, stream: INetStream) -> PeerId | None:
        """Wait for the hello of a stream's peer; None if it does not come."""
        session = await self._session_of(stream, needs_hello=True)
        return session.peer if session is not None else None

    async def call(self, handler: FrameHandler, peer: PeerId, data: bytes) -> object:
        """Call a handler outside of a stream; what a peer is to pay for is a `PeerFault` (V4)."""
        try:
            return await self._call(handler(peer, data))
        except RequestRefused as refusal:
            raise PeerFault("refused", str(refusal), penalty=0) from None

    def _register(self, name: str, serve: _Serve, *, needs_hello: bool = True) -> None:
        async def handle(net_stream: INetStream) -> None:
            session = await self._session_of(net_stream, needs_hello=needs_hello)
            stream: Any = net_stream
            if session is None:
                await reset_quietly(net_stream)
                return
            try:
                await serve(session, stream.muxed_stream)
            except PeerFault as fault:
                await reset_quietly(net_stream)
                self._pay(session.peer, fault)
            except trio.TooSlowError:
                await reset_quietly(net_stream)
                stalled = PeerFault("stalled_stream", name, penalty=PENALTY_STALLED)
                self._pay(session.peer, stalled)
            except BaseLibp2pError as error:
                # The peer ended the stream, or the connection did.
                self._log.debug("stream ended", peer=session.peer, name=name, error=repr(error))
                await reset_quietly(net_stream)

        self._host.set_stream_handler(TProtocol(name), handle)

    async def _session_of(self, stream: INetStream, *, needs_hello: bool) -> Session | None:
        """Return the session of a stream once it may be served (V1)."""
        connection = guarded(stream)
        with trio.move_on_after(HELLO_TIMEOUT_MS / 1000):
            await connection.session_ready.wait()
            session = self._sessions.of_connection(connection)
            if session is None or not needs_hello:
                return session
            await session.ready.wait()
            return session if session.is_ready else None
        return None

    async def _serve_hello(self, session: Session, stream: GuardedYamuxStream) -> None:
        await session.hear_hello(stream)

    async def _read_plane(self, session: Session, stream: GuardedYamuxStream, plane: Plane) -> None:
        """Hand over the frames of one plane stream until it ends (V2, V3)."""
        with trio.move_on_after(PLANE_WAIT_MS / 1000):
            await session.planes_open.wait()
        if plane not in session.links:
            message = f"{plane.name.lower()} stream from a peer that is no validator"
            raise PeerFault("forbidden_stream", message, penalty=PENALTY_FORBIDDEN)
        older = session.readers.get(plane)
        session.readers[plane] = stream
        if older is not None:
            await reset_quietly(older)
        await stream.widen(PLANE_WINDOW_BYTES)
        decoder = FrameDecoder(FRAME_BYTES_MAX)
        try:
            while data := await stream.read(STREAM_READ_BYTES):
                for frame in decoder.feed(data):
                    await self._call(self._frame_handlers[plane](session.peer, frame))
        finally:
            if session.readers.get(plane) is stream:
                del session.readers[plane]

    async def _answer(
        self, session: Session, stream: GuardedYamuxStream, protocol: RequestProtocol
    ) -> None:
        with self._served.enter(session.peer) as has_room:
            if not has_room:
                await write_answer(stream, Status.BUSY, b"")
                return
            request = await read_request(stream, protocol)
            with trio.fail_after(REQUEST_ANSWER_TIMEOUT_MS / 1000):
                try:
                    answer = await self._call(protocol.handler(session.peer, request))
                except RequestRefused as refusal:
                    text = str(refusal)[:REFUSAL_CHARACTERS_MAX].encode()
                    await write_answer(stream, Status.REFUSED, text)
                    return
                if len(answer) > protocol.response_bytes_max:
                    raise BrokenInvariant(f"{protocol.name}: answer of {len(answer)} bytes")
                await write_answer(stream, Status.OK, answer)

    async def _call(self, awaited: Awaitable[T]) -> T:
        """Await a handler and sort what it raises (V4)."""
        try:
            return await awaited
        except (PeerFault, RequestRefused):
            raise
        except Malformed as error:
            raise PeerFault("malformed", str(error), penalty=PENALTY_MALFORMED) from None
        except (BrokenInvariant, StorageFault) as error:
            self._fail(error)
            # The network is being cancelled; this peer has nothing more to hear from us.
            await trio.sleep_forever()
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to a peer
            self._log.exception("a handler failed on a peer's input")
            message = type(error).__name__
            raise PeerFault("handler_failed", message, penalty=PENALTY_BROKEN_STREAM) from None
