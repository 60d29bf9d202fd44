"""A connection to a validator, against a real WebSocket server that misbehaves on demand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from omninode.errors import UserError
from omninode.node.devnet import connection as module
from omninode.node.devnet.change import Change
from omninode.node.devnet.connection import Connection


class Server:
    """Answers by `answer`; keeps what it got. `silent` swallows calls."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.silent = False
        self.port = 0
        self.sockets: list[Any] = []
        self.arrived = Change()

    async def handle(self, request: WebSocketRequest) -> None:
        socket = await request.accept()
        self.sockets.append(socket)
        try:
            while True:
                message = json.loads(await socket.get_message())
                self.messages.append(message)
                self.arrived.tell()
                if self.silent:
                    continue
                calls = message if isinstance(message, list) else [message]
                answers = [self.answer(call) for call in calls]
                reply = answers if isinstance(message, list) else answers[0]
                await socket.send_message(json.dumps(reply))
        except ConnectionClosed:
            return

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "fail":
            error = {"code": -32001, "message": "no", "data": {"reason": "off_tick"}}
            return {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return {"jsonrpc": "2.0", "id": call["id"], "result": call["params"]}

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(serve_websocket, self.handle, "127.0.0.1", self.port, None)
            )
            self.port = server.port
            task_status.started()


@asynccontextmanager
async def connected(
    server: Server, on_notice: Callable[[dict[str, Any]], None] = lambda _: None
) -> AsyncIterator[Connection]:
    change = Change()

    async def greet(connection: Connection) -> None:
        await connection.call("hello")

    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        connection = Connection(
            f"ws://127.0.0.1:{server.port}",
            on_connect=greet,
            on_notice=on_notice,
            on_change=change.tell,
        )
        nursery.start_soon(connection.run)
        with trio.fail_after(10):
            await change.until(lambda: connection.ready)
        yield connection
        nursery.cancel_scope.cancel()


async def test_calls_are_answered_with_results_and_errors() -> None:
    async with connected(Server()) as connection:
        assert await connection.call("echo", {"a": [1, "b"]}) == {"a": [1, "b"]}
        with pytest.raises(UserError) as caught:
            await connection.call("fail")
        assert caught.value.reason == "off_tick"


async def test_calls_that_wait_together_leave_as_one_message() -> None:
    server, answers = Server(), []
    async with connected(server) as connection:
        for number in range(120):
            connection.post("echo", {"n": number}, lambda result, _: answers.append(result["n"]))
        await connection.call("echo")
    assert answers == list(range(120))
    sizes = [len(message) for message in server.messages if isinstance(message, list)]
    assert sizes == [50, 50, 21]


async def test_notices_are_handed_on() -> None:
    server, notices = Server(), []
    async with connected(server, notices.append) as connection:
        notice = {"jsonrpc": "2.0", "method": "omni_subscription", "params": {"height": 5}}
        await server.sockets[0].send_message(json.dumps(notice))
        await connection.call("echo")
    assert notices == [{"height": 5}]


async def test_a_lost_connection_answers_who_waited_and_comes_back() -> None:
    server = Server()
    async with connected(server) as connection:
        server.silent = True
        lost: list[UserError | None] = []
        connection.post("echo", {}, lambda _, error: lost.append(error))
        await server.arrived.until(lambda: len(server.messages) > 1)
        server.silent = False
        await server.sockets[0].aclose()
        with trio.fail_after(10):
            while not (lost and connection.ready):
                await trio.sleep(0.01)
        assert lost[0] is not None
        assert lost[0].reason == "connection_lost"
        assert await connection.call("echo", {"again": True}) == {"again": True}


async def test_who_owes_an_answer_is_not_ready_until_it_gives_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNANSWERED_S", 0.05)
    server = Server()
    async with connected(server) as connection:
        server.silent = True
        connection.post("echo", {}, lambda *_: None)
        assert connection.ready
        with trio.fail_after(10):
            while connection.ready:
                await trio.sleep(0.01)
        await server.sockets[0].send_message(
            json.dumps(server.answer(server.messages[-1] if server.messages[1:] else {}))
        )
        with trio.fail_after(10):
            while not connection.ready:
                await trio.sleep(0.01)


async def test_a_call_without_an_answer_times_out() -> None:
    server = Server()
    async with connected(server) as connection:
        server.silent = True
        with pytest.raises(UserError) as caught:
            await connection.call("echo", timeout_s=0.05)
        assert caught.value.reason == "timeout"
