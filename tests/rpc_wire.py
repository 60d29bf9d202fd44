"""The RPC server with methods made for tests, and clients that may misbehave; load by path."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from omninode.errors import StorageFault
from omninode.node.config import RpcSection
from omninode.node.health import Health
from omninode.node.rpc.context import Context
from omninode.node.rpc.outbox import BookUpdate, Stream
from omninode.node.rpc.registry import Method, Params, method
from omninode.node.rpc.service import RpcServer
from omninode.node.rpc.session import not_on_http

DEADLINE_S = 20


class World:
    """What the test methods work on."""

    def __init__(self) -> None:
        self._words: dict[str, trio.Event] = {}
        self.watchers: dict[Stream, Any] = {}

    def said(self, word: str) -> trio.Event:
        return self._words.setdefault(word, trio.Event())

    def push(self, body: bytes) -> None:
        for stream, session in list(self.watchers.items()):
            session.push(stream, body)

    def push_book(self, update: BookUpdate) -> None:
        for stream, session in list(self.watchers.items()):
            session.push_book(stream, update)


class Echo(Params, frozen=True):
    value: str


class Number(Params, frozen=True):
    number: int


@method("echo", result=object)
def echo(context: Context[Any], params: Echo) -> str:
    """Return what was given."""
    del context
    return params.value


@method("large", result=object)
def large(context: Context[Any], params: Number) -> str:
    """Return a text of a given length."""
    del context
    return "x" * params.number


@method("when", result=object)
async def when(context: Context[World], params: Echo) -> str:
    """Answer once the world has said a word."""
    await context.node.said(params.value).wait()
    return params.value


@method("bug", result=object)
def bug(context: Context[Any], params: Params) -> None:
    """Fail unexpectedly."""
    raise ZeroDivisionError


@method("disk", result=object)
def disk(context: Context[Any], params: Params) -> None:
    """Meet a full disk."""
    raise StorageFault("no space left")


@method("watch", result=object, streams=True)
def watch(context: Context[World], params: Params) -> str:
    """Subscribe to what the world pushes."""
    if context.session is None:
        raise not_on_http()
    session, world = context.session, context.node

    def subscribe(stream: Stream) -> Any:
        world.watchers[stream] = session
        return lambda: world.watchers.pop(stream)

    return session.open_stream(subscribe).subscription


class Observer:
    slow = 0

    def called(self, name: str, *, reason: str, seconds: float) -> None:
        pass

    def slow_client_closed(self) -> None:
        self.slow += 1


METHODS: dict[str, Method[Any]] = {m.name: m for m in (echo, large, when, bug, disk, watch)}


class Running:
    def __init__(self, server: RpcServer, port: int, world: World) -> None:
        self.server = server
        self.port = port
        self.world = world
        self.url = f"http://127.0.0.1:{port}/"
        self.ws_url = f"ws://127.0.0.1:{port}/"
        self.observer = Observer()
        self.health = Health(healthy=True, height=7, problems=())

    def call(self, name: str, *params: object, id: object = 1) -> dict[str, Any]:  # noqa: A002
        return {"jsonrpc": "2.0", "id": id, "method": name, "params": params}


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    """Serve the test methods on a free port for the length of a block."""
    world = World()
    config = RpcSection(
        **{"port": 0, "requests_per_second": 100_000, "requests_burst": 100_000} | settings
    )
    holder: list[Running] = []
    observer = Observer()
    server = RpcServer(
        METHODS,
        node=world,
        settings=config,
        health=lambda: holder[0].health,
        halted=lambda: None,
        observer=observer,
    )
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server.run)
            holder.append(Running(server, addresses[0][1], world))
            holder[0].observer = observer
            yield holder[0]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def websocket(url: str, **options: Any) -> AsyncIterator[WebSocketConnection]:
    """Open a WebSocket; the client library leaves its socket open when the server closes first."""
    async with open_websocket_url(url, **options) as ws:
        try:
            yield ws
        finally:
            await ws.aclose()
            await trio.aclose_forcefully(ws._stream)


async def until(condition: Any) -> None:
    """Wait for a condition; the test's deadline ends the wait."""
    while not condition():
        await trio.sleep(0.005)


async def ask(ws: WebSocketConnection, *requests: object) -> list[Any]:
    for request in requests:
        await ws.send_message(json.dumps(request))
    return [json.loads(await ws.get_message()) for _ in requests]


def raw(port: int, data: bytes, *, read: bool = True) -> bytes:
    """Send bytes on a TCP connection and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
        sock.sendall(data)
        received = b""
        while read and (chunk := sock.recv(65536)):
            received += chunk
        return received


def status_and_body(received: bytes) -> tuple[int, bytes, dict[str, Any]]:
    """Take the first HTTP response apart; its head in lower case."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    return int(head.split(b" ", 2)[1]), head.lower(), json.loads(body[: int(length[1])])
