"""The RPC port over WebSocket: calls, streams, slow readers, broken frames, the end of a node."""

from __future__ import annotations

import contextlib
import json
import socket

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from omninode.node.rpc import limits
from omninode.node.rpc.outbox import BookUpdate
from rpc_wire import (
    DEADLINE_S,
    Running,
    ask,
    raw,
    running,
    status_and_body,
    until,
    websocket,
)


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
    monkeypatch.setattr("omninode.node.rpc.connection.DRAIN_BYTES_MAX", 500_000)
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
    monkeypatch.setattr("omninode.node.rpc.connection.SEND_STALL_S", 0.3)
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


async def test_clients_are_pinged_and_silent_ones_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omninode.node.rpc.connection.PING_INTERVAL_S", 0.1)
    monkeypatch.setattr("omninode.node.rpc.transport.SILENCE_TIMEOUT_S", 1)
    async with running() as node:
        silent = await silent_subscriber(node)
        async with websocket(node.ws_url) as ws:
            # The one answers pings, as every client library does; the other does not.
            await until(lambda: node.server.connections == 1)
            assert (await ask(ws, node.call("echo", "x")))[0]["result"] == "x"
        received = b""
        while chunk := await silent.receive_some(4096):
            received += chunk
        assert b"\x89\x00" in received
        await silent.aclose()


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
