"""Which web pages may use the node."""

from __future__ import annotations

from omninode.node.rpc.origins import OriginPolicy

PAGE = b"https://trade.example"


def test_by_default_no_page_may_read_answers_or_open_a_websocket() -> None:
    policy = OriginPolicy([])
    assert policy.headers({b"origin": PAGE}) == []
    assert policy.preflight({b"origin": PAGE}) == []
    assert not policy.allows_websocket({b"origin": PAGE})
    assert not policy.allows_websocket({b"origin": b"null"})


def test_programs_that_are_no_browsers_send_no_origin_and_may() -> None:
    assert OriginPolicy([]).allows_websocket({})


def test_a_named_origin_may_and_another_may_not() -> None:
    policy = OriginPolicy(["https://Trade.example"])
    assert (b"access-control-allow-origin", PAGE) in policy.headers({b"origin": PAGE})
    assert policy.headers({b"origin": b"https://evil.example"}) == [(b"vary", b"Origin")]
    assert policy.preflight({b"origin": b"https://evil.example"}) == []
    assert dict(policy.preflight({b"origin": PAGE}))[b"access-control-allow-headers"]
    assert policy.allows_websocket({b"origin": PAGE})
    assert not policy.allows_websocket({b"origin": b"https://trade.example.evil.example"})


def test_a_star_means_any() -> None:
    policy = OriginPolicy(["*"])
    assert policy.allows_websocket({b"origin": b"null"})
    assert (b"access-control-allow-origin", PAGE) in policy.headers({b"origin": PAGE})
