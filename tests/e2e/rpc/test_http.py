"""The RPC port over HTTP: a real client on a real socket, and what is no client at all."""

from __future__ import annotations

import json

import httpx
import pytest
import structlog
import trio

from omninode.errors import ConfigError, StorageFault
from omninode.node.health import Health, Problem
from rpc_wire import (
    Running,
    raw,
    running,
    status_and_body,
    until,
)


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
