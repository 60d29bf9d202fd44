"""Token buckets: what a client may ask, and when it may again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.node.rpc.limits import CLIENTS_MAX, TOKEN_BYTES
from omninode.node.rpc.rate import RateLimiter, client_of, cost_of


def test_a_burst_passes_and_then_tokens_come_back_at_the_rate() -> None:
    limiter = RateLimiter(per_second=10, burst=20)
    assert [limiter.take("a", 1, now_s=5.0) for _ in range(20)] == [0.0] * 20
    assert limiter.take("a", 1, now_s=5.0) == pytest.approx(0.1)
    assert limiter.take("a", 1, now_s=5.11) == 0.0
    assert limiter.take("a", 1, now_s=5.12) > 0.0


def test_clients_do_not_pay_for_each_other() -> None:
    limiter = RateLimiter(per_second=1, burst=1)
    assert limiter.take("a", 1, now_s=0.0) == 0.0
    assert limiter.take("b", 1, now_s=0.0) == 0.0
    assert limiter.take("a", 1, now_s=0.0) > 0.0


def test_a_refused_request_costs_nothing() -> None:
    limiter = RateLimiter(per_second=1, burst=10)
    assert limiter.take("a", 8, now_s=0.0) == 0.0
    assert limiter.take("a", 8, now_s=0.0) == pytest.approx(6.0)
    assert limiter.take("a", 2, now_s=0.0) == 0.0


def test_what_costs_more_than_a_bucket_passes_once_and_is_paid_afterwards() -> None:
    limiter = RateLimiter(per_second=10, burst=10)
    assert limiter.take("a", 30, now_s=0.0) == 0.0
    assert limiter.take("a", 1, now_s=0.0) == pytest.approx(2.1)
    assert limiter.take("a", 1, now_s=2.2) == 0.0


def test_the_number_of_clients_remembered_is_bounded() -> None:
    limiter = RateLimiter(per_second=1, burst=1)
    for number in range(CLIENTS_MAX + 10):
        limiter.take(str(number), 1, now_s=0.0)
    assert limiter.clients == CLIENTS_MAX
    assert limiter.take(str(CLIENTS_MAX + 9), 1, now_s=0.0) > 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), max_size=200))
def test_never_more_than_burst_plus_rate(steps: list[tuple[float, int]]) -> None:
    limiter = RateLimiter(per_second=7, burst=11)
    now, passed = 0.0, 0
    for pause, cost in steps:
        now += pause
        if limiter.take("a", cost, now_s=now) == 0.0:
            passed += cost
    assert passed <= 11 + 7 * now + 1e-6


def test_a_request_pays_for_its_calls_or_its_size() -> None:
    assert cost_of(1, 0) == 1
    assert cost_of(1, TOKEN_BYTES) == 1
    assert cost_of(1, TOKEN_BYTES + 1) == 2
    assert cost_of(100, TOKEN_BYTES) == 100


def test_an_ipv6_client_is_its_network_and_a_mapped_one_its_ipv4_address() -> None:
    assert client_of("2001:db8::1") == client_of("2001:db8::2:3")
    assert client_of("2001:db8::1") != client_of("2001:db8:0:1::1")
    assert client_of("::ffff:192.0.2.1") == client_of("192.0.2.1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2")
