"""What an endpoint answers is read exactly, or refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_chain import CONTRACT, SimChain, block_json, deposited, log_json, withdrawn
from omninode.contracts import wire
from omninode.contracts.wire import read_bytes, read_header, read_logs, read_quantity
from omninode.errors import Malformed


def chain_with_logs() -> SimChain:
    chain = SimChain(length=3)
    chain.extend(1, deposited(0), withdrawn(4))
    chain.extend(1, deposited(1))
    return chain


def told() -> list[dict[str, Any]]:
    return [log_json(log) for log in chain_with_logs().logs(0, 4)]


def test_headers_and_logs_come_back_as_they_were() -> None:
    chain = chain_with_logs()
    assert read_header(block_json(chain.head)) == chain.head
    assert read_logs(told(), contract=CONTRACT, first=0, last=4) == chain.logs(0, 4)


def test_a_chain_without_base_fee() -> None:
    answer = block_json(SimChain().head)
    del answer["baseFeePerGas"]
    assert read_header(answer).base_fee == 0


@pytest.mark.parametrize(
    "value",
    [None, 5, "5", "0x", "0xg", "-0x1", "0x-1", "0x1_0", " 0x1", "0x1 ", "0x" + "f" * 65, [], {}],
)
def test_what_is_no_quantity(value: object) -> None:
    with pytest.raises(Malformed):
        read_quantity(value)


def test_a_quantity_has_its_range() -> None:
    assert read_quantity("0xff", below=256) == 255
    with pytest.raises(Malformed):
        read_quantity("0x100", below=256)


@pytest.mark.parametrize("value", [None, 5, "ab", "0xabc", "0x a b", "0xzz", "0xabcd", "0x"])
def test_what_is_not_one_byte(value: object) -> None:
    with pytest.raises(Malformed):
        read_bytes(value, size=1)


def test_bytes_have_their_bound() -> None:
    with pytest.raises(Malformed):
        read_bytes("0x" + "00" * 5, size_max=4)


@pytest.mark.parametrize(
    "change",
    [
        {"removed": True},
        {"address": "0x" + "11" * 20},
        {"address": None},
        {"blockHash": "0x11"},
        {"blockNumber": "0x63"},
        {"logIndex": None},
        {"topics": ["0x" + "11" * 32] * 5},
        {"topics": "0x"},
        {"topics": ["0x11"]},
        {"data": "0x" + "00" * 2_000},
        {"data": None},
        {"transactionHash": None},
    ],
)
def test_a_log_that_is_not_what_was_asked_for(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_logs([told()[0] | change], contract=CONTRACT, first=0, last=4)


def test_logs_out_of_order_or_twice() -> None:
    logs = told()
    for wrong in (logs[::-1], [logs[0], logs[0]], [logs[1], logs[0]]):
        with pytest.raises(Malformed):
            read_logs(wrong, contract=CONTRACT, first=0, last=4)


def test_logs_of_other_blocks() -> None:
    for first, last in ((4, 4), (0, 3)):
        with pytest.raises(Malformed):
            read_logs(told(), contract=CONTRACT, first=first, last=last)


def test_too_many_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LOGS_OF_BLOCK_MAX", 2)
    with pytest.raises(Malformed):
        read_logs(told(), contract=CONTRACT, first=0, last=4)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)


@given(anything)
def test_any_answer_is_read_or_refused(value: Any) -> None:
    for read in (
        read_header,
        read_quantity,
        read_bytes,
        lambda v: read_logs(v, contract=CONTRACT, first=0, last=9),
    ):
        with contextlib.suppress(Malformed):
            read(value)


@given(st.sampled_from(sorted(log_json(chain_with_logs().logs(0, 4)[0]))), anything)
def test_any_field_of_a_log_is_read_or_refused(field: str, value: Any) -> None:
    try:
        logs = read_logs([told()[0] | {field: value}], contract=CONTRACT, first=0, last=4)
    except Malformed:
        return
    assert len(logs) == 1
