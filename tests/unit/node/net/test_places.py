from __future__ import annotations

import pytest

from omninode.node.net.places import Reach, address_group, reach_of


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("example.org", "example.org"),
    ],
)
def test_what_counts_as_one_address(host: str, group: str) -> None:
    assert address_group(host) == group


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("10.1.2.3", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("0.0.0.0", None),
        ("224.0.0.1", None),
        ("169.254.1.1", None),
        ("fe80::1", None),
        ("example.org", None),
        ("", None),
    ],
)
def test_how_far_an_address_reaches(host: str, reach: Reach | None) -> None:
    assert reach_of(host) is reach
