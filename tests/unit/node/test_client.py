from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from omninode.errors import ConfigError, UserError
from omninode.node.client import RpcClient

Answer = Callable[[dict[str, Any]], bytes]


class Peer:
    """A server that answers what a test tells it to, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.connections: set[Any] = set()
        self.answer: Answer = lambda request: self.result(request, {"height": 7})
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                peer.connections.add(self.client_address)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                peer.requests.append(json.loads(body))
                data = peer.answer(peer.requests[-1])
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @staticmethod
    def result(request: dict[str, Any], result: object) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def peer() -> Iterator[Peer]:
    running = Peer()
    yield running
    running.close()


def test_calls_go_over_one_connection(peer: Peer) -> None:
    with RpcClient(peer.url) as node:
        assert node.call("omni_status") == {"height": 7}
        assert node.call("omni_getBlock", {"height": 3}) == {"height": 7}
    first, second = peer.requests
    assert first == {"jsonrpc": "2.0", "id": 1, "method": "omni_status", "params": {}}
    assert second["params"] == {"height": 3}
    assert second["id"] == 2
    assert len(peer.connections) == 1


def test_an_error_keeps_its_reason_and_hint(peer: Peer) -> None:
    error = {
        "code": -32010,
        "message": "size 0.5 is not a multiple of 1",
        "data": {"reason": "off_lot", "hint": "use 1"},
    }
    peer.answer = lambda request: json.dumps({"id": request["id"], "error": error}).encode()
    with RpcClient(peer.url) as node, pytest.raises(UserError, match="multiple of 1") as failure:
        node.call("omni_sendTransaction")
    assert failure.value.reason == "off_lot"
    assert failure.value.hint == "use 1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": -32601, "message": "no such method"}, "rpc_error_-32601"),
        ({"code": -32602, "message": "x", "data": "text"}, "rpc_error_-32602"),
        ("broken", "bad_response"),
        (None, "bad_response"),
    ],
)
def test_errors_of_other_forms(peer: Peer, error: object, reason: str) -> None:
    peer.answer = lambda request: json.dumps({"id": None, "error": error}).encode()
    with RpcClient(peer.url) as node, pytest.raises(UserError) as failure:
        node.call("omni_status")
    assert failure.value.reason == reason


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"7",
        b"{}",
        b'{"id": 1}',
        b'{"id": 99, "result": 1}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_answer_is_refused(peer: Peer, data: bytes) -> None:
    peer.answer = lambda _request: data
    with RpcClient(peer.url) as node, pytest.raises(UserError, match="no OmniNode") as failure:
        node.call("omni_status")
    assert failure.value.reason == "bad_response"
    assert len(str(failure.value)) < 300


def test_a_dead_node_says_what_to_do() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with RpcClient(url) as node, pytest.raises(UserError, match="no node answers") as failure:
            node.call("omni_status")
    assert failure.value.reason == "node_unreachable"
    assert "omninode start" in failure.value.hint


def test_a_silent_node_does_not_hang_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with RpcClient(url, timeout_s=1) as node, pytest.raises(UserError, match="in time"):
            node.call("omni_status")


@pytest.mark.parametrize(
    "url", ["", "localhost:5", "ftp://x", "http://", "http://x:port", "ws://x:1", "http://x:99999"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        RpcClient(url)
