"""A small JSON-RPC server as a settlement chain's endpoint, and a node's side of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import trio

from omninode.contracts.endpoint import Endpoint
from omninode.node.rpc.ports import SettlementState

TIMEOUT_S = 5


class Refused(Exception):
    """Makes the server answer with this error object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class ChainServer:
    """Answers with what `answers` has for a method: a value, or a function of the parameters."""

    answers: dict[str, Any] = field(default_factory=dict)
    heard: list[tuple[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, self._serve, self.port, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection, body = h11.Connection(h11.SERVER), b""
        while True:
            event = connection.next_event()
            match event:
                case h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some())
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    await self._answer(stream, connection, json.loads(body))
                    body = b""
                    if connection.our_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
                case h11.ConnectionClosed():
                    return

    async def _answer(
        self, stream: trio.SocketStream, connection: h11.Connection, request: dict[str, Any]
    ) -> None:
        name, params = request["method"], request["params"]
        self.heard.append((name, params))
        answer = self.answers[name]
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            result = answer(params) if isinstance(answer, Callable) else answer
            reply["result"] = result
        except Refused as refused:
            reply["error"] = refused.error
        text = json.dumps(reply).encode()
        head = h11.Response(status_code=200, headers=[("Content-Length", str(len(text)))])
        for part in (head, h11.Data(data=text), h11.EndOfMessage()):
            await stream.send_all(connection.send(part) or b"")


@dataclass
class Side:
    """A node's side of the settlement chain: one endpoint, and what the test says was seen."""

    url: str
    state: SettlementState = "following"
    detail: str = ""
    chain_id: int = 31337
    contract: str = ""
    chain_height: int | None = 12
    confirmed_height: int | None = 10
    deposits: int = 0
    checkpoint: int | None = None
    claimed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(self.url, timeout_s=TIMEOUT_S)

    def status(self) -> Side:
        return self

    async def forward(self, method: str, params: list[Any]) -> object:
        return await self.endpoint.pass_on(method, params)

    def is_claimed(self, index: int) -> bool:
        return index in self.claimed

    def newest_checkpoint(self) -> int | None:
        return self.checkpoint
