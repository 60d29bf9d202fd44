"""JSON-RPC 2.0 to the letter: the specification's examples, and what tries to break a parser."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.node.rpc.envelope import (
    Batch,
    Call,
    Item,
    Refusal,
    batch_response,
    error_response,
    nesting,
    notification,
    parse,
    result_response,
)
from omninode.node.rpc.errors import (
    INVALID_REQUEST,
    PARSE_ERROR,
    error_object,
)


def read(text: bytes | str, *, nesting_max: int = 64, batch_max: int = 100) -> Any:
    data = text.encode() if isinstance(text, str) else text
    return parse(data, nesting_max=nesting_max, batch_max=batch_max)


def one(text: bytes | str) -> Item:
    request = read(text)
    assert not isinstance(request, Batch)
    item: Item = request
    return item


def refused(text: bytes | str) -> Refusal:
    item = one(text)
    assert isinstance(item, Refusal), item
    return item


def test_a_call_by_name_and_by_position() -> None:
    named = one('{"jsonrpc":"2.0","method":"m","params":{"a":1},"id":3}')
    assert named == Call("m", b'{"a":1}', b"3")
    assert one('{"jsonrpc":"2.0","method":"m","params":[1, 2],"id":"x"}') == Call(
        "m", b"[1, 2]", b'"x"'
    )


def test_absent_params_are_none_given_by_name() -> None:
    assert one('{"jsonrpc":"2.0","method":"m","id":1}') == Call("m", b"{}", b"1")


def test_null_params_are_absent_ones() -> None:
    assert one('{"jsonrpc":"2.0","method":"m","params": null,"id":1}') == Call("m", b"{}", b"1")
    assert one('{"jsonrpc":"2.0","method":"m","params":null}') == Call("m", b"{}", None)
    batch = read('[{"jsonrpc":"2.0","method":"m","params":null,"id":1}]')
    assert batch == Batch((Call("m", b"{}", b"1"),))


def test_without_id_it_is_a_notification_and_with_null_it_is_not() -> None:
    notified = one('{"jsonrpc":"2.0","method":"m"}')
    asked = one('{"jsonrpc":"2.0","method":"m","id":null}')
    assert isinstance(notified, Call)
    assert notified.id is None
    assert isinstance(asked, Call)
    assert asked.id == b"null"


@pytest.mark.parametrize(
    "identifier",
    ["1", "-1", "1.50", "1e3", "18446744073709551616", '"x"', '""', '"\\u00e9"', '"é"', "null"],
)
def test_an_id_comes_back_as_the_very_bytes_it_came_in(identifier: str) -> None:
    call = one(f'{{"jsonrpc":"2.0","method":"m","id":{identifier}}}')
    assert isinstance(call, Call)
    assert call.id == identifier.encode()


@pytest.mark.parametrize("identifier", ["true", "false", "[]", "{}", '"' + "x" * 300 + '"'])
def test_an_id_that_may_not_be_one_is_an_invalid_request_with_null(identifier: str) -> None:
    refusal = refused(f'{{"jsonrpc":"2.0","method":"m","id":{identifier}}}')
    assert refusal.error.code == INVALID_REQUEST
    assert refusal.id == b"null"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "{",
        '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        '{"jsonrpc":"2.0","method":"m","id":1} x',
        '{"jsonrpc":"2.0","method":"m","id":NaN}',
        '{"jsonrpc":"2.0","method":"m","params":[Infinity],"id":1}',
        '{"jsonrpc":"2.0","method":"m","params":{"a":-Infinity},"id":1}',
        '{"jsonrpc":"2.0","method":"m","params":{"a":01},"id":1}',
        '{"jsonrpc":"2.0","method":"m","params":{"a":1,},"id":1}',
        "{'jsonrpc':'2.0','method':'m','id':1}",
        '{"jsonrpc":"2.0",/* c */"method":"m","id":1}',
        '{"jsonrpc":"2.0","method":1,"id":2',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"m","id":1}',
        b'{"jsonrpc":"2.0","method":"\xff","id":1}',
        b'{"jsonrpc":"2.0","method":"m","params":["\xc3"],"id":1}',
        b'{"jsonrpc":"2.0","method":"m","id":"\xff"}',
        '{"jsonrpc":"2.0","method":"m","id":"a\nb"}',
        '[{"jsonrpc":"2.0","method":"sum","params":[1,2,4],"id":"1"},{"jsonrpc":"2.0","method"',
        '{"jsonrpc":"2.0","method":"m","id":1}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_a_parse_error_with_null(text: bytes | str) -> None:
    refusal = refused(text)
    assert refusal.error.code == PARSE_ERROR
    assert refusal.error.data["reason"] == "parse_error"
    assert refusal.id == b"null"


@pytest.mark.parametrize(
    "text",
    [
        "1",
        '"x"',
        "null",
        "true",
        "{}",
        '{"foo":"boo"}',
        '{"jsonrpc":"2.0","method":1,"params":"bar"}',
        '{"jsonrpc":"1.0","method":"m"}',
        '{"jsonrpc":2.0,"method":"m"}',
        '{"method":"m"}',
        '{"jsonrpc":"2.0"}',
        '{"jsonrpc":"2.0","method":null}',
        '{"jsonrpc":"2.0","method":"m","params":"bar"}',
        '{"jsonrpc":"2.0","method":"m","params":1}',
    ],
)
def test_json_that_is_no_request_is_an_invalid_request_with_null(text: str) -> None:
    refusal = refused(text)
    assert refusal.error.code == INVALID_REQUEST
    assert refusal.id == b"null"


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","method":1,"id":7}',
        '{"method":"m","id":7}',
        '{"jsonrpc":"2.0","method":"m","params":"bar","id":7}',
        '{"jsonrpc":"2.0","method":"' + "m" * 200 + '","id":7}',
    ],
)
def test_an_invalid_request_keeps_the_id_that_can_be_told(text: str) -> None:
    assert refused(text).id == b"7"


def test_an_empty_batch_is_one_invalid_request() -> None:
    assert refused("[]").error.code == INVALID_REQUEST
    assert refused(" \n[ ]").error.code == INVALID_REQUEST


def test_each_request_of_a_batch_is_judged_on_its_own() -> None:
    request = read('[1,{"jsonrpc":"2.0","method":"m","id":1},{"foo":"boo"}]')
    assert isinstance(request, Batch)
    first, second, third = request.items
    assert isinstance(first, Refusal)
    assert first.error.code == INVALID_REQUEST
    assert second == Call("m", b"{}", b"1")
    assert isinstance(third, Refusal)


def test_a_batch_longer_than_allowed_is_one_invalid_request() -> None:
    item = '{"jsonrpc":"2.0","method":"m","id":1}'
    assert isinstance(read(f"[{','.join([item] * 5)}]", batch_max=5), Batch)
    refusal = read(f"[{','.join([item] * 6)}]", batch_max=5)
    assert isinstance(refusal, Refusal)
    assert refusal.error.code == INVALID_REQUEST


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_is_refused_before_a_recursive_parser_meets_it(opening: str) -> None:
    refusal = refused('{"jsonrpc":"2.0","method":"m","id":1,"params":' + opening * 200_000)
    assert refusal.error.code == INVALID_REQUEST
    assert "64" in refusal.error.message


def test_nesting_counts_to_the_bound_and_not_inside_strings() -> None:
    deep = "[" * 63 + "]" * 63
    assert isinstance(one(f'{{"jsonrpc":"2.0","method":"m","id":1,"params":{deep}}}'), Call)
    refusal = refused(f'{{"jsonrpc":"2.0","method":"m","id":1,"params":[{deep}]}}')
    assert refusal.error.code == INVALID_REQUEST
    text = "[" * 1000 + '\\"' + "{" * 1000
    assert isinstance(one(f'{{"jsonrpc":"2.0","method":"m","id":1,"params":["{text}"]}}'), Call)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(JSON)
def test_nesting_equals_a_recursive_count(value: object) -> None:
    for ascii_only in (True, False):
        assert nesting(json.dumps(value, ensure_ascii=ascii_only).encode()) == depth_of(value)


@given(st.binary() | st.text().map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_any_bytes_give_a_request_or_a_refusal(data: bytes) -> None:
    request = parse(data, nesting_max=64, batch_max=100)
    items = request.items if isinstance(request, Batch) else (request,)
    for item in items:
        if isinstance(item, Refusal):
            response = json.loads(error_response(item.id, item.error))
            assert set(response) == {"jsonrpc", "id", "error"}


def test_a_response_has_a_result_or_an_error_and_never_both() -> None:
    assert json.loads(result_response(b"1", b"null")) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": None,
    }
    failed = msgspec.json.decode(error_response(b"null", error_object("busy", "text", hint="x")))
    assert set(failed) == {"jsonrpc", "id", "error"}
    assert failed["error"]["data"] == {"reason": "busy", "hint": "x"}


def test_a_batch_response_is_an_array_in_order() -> None:
    joined = batch_response([result_response(b"1", b"2"), result_response(b"2", b"3")])
    assert [entry["id"] for entry in json.loads(joined)] == [1, 2]


def test_a_notification_of_the_server_has_no_id() -> None:
    assert set(json.loads(notification("n", b"{}"))) == {"jsonrpc", "method", "params"}
