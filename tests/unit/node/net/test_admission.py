from __future__ import annotations

from contextlib import ExitStack

from omninode.node.net.admission import Admission, Handshake
from omninode.node.net.limits import (
    DOOR_ADDRESSES_MAX,
    DOOR_CLOSED_MS,
    DOOR_FAILURES_MAX,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_IP_MAX,
)

NOW_MS = 1_000_000


def _admission(**changes: int) -> Admission:
    return Admission(
        **{"connections_max": 10, "connections_per_ip_max": 10, "reserved": 0} | changes
    )


def _begin(stack: ExitStack, admission: Admission, ip: str, *, is_known: bool = False) -> Handshake:
    return stack.enter_context(admission.handshake(ip, is_known=is_known, now_ms=NOW_MS))


def _is_ended(handshake: Handshake) -> bool:
    return handshake.is_ended


def test_an_address_with_its_share_of_handshakes_loses_the_oldest() -> None:
    admission = _admission()
    with ExitStack() as stack:
        mine = [_begin(stack, admission, "192.0.2.1") for _ in range(HANDSHAKES_PER_IP_MAX + 2)]
        other = _begin(stack, admission, "192.0.2.2")
        assert [_is_ended(one) for one in mine] == [True] * 2 + [False] * HANDSHAKES_PER_IP_MAX
        assert not _is_ended(other)


def test_the_busiest_address_loses_when_all_places_are_taken() -> None:
    admission = _admission()
    with ExitStack() as stack:
        busy = [_begin(stack, admission, "192.0.2.1") for _ in range(3)]
        others = [
            _begin(stack, admission, f"198.51.100.{number}") for number in range(HANDSHAKES_MAX - 3)
        ]
        newest = _begin(stack, admission, "203.0.113.1")
        assert [_is_ended(one) for one in busy] == [True, False, False]
        assert not any(map(_is_ended, [*others, newest]))


def test_strangers_take_no_handshake_of_known_addresses() -> None:
    admission = _admission()
    with ExitStack() as stack:
        validator = _begin(stack, admission, "192.0.2.1", is_known=True)
        for number in range(3 * HANDSHAKES_MAX):
            _begin(stack, admission, f"198.51.{number}.1")
        assert not _is_ended(validator)


def test_a_slash_64_counts_as_one_address() -> None:
    admission = _admission(connections_per_ip_max=2)
    assert [admission.enter(f"2001:db8::{number}") for number in (1, 2)] == ["", ""]
    assert "its address" in admission.enter("2001:db8::ffff:0:1")
    assert admission.enter("2001:db8:0:1::1") == ""
    assert admission.enter("::ffff:192.0.2.1") == ""
    assert admission.enter("192.0.2.1") == ""
    assert "its address" in admission.enter("192.0.2.1")


def _fail(admission: Admission, ip: str, times: int, *, is_known: bool = False) -> None:
    for _ in range(times):
        with admission.handshake(ip, is_known=is_known, now_ms=NOW_MS) as own:
            own.failed = True


def test_an_address_whose_handshakes_keep_failing_is_turned_away_for_a_short_time() -> None:
    admission = _admission()
    _fail(admission, "192.0.2.1", DOOR_FAILURES_MAX)
    assert not admission.turns_away("192.0.2.1", is_known=False, now_ms=NOW_MS)
    _fail(admission, "192.0.2.1", 1)
    assert admission.turns_away("192.0.2.1", is_known=False, now_ms=NOW_MS)
    assert not admission.turns_away("192.0.2.1", is_known=True, now_ms=NOW_MS)
    assert not admission.turns_away("192.0.2.2", is_known=False, now_ms=NOW_MS)
    later_ms = NOW_MS + DOOR_CLOSED_MS
    assert not admission.turns_away("192.0.2.1", is_known=False, now_ms=later_ms)


def test_a_known_address_is_never_counted() -> None:
    admission = _admission()
    _fail(admission, "192.0.2.1", 10 * DOOR_FAILURES_MAX, is_known=True)
    assert not admission.turns_away("192.0.2.1", is_known=False, now_ms=NOW_MS)


def test_a_world_of_failing_addresses_is_remembered_in_part() -> None:
    admission = _admission()
    for number in range(DOOR_ADDRESSES_MAX + 10):
        _fail(admission, f"10.0.{number // 256}.{number % 256}", 1)
    assert len(admission._doors) == DOOR_ADDRESSES_MAX


def test_strangers_leave_the_reserved_room_alone() -> None:
    admission = _admission(connections_max=5, connections_per_ip_max=2, reserved=2)
    assert [admission.enter("a"), admission.enter("a")] == ["", ""]
    assert "its address" in admission.enter("a")
    assert admission.enter("b") == ""
    assert "no room" in admission.enter("c")
    admission.leave("a")
    assert admission.enter("c") == ""
