"""Calls, parameters and outcomes, without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
import structlog
import trio

from omninode.errors import BrokenInvariant, Rejected, StorageFault, UserError
from omninode.node.rpc.dispatch import Dispatcher
from omninode.node.rpc.envelope import Item, parse
from omninode.node.rpc.errors import CODES, HINTS
from omninode.node.rpc.limits import RESPONSE_BYTES_MAX
from omninode.node.rpc.registry import Method, Params, method

Limit = Annotated[int, msgspec.Meta(ge=1, le=10)]


class Search(Params, frozen=True):
    word: str
    limit: Limit = 5


@method("search", result=object, errors=("unknown_order",))
def search(context: object, params: Search) -> dict[str, object]:
    """Search for a word.

    With a second paragraph.
    """
    del context
    return {"word": params.word, "limit": params.limit}


@method("later", result=object)
async def later(context: object, params: Params) -> int:
    """Answer after a while."""
    del context, params
    await trio.sleep(1)
    return 7


@method("never", result=object, timeout_s=3)
async def never(context: object, params: Params) -> None:
    """Never answer."""
    del context, params
    await trio.sleep_forever()


class Fail(Params, frozen=True):
    how: str


FAILURES: dict[str, Callable[[], Exception]] = {
    "user": lambda: UserError("unknown_market", "there is no market X-Y"),
    "odd": lambda: Rejected("never_heard_of", "no", hint="do this"),
    "bug": lambda: ZeroDivisionError("secret detail"),
    "disk": lambda: StorageFault("disk full"),
    "broken": lambda: BrokenInvariant("book crossed"),
}


@method("fail", result=object)
def fail(context: object, params: Fail) -> None:
    """Fail in a chosen way."""
    del context
    error = FAILURES[params.how]()
    raise error


@method("huge", result=object, reads_state=False)
def huge(context: object, params: Params) -> str:
    """Return too much."""
    del context, params
    return "x" * (RESPONSE_BYTES_MAX + 1)


METHODS: dict[str, Method[Any]] = {m.name: m for m in (search, later, never, fail, huge)}


class Observer:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def called(self, name: str, *, reason: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((name, reason))

    def slow_client_closed(self) -> None:
        raise AssertionError


class Bench:
    def __init__(self) -> None:
        self.halted: str | None = None
        self.observer = Observer()
        self.fatal: list[Exception] = []
        self.dispatcher = Dispatcher(
            METHODS,
            halted=lambda: self.halted,
            observer=self.observer,
            on_fatal=self.fatal.append,
        )

    async def ask(self, name: str, params: object = None, **members: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": name, **members}
        if params is not None:
            request["params"] = params
        answer = await self.dispatcher.answer(item_of(request), None)
        assert answer is not None
        reply: dict[str, Any] = json.loads(answer)
        return reply


def item_of(request: object) -> Item:
    item: Any = parse(json.dumps(request).encode(), nesting_max=64, batch_max=100)
    return item  # type: ignore[no-any-return]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_params_by_name_by_position_and_by_default(bench: Bench) -> None:
    for params in ({"word": "a", "limit": 3}, ["a", 3]):
        assert (await bench.ask("search", params))["result"] == {"word": "a", "limit": 3}
    for params in ({"word": "a"}, ["a"]):
        assert (await bench.ask("search", params))["result"] == {"word": "a", "limit": 5}


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        [],
        {"word": 1},
        {"word": "a", "limit": 0},
        {"word": "a", "limit": 11},
        {"word": "a", "limit": -1},
        {"word": "a", "limit": 10**30},
        {"word": "a", "limit": 1.5},
        {"word": "a", "limit": "3"},
        {"word": "a", "limit": True},
        {"word": "a", "limit": None},
        {"word": "a", "limt": 3},
        {"Word": "a"},
        ["a", 3, 4],
        [3, "a"],
        ["a", 0],
        [["a"]],
    ],
)
async def test_wrong_params_are_invalid_params_and_never_clamped(
    bench: Bench, params: object
) -> None:
    error = (await bench.ask("search", params))["error"]
    assert error["code"] == -32602
    assert error["data"]["reason"] == "invalid_params"
    assert error["data"]["hint"]
    assert error["message"].startswith("search:")


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 10_000, "1e3", "3.0", "-0.5"])
async def test_numbers_that_are_no_small_integers_are_refused(bench: Bench, number: str) -> None:
    text = f'{{"jsonrpc":"2.0","id":1,"method":"search","params":["a",{number}]}}'
    item: Any = parse(text.encode(), nesting_max=64, batch_max=100)
    answer = await bench.dispatcher.answer(item, None)
    assert answer is not None
    assert json.loads(answer)["error"]["code"] == -32602


async def test_an_unknown_method_is_not_found(bench: Bench) -> None:
    error = (await bench.ask("omni_nothing"))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32601, "method_not_found")
    assert bench.observer.calls == [("unknown", "method_not_found")]


async def test_a_refusal_carries_reason_hint_and_its_code(bench: Bench) -> None:
    known = (await bench.ask("fail", {"how": "user"}))["error"]
    assert known["code"] == -32012
    assert known["message"] == "there is no market X-Y"
    assert known["data"]["reason"] == "unknown_market"
    assert known["data"]["hint"]
    odd = (await bench.ask("fail", {"how": "odd"}))["error"]
    assert odd == {
        "code": -32000,
        "message": "no",
        "data": {"reason": "never_heard_of", "hint": "do this"},
    }


async def test_a_defect_is_an_internal_error_with_an_id_that_the_log_has(bench: Bench) -> None:
    with structlog.testing.capture_logs() as logs:
        error = (await bench.ask("fail", {"how": "bug"}))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32603, "internal_error")
    assert "secret" not in json.dumps(error)
    assert [entry["error_id"] for entry in logs] == [error["data"]["error_id"]]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)
    assert bench.fatal == []


@pytest.mark.parametrize(("how", "kind"), [("disk", StorageFault), ("broken", BrokenInvariant)])
async def test_what_must_stop_the_node_is_reported_upwards(
    bench: Bench, how: str, kind: type[Exception]
) -> None:
    with structlog.testing.capture_logs():
        error = (await bench.ask("fail", {"how": how}))["error"]
    assert error["code"] == -32603
    assert [type(fault) for fault in bench.fatal] == [kind]


async def test_a_method_that_waits_answers_when_it_is_done(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    assert (await bench.ask("later"))["result"] == 7


async def test_a_method_that_takes_too_long_is_answered_timeout(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    start = trio.current_time()
    error = (await bench.ask("never"))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32002, "timeout")
    assert trio.current_time() - start == pytest.approx(3)


@pytest.mark.parametrize(
    "request_",
    [
        {"jsonrpc": "2.0", "method": "search", "params": ["a"]},
        {"jsonrpc": "2.0", "method": "search", "params": ["a", 99]},
        {"jsonrpc": "2.0", "method": "nothing"},
        {"jsonrpc": "2.0", "method": "fail", "params": ["user"]},
    ],
)
async def test_a_notification_is_executed_and_never_answered(
    bench: Bench, request_: dict[str, object]
) -> None:
    assert await bench.dispatcher.answer(item_of(request_), None) is None
    assert len(bench.observer.calls) == 1


async def test_a_halted_node_serves_no_state_but_says_why(bench: Bench) -> None:
    bench.halted = "app hash differs at height 7 in module dex"
    error = (await bench.ask("search", ["a"]))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32004, "halted")
    assert "height 7" in error["message"]
    assert (await bench.ask("huge"))["error"]["data"]["reason"] == "response_too_large"


async def test_a_result_that_is_too_large_is_refused(bench: Bench) -> None:
    error = (await bench.ask("huge"))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32003, "response_too_large")


def test_every_reason_has_a_hint() -> None:
    assert set(HINTS) == set(CODES)


def test_a_method_knows_its_documentation() -> None:
    assert search.summary == "Search for a word."
    assert "second paragraph" in search.description
    assert not search.is_async
    assert later.is_async
