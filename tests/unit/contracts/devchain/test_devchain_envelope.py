"""The JSON-RPC envelope, and the reading of hex."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.contracts.devchain import envelope
from omninode.contracts.devchain.envelope import answer
from omninode.contracts.devchain.quantities import data, quantity, read_data, read_quantity
from omninode.contracts.devchain.refusals import CallRefused, refuse
from omninode.errors import StorageFault


async def run(method: str, arguments: list[Any]) -> Any:
    match method:
        case "echo":
            return arguments
        case "refuse":
            raise refuse("no")
        case "defect":
            raise ZeroDivisionError
        case "disk":
            raise StorageFault("gone")
        case _:
            return "x" * int(method)


def ask(method: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "id": 1, **more}


async def reply(request: Any) -> Any:
    given_bytes = await answer(json.dumps(request).encode(), run)
    return None if given_bytes is None else json.loads(given_bytes)


async def test_results_and_errors_carry_the_id() -> None:
    assert await reply(ask("echo", params=[1, "a", None])) == {
        "jsonrpc": "2.0", "id": 1, "result": [1, "a", None],
    }  # fmt: skip
    assert (await reply(ask("refuse", id="q")))["error"] == {"code": -32000, "message": "no"}
    odd = await answer(b'{"jsonrpc":"2.0","method":"echo","id":1.50e3}', run)
    assert odd == b'{"jsonrpc":"2.0","id":1.50e3,"result":[]}'
    assert (await reply(ask("echo", id=None)))["result"] == []
    assert (await reply(ask("echo", params=None)))["result"] == []


async def test_a_defect_is_an_error_of_its_call_alone() -> None:
    both = await reply([ask("defect"), ask("echo", id=2)])
    assert both[0]["error"]["code"] == -32603
    assert both[1] == {"jsonrpc": "2.0", "id": 2, "result": []}


async def test_a_failing_disk_is_not_swallowed() -> None:
    with pytest.raises(StorageFault):
        await reply(ask("disk"))


async def test_notifications_are_silent() -> None:
    silent = {"jsonrpc": "2.0", "method": "refuse"}
    assert await reply(silent) is None
    assert await reply([silent, silent]) is None
    assert [item["id"] for item in await reply([silent, ask("echo")])] == [1]


async def test_results_have_a_bound_alone_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "RESPONSE_BYTES_MAX", 1_000)
    answers = await reply([ask("600"), ask("600"), ask("100")])
    assert ["result" in item for item in answers] == [True, False, True]
    assert answers[1]["error"]["message"] == "response too large"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b'{"jsonrpc":"2.0",}', -32700),
        (b"[" * 17 + b"]" * 17, -32600),
        (b'{"jsonrpc":"2.0","method":"echo","params":{},"id":1}', -32600),
        (b'{"jsonrpc":"2.0","method":5,"id":1}', -32600),
        (b'{"jsonrpc":"2.0","method":"echo","id":true}', -32600),
        (b'{"jsonrpc":"2.0","method":"echo","id":"' + b"a" * 300 + b'"}', -32600),
        (b"7", -32600),
        (b"[]", -32600),
    ],
)
async def test_what_is_no_request(body: bytes, code: int) -> None:
    given_bytes = await answer(body, run)
    assert given_bytes is not None
    assert json.loads(given_bytes)["error"]["code"] == code


async def test_brackets_in_strings_do_not_nest() -> None:
    text = "[{" * 50 + '\\"'
    assert (await reply(ask("echo", params=[text])))["result"] == [text]


@given(st.integers(0, 2**256 - 1))
def test_quantities_are_read_back(number: int) -> None:
    assert read_quantity(quantity(number), 0) == number


@given(st.binary(max_size=100))
def test_data_is_read_back(content: bytes) -> None:
    assert read_data(data(content), 0) == content
    with pytest.raises(CallRefused):
        read_data(data(content), 0, size=len(content) + 1)


@pytest.mark.parametrize("wrong", ["", "0x", "12", "0xg", "0x" + "1" * 65, -1, True, 1.0, None, []])
def test_no_quantity(wrong: Any) -> None:
    with pytest.raises(CallRefused, match="invalid argument 3"):
        read_quantity(wrong, 3)
    with pytest.raises(CallRefused):
        read_quantity("0x10", 0, below=16)


@pytest.mark.parametrize("wrong", ["", "12", "0x1", "0xgg", 5, None, ["0x"]])
def test_no_data(wrong: Any) -> None:
    with pytest.raises(CallRefused, match="invalid argument 1"):
        read_data(wrong, 1)
