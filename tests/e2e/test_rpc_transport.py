"""The RPC port from outside: real sockets, a real HTTP client, a real WebSocket client."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from omninode.errors import ConfigError, StorageFault
from omninode.node.config import RpcSection
from omninode.node.health import Health, Problem
from omninode.node.rpc import limits
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


@pytest.fixture
async def node() -> AsyncIterator[Running]:
    async with running() as it:
        yield it


@pytest.fixture
async def http(node: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=node.url, timeout=DEADLINE_S) as client:
        yield client


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
    while not condition():  # noqa: ASYNC110 - what it waits for has no event
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


# --- HTTP -------------------------------------------------------------------------------------


async def test_a_call_over_http(node: Running, http: httpx.AsyncClient) -> None:
    response = await http.post("/", json=node.call("echo", "é"))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"jsonrpc": "2.0", "id": 1, "result": "é"}


async def test_errors_of_calls_are_http_200(node: Running, http: httpx.AsyncClient) -> None:
    for body, code in (
        (b"{", -32700),
        (b"{}", -32600),
        (b"[]", -32600),
        (json.dumps(node.call("nothing")).encode(), -32601),
        (json.dumps(node.call("echo")).encode(), -32602),
    ):
        response = await http.post("/", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 200
        assert response.json()["error"]["code"] == code
        assert "result" not in response.json()


async def test_notifications_are_204_without_a_body(node: Running, http: httpx.AsyncClient) -> None:
    notification = {"jsonrpc": "2.0", "method": "echo", "params": ["x"]}
    for request in (notification, [notification, notification]):
        response = await http.post("/", json=request)
        assert (response.status_code, response.content) == (204, b"")
    assert (await http.post("/", json=node.call("echo", "y"))).json()["result"] == "y"


async def test_a_batch_keeps_order_and_leaves_notifications_out(
    node: Running, http: httpx.AsyncClient
) -> None:
    node.world.said("late").set()
    batch = [
        node.call("when", "late", id="a"),
        {"jsonrpc": "2.0", "method": "echo", "params": ["x"]},
        node.call("echo", "b", id="b"),
        1,
        node.call("bug", id="c"),
    ]
    with structlog.testing.capture_logs():
        replies = (await http.post("/", json=batch)).json()
    assert [reply["id"] for reply in replies] == ["a", "b", None, "c"]
    assert [reply.get("result") for reply in replies] == ["late", "b", None, None]
    assert [reply["error"]["code"] for reply in replies[2:]] == [-32600, -32603]


async def test_a_batch_of_one_is_still_an_array(node: Running, http: httpx.AsyncClient) -> None:
    assert isinstance((await http.post("/", json=[node.call("echo", "x")])).json(), list)


async def test_the_results_of_a_batch_are_bounded_together(
    node: Running, http: httpx.AsyncClient
) -> None:
    batch = [node.call("large", 3 * 1024 * 1024, id=number) for number in range(6)]
    replies = (await http.post("/", json=batch)).json()
    assert [reply["id"] for reply in replies] == list(range(6))
    reasons = [reply.get("error", {}).get("data", {}).get("reason") for reply in replies]
    assert reasons == [None] * 3 + ["response_too_large"] * 3


async def test_a_body_to_the_bound_passes_and_one_byte_more_is_413() -> None:
    async with running(body_bytes_max=4096) as node, httpx.AsyncClient() as http:
        frame = len(json.dumps(node.call("echo", "")))
        headers = {"content-type": "application/json"}
        for size, status in ((4096, 200), (4097, 413), (3_000_000, 413)):
            body = json.dumps(node.call("echo", "x" * (size - frame))).encode()
            response = await http.post(node.url, content=body, headers=headers)
            assert response.status_code == status
            if status == 413:
                error = response.json()["error"]
                assert (error["code"], error["data"]["reason"]) == (-32003, "request_too_large")
                assert response.json()["id"] is None
        assert (await http.post(node.url, json=node.call("echo", "ok"))).json()["result"] == "ok"


async def test_an_endless_body_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omninode.node.rpc.app.DRAIN_BYTES_MAX", 100_000)
    async with running(body_bytes_max=4096) as node:
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        async with stream:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            await stream.send_all(head + b"Content-Length: 1000000000\r\n\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x" * 100_000_000)


async def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omninode.node.rpc.app.BODY_TIMEOUT_S", 0.2)
    async with running() as node:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        received = await trio.to_thread.run_sync(
            raw, node.port, head + b"Content-Length: 9\r\n\r\n{"
        )
        status, _, body = status_and_body(received)
        assert (status, body["error"]["data"]["reason"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("verb", "path", "status", "reason"),
    [
        ("GET", "/", 405, "method_not_allowed"),
        ("PUT", "/", 405, "method_not_allowed"),
        ("DELETE", "/", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "unknown_path"),
        ("POST", "/rpc", 404, "unknown_path"),
        ("GET", "/%2e%2e/etc/passwd", 404, "unknown_path"),
    ],
)
async def test_a_wrong_verb_or_path_is_refused_with_a_json_rpc_error(
    http: httpx.AsyncClient, verb: str, path: str, status: int, reason: str
) -> None:
    response = await http.request(verb, path)
    assert response.status_code == status
    assert response.json()["error"]["data"]["reason"] == reason
    assert response.json()["id"] is None
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ("application/json-rpc", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-16", 415),
        ("", 415),
    ],
)
async def test_only_json_is_taken(
    node: Running, http: httpx.AsyncClient, content_type: str, status: int
) -> None:
    body = json.dumps(node.call("echo", "x")).encode()
    response = await http.post("/", content=body, headers={"content-type": content_type})
    assert response.status_code == status
    if status == 415:
        assert response.json()["error"]["data"]["reason"] == "unsupported_media_type"


async def test_what_is_not_http_is_400_and_too_long_a_head_is_431(node: Running) -> None:
    for data, expected in (
        (b"\x00\x01\x02garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000, 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404),
    ):
        received = await trio.to_thread.run_sync(raw, node.port, data)
        status, head, body = status_and_body(received)
        assert status == expected
        assert b"connection: close" in head or status == 404
        assert body["error"]["data"]["reason"]


async def test_http2_is_not_offered(node: Running) -> None:
    upgrade = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    upgrade += b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    stream = await trio.open_tcp_stream("127.0.0.1", node.port)
    async with stream:
        await stream.send_all(upgrade)
        assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 200")


async def test_too_many_requests_are_429_with_retry_after() -> None:
    async with (
        running(requests_per_second=1, requests_burst=5) as node,
        httpx.AsyncClient() as http,
    ):
        for _ in range(5):
            assert (await http.post(node.url, json=node.call("echo", "x"))).status_code == 200
        response = await http.post(node.url, json=node.call("echo", "x", id=42))
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        body = response.json()
        assert body["id"] == 42
        assert (body["error"]["code"], body["error"]["data"]["reason"]) == (-32005, "rate_limited")
        assert body["error"]["data"]["retry_after_ms"] > 0


async def test_a_batch_pays_for_each_call() -> None:
    async with (
        running(requests_per_second=1, requests_burst=10) as node,
        httpx.AsyncClient() as http,
    ):
        batch = [node.call("echo", "x")] * 8
        assert (await http.post(node.url, json=batch)).status_code == 200
        response = await http.post(node.url, json=batch)
        assert response.status_code == 429
        assert response.json()["error"]["data"]["reason"] == "rate_limited"


async def test_connections_are_bounded() -> None:
    async with running(connections_max=8) as node:  # two of them for one client
        first, second = [await trio.open_tcp_stream("127.0.0.1", node.port) for _ in range(2)]
        await until(lambda: node.server.connections == 2)
        received = await trio.to_thread.run_sync(raw, node.port, b"")
        status, head, body = status_and_body(received)
        assert status == 429
        assert b"retry-after" in head
        assert body["error"]["data"]["reason"] == "too_many_connections"
        await first.aclose()
        await until(lambda: node.server.connections == 1)
        async with httpx.AsyncClient() as http:
            assert (await http.post(node.url, json=node.call("echo", "x"))).status_code == 200
        await second.aclose()


async def test_cors_preflight_and_answer_for_a_named_origin() -> None:
    page = "https://trade.example"
    async with running(cors_origins=[page]) as node, httpx.AsyncClient() as http:
        preflight = await http.options(
            node.url, headers={"origin": page, "access-control-request-method": "POST"}
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == page
        assert "content-type" in preflight.headers["access-control-allow-headers"]
        answer = await http.post(node.url, json=node.call("echo", "x"), headers={"origin": page})
        assert answer.headers["access-control-allow-origin"] == page
        other = await http.options(node.url, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_health_is_200_or_503_with_reasons(node: Running, http: httpx.AsyncClient) -> None:
    response = await http.get("/health")
    assert (response.status_code, response.json()["healthy"]) == (200, True)
    node.health = Health(healthy=False, height=7, problems=(Problem("halted", "app hash differs"),))
    response = await http.get("/health")
    assert response.status_code == 503
    assert response.json() == {
        "healthy": False,
        "height": 7,
        "problems": [{"reason": "halted", "message": "app hash differs"}],
    }
    head = await http.head("/health")
    assert (head.status_code, head.content) == (503, b"")


async def test_a_bug_in_a_method_costs_the_server_nothing(
    node: Running, http: httpx.AsyncClient
) -> None:
    with structlog.testing.capture_logs() as logs:
        error = (await http.post("/", json=node.call("bug"))).json()["error"]
    assert (error["code"], logs[0]["error_id"]) == (-32603, error["data"]["error_id"])
    assert (await http.post("/", json=node.call("echo", "x"))).json()["result"] == "x"


async def test_a_storage_fault_in_a_method_ends_the_server() -> None:
    with (
        structlog.testing.capture_logs(),
        pytest.RaisesGroup(StorageFault, flatten_subgroups=True),
    ):
        async with running() as node, httpx.AsyncClient() as http:
            error = (await http.post(node.url, json=node.call("disk"))).json()["error"]
            assert error["code"] == -32603
            await trio.sleep_forever()


async def test_a_port_in_use_is_a_configuration_error(node: Running) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(ConfigError, match=str(node.port)), flatten_subgroups=True
    ):
        async with running(port=node.port):
            pass


# --- WebSocket ---------------------------------------------------------------------------------


async def test_calls_over_websocket_on_the_same_port(node: Running) -> None:
    async with websocket(node.ws_url) as ws:
        assert await ask(ws, node.call("echo", "x", id="a")) == [
            {"jsonrpc": "2.0", "id": "a", "result": "x"}
        ]
        await ws.send_message(json.dumps(node.call("echo", "binary")).encode())
        assert json.loads(await ws.get_message())["result"] == "binary"
        [batch] = await ask(ws, [node.call("echo", "1", id=1), node.call("echo", "2", id=2)])
        assert [entry["result"] for entry in batch] == ["1", "2"]


async def test_notifications_over_websocket_get_no_answer(node: Running) -> None:
    async with websocket(node.ws_url) as ws:
        notification = {"jsonrpc": "2.0", "method": "echo", "params": ["x"]}
        await ws.send_message(json.dumps(notification))
        await ws.send_message(json.dumps([notification]))
        assert (await ask(ws, node.call("echo", "y")))[0]["result"] == "y"


async def test_a_waiting_call_does_not_hold_up_others(node: Running) -> None:
    async with websocket(node.ws_url) as ws:
        await ws.send_message(json.dumps(node.call("when", "now", id="slow")))
        assert (await ask(ws, node.call("echo", "x", id="fast")))[0]["id"] == "fast"
        node.world.said("now").set()
        assert json.loads(await ws.get_message())["id"] == "slow"


@pytest.mark.parametrize("text", ["{", "null", "[" * 70, '{"jsonrpc":"2.0"}', "\x00"])
async def test_rubbish_over_websocket_is_answered_and_the_connection_lives(
    node: Running, text: str
) -> None:
    async with websocket(node.ws_url) as ws:
        await ws.send_message(text)
        assert json.loads(await ws.get_message())["error"]["code"] in (-32700, -32600)
        assert (await ask(ws, node.call("echo", "x")))[0]["result"] == "x"


async def test_an_oversized_message_is_thrown_away_and_answered() -> None:
    async with (
        running(body_bytes_max=4096) as node,
        websocket(node.ws_url) as ws,
    ):
        await ws.send_message("x" * 3_000_000)
        error = json.loads(await ws.get_message())["error"]
        assert (error["code"], error["data"]["reason"]) == (-32003, "request_too_large")
        assert (await ask(ws, node.call("echo", "x")))[0]["result"] == "x"


async def test_an_endless_message_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omninode.node.rpc.transport.DRAIN_BYTES_MAX", 500_000)
    async with running(body_bytes_max=4096) as node, websocket(node.ws_url) as ws:
        with contextlib.suppress(ConnectionClosed):
            await ws.send_message("x" * 3_000_000)
        with pytest.raises(ConnectionClosed):
            await ws.get_message()
        assert ws.closed is not None
        assert ws.closed.code == 1009
        await until(lambda: node.server.connections == 0)


async def test_the_rate_limit_holds_on_a_websocket_too() -> None:
    async with (
        running(requests_per_second=20, requests_burst=3) as node,
        websocket(node.ws_url) as ws,
    ):
        start = trio.current_time()
        replies = await ask(ws, *(node.call("echo", "x", id=number) for number in range(9)))
        refused = [reply for reply in replies if "error" in reply]
        assert [reply["id"] for reply in replies] == list(range(9))
        assert {reply["error"]["data"]["reason"] for reply in refused} == {"rate_limited"}
        assert 0 < len(refused) < 6
        assert trio.current_time() - start > 0.1


async def test_stream_messages_come_in_order_after_the_subscription(node: Running) -> None:
    async with websocket(node.ws_url) as ws:
        [reply] = await ask(ws, node.call("watch"))
        for number in range(3):
            node.world.push(b'"channel":"test","number":%d' % number)
        events = [json.loads(await ws.get_message()) for _ in range(3)]
        assert {event["method"] for event in events} == {"omni_subscription"}
        assert [event["params"]["sequence"] for event in events] == [1, 2, 3]
        assert [event["params"]["number"] for event in events] == [0, 1, 2]
        assert {event["params"]["subscription"] for event in events} == {reply["result"]}
    await until(lambda: not node.world.watchers)


async def test_a_streaming_method_over_http_says_what_it_needs(
    node: Running, http: httpx.AsyncClient
) -> None:
    error = (await http.post("/", json=node.call("watch"))).json()["error"]
    assert error["data"]["reason"] == "websocket_required"


async def test_subscriptions_of_one_connection_are_bounded(node: Running) -> None:
    async with websocket(node.ws_url) as ws:
        replies = await ask(ws, *[node.call("watch")] * (limits.SUBSCRIPTIONS_MAX + 1))
        assert replies[-1]["error"]["data"]["reason"] == "too_many_subscriptions"
        assert all("result" in reply for reply in replies[:-1])


async def silent_subscriber(node: Running) -> trio.SocketStream:
    """Subscribe over a bare socket with a small window, and read nothing any more."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", node.port))
    stream = trio.SocketStream(sock)
    await stream.send_all(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101" in await stream.receive_some(4096)
    text = json.dumps(node.call("watch")).encode()
    await stream.send_all(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    await until(lambda: node.world.watchers)
    return stream


async def test_a_client_that_does_not_read_is_closed_with_4008(node: Running) -> None:
    stream = await silent_subscriber(node)
    body = b'"text":"%b"' % (b"x" * 60_000)
    while node.world.watchers:
        node.world.push(body)
        await trio.lowlevel.checkpoint()
    assert node.observer.slow == 1
    received = b""
    while chunk := await stream.receive_some(1 << 20):
        received = (received + chunk)[-200:]
    # The close frame: opcode 8, code 4008 (0x0fa8), the reason.
    assert b"\x0f\xa8slow consumer" in received
    await stream.aclose()


async def test_a_client_that_takes_nothing_at_all_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omninode.node.rpc.transport.SEND_STALL_S", 0.3)
    async with running() as node:
        stream = await silent_subscriber(node)
        while node.world.watchers:
            node.world.push(b'"text":"%b"' % (b"x" * 60_000))
            await trio.lowlevel.checkpoint()
        await until(lambda: node.server.connections == 0)
        await stream.aclose()


async def test_books_of_a_slow_client_merge_instead_of_closing_it(node: Running) -> None:
    stream = await silent_subscriber(node)
    levels = {str(price): "1" for price in range(1000)}
    for height in range(3000):
        node.world.push_book(BookUpdate("A-B", height, levels, {}))
        if height % 100 == 0:
            await trio.lowlevel.checkpoint()
    assert node.world.watchers
    assert node.observer.slow == 0
    received = b""
    while b'"height":2999' not in received:
        received = received[-100:] + await stream.receive_some(1 << 20)
    await stream.aclose()


async def test_a_foreign_page_may_not_open_a_websocket() -> None:
    page = "https://trade.example"
    async with running(cors_origins=[page]) as node:
        handshake = (
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n"
            "Origin: {origin}\r\n\r\n"
        )
        for path, version, origin, status, reason in (
            ("/", 13, "https://evil.example", 403, "origin_not_allowed"),
            ("/other", 13, page, 404, "unknown_path"),
            ("/", 12, page, 400, "bad_http"),
        ):
            request = handshake.format(path=path, version=version, origin=origin).encode()
            got = status_and_body(await trio.to_thread.run_sync(raw, node.port, request))
            assert (got[0], got[2]["error"]["data"]["reason"]) == (status, reason)
        async with websocket(node.ws_url, extra_headers=[("Origin", page)]) as ws:
            assert (await ask(ws, node.call("echo", "x")))[0]["result"] == "x"


async def test_compression_is_not_negotiated(node: Running) -> None:
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    async with websocket(node.ws_url, extra_headers=headers) as ws:
        names = [name.lower() for name, _ in ws.handshake_headers]
        assert b"sec-websocket-extensions" not in names
        assert (await ask(ws, node.call("echo", "x")))[0]["result"] == "x"


MASKED = bytes([0x81, 0x81, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x05hello",  # not masked
        b"\x83\x80\x00\x00\x00\x00",  # a reserved opcode
        b"\xf1\x80\x00\x00\x00\x00",  # reserved bits
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",  # a length of 2**64 - 1
        b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00" + b"x" * 10,
        b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + b"x" * 126,  # a ping that is too long
        b"\x81\x82\x00\x00\x00\x00\xc3\x28",  # not UTF-8
        b"\x88\x80\x00\x00\x00\x00" + MASKED + b"x" + MASKED + b"y",  # data after close
        b"\x88\x81\x00\x00\x00\x00x",  # half a close code
        b"\x80\x80\x00\x00\x00\x00",  # a continuation of nothing
        b"\xff" * 200,
    ],
)
async def test_broken_frames_end_their_connection_and_no_other(
    node: Running, frames: bytes
) -> None:
    async with websocket(node.ws_url) as other:
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        async with stream:
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b"101" in await stream.receive_some(4096)
            await stream.send_all(frames)
            await stream.send_eof()
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(4096):
                    pass
        await until(lambda: node.server.connections == 1)
        assert (await ask(other, node.call("echo", "x")))[0]["result"] == "x"


async def test_a_stop_says_goodbye_and_lets_running_requests_end() -> None:
    world_holder: list[Running] = []
    replies: list[int] = []

    async def post(node: Running) -> None:
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            reply = await http.post(node.url, json=node.call("when", "stop"))
            replies.append(reply.status_code)

    async with trio.open_nursery() as clients, running() as node:
        world_holder.append(node)
        ws = await clients.start(hold_websocket, node)
        clients.start_soon(post, node)
        await until(lambda: node.server.connections == 2)
        node.world.said("stop").set()
    assert ws.closed is not None
    assert ws.closed.code == 1001
    assert replies == [200]


async def hold_websocket(
    node: Running, *, task_status: trio.TaskStatus[WebSocketConnection]
) -> None:
    async with websocket(node.ws_url) as ws:
        task_status.started(ws)
        with contextlib.suppress(ConnectionClosed):
            await ws.get_message()


async def test_a_stop_does_not_wait_for_a_client_that_takes_nothing() -> None:
    start = trio.current_time()
    async with running() as node:
        stream = await silent_subscriber(node)
        for _ in range(60):
            node.world.push(b'"text":"%b"' % (b"x" * 60_000))
        await trio.lowlevel.checkpoint()
        start = trio.current_time()
    assert trio.current_time() - start < limits.STOP_GRACE_S + 1
    await stream.aclose()
