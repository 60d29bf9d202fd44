from __future__ import annotations

from contextlib import ExitStack

from omninode.node.net.admission import Admission
from omninode.node.net.limits import HANDSHAKES_MAX, HANDSHAKES_PER_IP_MAX


def test_handshakes_are_bounded_per_address_and_in_all() -> None:
    admission = Admission(connections_max=10, connections_per_ip_max=10, reserved=0)
    with ExitStack() as stack:
        for _ in range(HANDSHAKES_PER_IP_MAX):
            assert stack.enter_context(admission.handshake("a"))
        assert not stack.enter_context(admission.handshake("a"))
        for number in range(HANDSHAKES_MAX - HANDSHAKES_PER_IP_MAX):
            assert stack.enter_context(admission.handshake(f"b{number}"))
        assert not stack.enter_context(admission.handshake("c"))
    with admission.handshake("a") as has_room:
        assert has_room


def test_strangers_leave_the_reserved_room_alone() -> None:
    admission = Admission(connections_max=5, connections_per_ip_max=2, reserved=2)
    assert [admission.enter("a"), admission.enter("a")] == ["", ""]
    assert "its address" in admission.enter("a")
    assert admission.enter("b") == ""
    assert "no room" in admission.enter("c")
    admission.leave("a")
    assert admission.enter("c") == ""
