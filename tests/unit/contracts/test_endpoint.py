"""An endpoint that lies, stalls, floods or dies is an error of a known kind, and nothing more."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator

import pytest
import trio

from evm_chain import Refusal, Server, response, served
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import (
    ERROR_CHARS_MAX,
    FORWARDED_PLACES_MAX,
    FORWARDED_REPLY_BYTES_MAX,
    REPLY_BYTES_MAX,
)
from omninode.contracts.ports import Call
from omninode.errors import EndpointError
from omninode.node.rpc.limits import RESPONSE_BYTES_MAX


class World:
    def __init__(self, server: Server, endpoint: Endpoint, calls: list[Call]) -> None:
        self.server = server
        self.endpoint = endpoint
        self.calls = calls

    def says(self, body: bytes, status: str = "200 OK") -> None:
        """Answer every request with these bytes."""

        async def answer(_: bytes) -> bytes:
            return response(body, status)

        self.server.raw = answer

    async def fails(self) -> EndpointFailure:
        with pytest.raises(EndpointFailure) as failure:
            await self.endpoint.call("eth_blockNumber", [])
        return failure.value


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = Server(lambda method, params: [method, params])
    calls: list[Call] = []
    async with served(server):
        endpoint = Endpoint(server.url, timeout_s=2, on_call=calls.append)
        yield World(server, endpoint, calls)
        await endpoint.close()


async def test_it_asks_and_returns_the_result(world: World) -> None:
    assert await world.endpoint.call("a", [1, {"b": [None]}]) == ["a", [1, {"b": [None]}]]
    assert world.calls == [Call(world.server.url, "a", "ok")]


async def test_many_at_a_time_get_their_own_answers(world: World) -> None:
    answers: dict[int, object] = {}

    async def ask(number: int) -> None:
        answers[number] = await world.endpoint.call("a", [number])

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert answers == {number: ["a", [number]] for number in range(50)}


async def test_an_error_comes_with_code_message_and_data(world: World) -> None:
    def refuse(method: str, params: object) -> object:
        raise Refusal(3, "execution reverted", "0x1234")

    world.server.answer = refuse
    with pytest.raises(EndpointError) as failure:
        await world.endpoint.call("eth_call", [])
    error = failure.value
    assert (error.code, str(error), error.data) == (3, "execution reverted", "0x1234")
    assert world.calls[-1].outcome == "error"


async def test_an_error_of_any_form_is_an_error(world: World) -> None:
    strange = {"code": True, "message": ["long"] * 100_000, "data": "y" * 100_000}
    for error in ({}, [], "no", 7, {"code": "x", "message": None}, strange):
        world.says(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode())
        for ask in (world.endpoint.call, world.endpoint.pass_on):
            with pytest.raises(EndpointError) as failure:
                await ask("eth_call", [])
            assert (failure.value.code, failure.value.data) == (-32603, None)
            assert 0 < len(str(failure.value)) <= ERROR_CHARS_MAX


async def test_an_error_keeps_what_fits(world: World) -> None:
    long = {"code": -(2**80), "message": "m" * 5_000_000, "data": ["d", 2**80, None]}
    world.says(json.dumps({"id": 1, "error": long, "result": None}).encode())
    with pytest.raises(EndpointError) as failure:
        await world.endpoint.pass_on("eth_call", [])
    assert str(failure.value) == "m" * ERROR_CHARS_MAX
    assert (failure.value.code, failure.value.data) == (-32603, ["d", 2**80, None])
    world.says(b'{"id": 2, "error": {"code": 3, "message": "no", "data": [1e999]}}')
    with pytest.raises(EndpointError) as failure:
        await world.endpoint.pass_on("eth_call", [])
    assert (failure.value.code, str(failure.value), failure.value.data) == (3, "no", None)


async def test_calls_that_are_passed_on_keep_none_of_our_own_waiting(world: World) -> None:
    passed, release = trio.Event(), trio.Event()
    held = 0

    async def answer(request: bytes) -> bytes:
        nonlocal held
        if b"theirs" in request:
            held += 1
            if held == FORWARDED_PLACES_MAX:
                passed.set()
            await release.wait()
        number = json.loads(request)["id"]
        return response(json.dumps({"id": number, "result": "0x1"}).encode())

    world.server.raw = answer
    async with trio.open_nursery() as nursery:
        for _ in range(2 * FORWARDED_PLACES_MAX):
            nursery.start_soon(world.endpoint.pass_on, "theirs", [])
        await passed.wait()
        assert await world.endpoint.call("ours", []) == "0x1"
        assert held == FORWARDED_PLACES_MAX
        release.set()


@pytest.mark.parametrize(
    "result", [b"null", b'"0x1"', b'{ "b":1.50, "a":[1e400, "\\u00e9", "\xc3\xa9"], "b":2 }']
)
async def test_what_is_passed_on_is_the_text_that_came(world: World, result: bytes) -> None:
    world.says(b'{"jsonrpc":"2.0", "error":null, "result": ' + result + b' ,"id":1}')
    assert bytes(await world.endpoint.pass_on("eth_call", [])) == result
    assert world.calls == [Call(world.server.url, "eth_call", "ok")]


async def test_what_is_passed_on_fits_the_interface(world: World) -> None:
    assert FORWARDED_REPLY_BYTES_MAX == RESPONSE_BYTES_MAX
    world.says(b'{"id":1,"result":"' + b"a" * (FORWARDED_REPLY_BYTES_MAX - 1_000) + b'"}')
    assert len(bytes(await world.endpoint.pass_on("eth_getLogs", []))) > 2**22
    world.says(b'{"id":2,"result":"' + b"a" * FORWARDED_REPLY_BYTES_MAX + b'"}')
    with pytest.raises(EndpointFailure) as failure:
        await world.endpoint.pass_on("eth_getLogs", [])
    assert failure.value.too_long
    assert [call.outcome for call in world.calls] == ["ok", "failed"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        b"[]",
        b"null",
        b'"\xff"',
        b'{"id": 999, "result": 1}',
        b'{"result": 1}',
        b'{"id": {}, "result": 1}',
        b"[" * 200_000,
        b'{"id": 1, "result": ' + b"[" * 200_000,
        b'{"id": 1, "result": "\xff"}',
        b'{"id": 1, "result": NaN}',
        b'{"id": 1, "result": "a\n"}',
        b'{"id": 1, "result": 1} 2',
        b'{"id": 1, "error": {"code": 3, "message": "\xff"}}',
    ],
)
async def test_what_is_no_answer(world: World, body: bytes) -> None:
    world.says(body)
    failure = await world.fails()
    assert failure.retryable
    assert world.calls[-1].outcome == "failed"
    world.says(body.replace(b'"id": 1', b'"id": 2'))
    with pytest.raises(EndpointFailure):
        await world.endpoint.pass_on("eth_blockNumber", [])
    assert world.calls[-1].outcome == "failed"


async def test_an_http_error_is_told(world: World) -> None:
    world.says(b"<html>busy</html>", "503 Service Unavailable")
    assert "503" in str(await world.fails())


async def test_too_long_an_answer_is_cut_off(world: World) -> None:
    world.says(b'{"id":1,"result":"' + b"a" * REPLY_BYTES_MAX + b'"}')
    assert (await world.fails()).too_long


async def test_a_compressed_flood_is_no_answer(world: World) -> None:
    bomb = gzip.compress(b'{"id":1,"result":"' + b"a" * 50_000_000 + b'"}')

    async def answer(_: bytes) -> bytes:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        return head.encode() + bomb

    world.server.raw = answer
    await world.fails()


@pytest.mark.parametrize("said", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_what_is_no_http(world: World, said: bytes) -> None:
    async def answer(_: bytes) -> bytes:
        world.server.is_open = False
        return said

    world.server.raw = answer
    await world.fails()


async def test_silence_ends_with_the_timeout(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async def never(_: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    world.server.raw = never
    started = trio.current_time()
    assert "2 s" in str(await world.fails())
    assert trio.current_time() - started == pytest.approx(2, abs=0.5)


async def test_one_that_is_not_there(world: World) -> None:
    endpoint = Endpoint("http://127.0.0.1:1", timeout_s=2)
    with pytest.raises(EndpointFailure):
        await endpoint.call("a", [])
    await endpoint.close()


async def test_what_can_not_be_asked_is_a_failure_too(world: World) -> None:
    with pytest.raises(EndpointFailure):
        await world.endpoint.call("a", [object()])
    assert await world.endpoint.call("a", []) == ["a", []]


async def test_passwords_and_keys_of_the_url_are_never_told(world: World) -> None:
    place = f"127.0.0.1:{world.server.port}"
    endpoint = Endpoint(f"http://user:secret@{place}/v3/secretkey", timeout_s=2)
    assert endpoint.name == f"http://{place}"
    world.says(b"secret", "401 Unauthorized")
    with pytest.raises(EndpointFailure) as failure:
        await endpoint.call("a", [])
    assert "secret" not in str(failure.value)
    await endpoint.close()
