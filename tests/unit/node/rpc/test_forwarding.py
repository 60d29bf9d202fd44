"""Calls to the settlement chain: how many at once, how long, and what becomes of errors."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from omninode.contracts.failures import EndpointFailure
from omninode.errors import ChainError, EndpointError, UserError
from omninode.node.rpc import forwarding as forwarding_module
from omninode.node.rpc.forwarding import Forwarding
from omninode.node.rpc.limits import FORWARD_TIMEOUT_S, FORWARDS_IN_FLIGHT_MAX


class Chain:
    """Answers after a second; or never; or with an error."""

    state = "following"

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.order: list[Any] = []

    def status(self) -> Chain:
        return self

    async def forward(self, method: str, params: list[Any]) -> object:
        self.now += 1
        self.most = max(self.most, self.now)
        self.order += params
        try:
            await trio.sleep(3600 if method == "eth_never" else 1)
        finally:
            self.now -= 1
        if method == "eth_error":
            raise EndpointError(3, "reverted", "0x01")
        if method == "eth_gone":
            raise ChainError("no route", retryable=True)
        if method == "eth_flood":
            raise EndpointFailure("http://chain: more than 8 bytes", too_long=True)
        return method


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def forwarding(chain: Chain) -> Forwarding:
    return Forwarding(chain)  # type: ignore[arg-type]


async def test_calls_at_once_are_bounded_and_wait_in_order(
    chain: Chain, forwarding: Forwarding, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    calls = 3 * FORWARDS_IN_FLIGHT_MAX
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(calls):
            nursery.start_soon(forwarding.call, "eth_call", [number])
            for _ in range(3):  # so that this one asks before the next one
                await trio.lowlevel.checkpoint()
    assert chain.most == FORWARDS_IN_FLIGHT_MAX
    waves = [chain.order[n : n + FORWARDS_IN_FLIGHT_MAX] for n in range(0, calls, chain.most)]
    assert [number for wave in waves for number in sorted(wave)] == [*range(calls)]
    assert trio.current_time() - started == pytest.approx(3)


async def test_waiting_calls_are_bounded(
    chain: Chain,
    forwarding: Forwarding,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del autojump_clock
    monkeypatch.setattr(forwarding_module, "FORWARDS_WAITING_MAX", 2)
    async with trio.open_nursery() as nursery:
        for _ in range(FORWARDS_IN_FLIGHT_MAX + 2):
            nursery.start_soon(forwarding.call, "eth_call", [])
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        with pytest.raises(UserError) as refused:
            await forwarding.call("eth_call", [])
        assert refused.value.reason == "busy"
    assert await forwarding.call("eth_call", []) == "eth_call"
    assert chain.now == 0


async def test_a_call_that_hangs_is_given_up(
    chain: Chain, forwarding: Forwarding, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    started = trio.current_time()
    with pytest.raises(UserError) as refused:
        await forwarding.call("eth_never", [])
    assert refused.value.reason == "timeout"
    assert trio.current_time() - started == pytest.approx(FORWARD_TIMEOUT_S)
    assert chain.now == 0


async def test_errors_of_the_endpoint_are_its_own(
    forwarding: Forwarding, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    with pytest.raises(EndpointError) as error:
        await forwarding.call("eth_error", [])
    assert (error.value.code, str(error.value), error.value.data) == (3, "reverted", "0x01")
    with pytest.raises(UserError) as refused:
        await forwarding.call("eth_gone", [])
    assert (refused.value.reason, str(refused.value)) == ("settlement_unreachable", "no route")


async def test_an_answer_too_long_says_what_to_ask_instead(
    forwarding: Forwarding, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    with pytest.raises(UserError) as refused:
        await forwarding.call("eth_flood", [])
    assert refused.value.reason == "response_too_large"
    assert "more than 8 bytes" in str(refused.value)
    assert "smaller range of blocks" in refused.value.hint
