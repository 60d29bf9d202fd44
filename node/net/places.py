"""IP addresses as the peer layer judges them: who counts as one, and who can reach what."""

from __future__ import annotations

import enum
import ipaddress
from functools import lru_cache
from typing import Final

_CACHED: Final = 4_096


class Reach(enum.IntEnum):
    """From how far an address can be dialled; an address means nothing to who is farther away."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


@lru_cache(_CACHED)
def address_group(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 address.

    Whoever has one IPv6 address usually has all of its /64. A text that is no IP address stands for
    itself.
    """
    address = _read(host)
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


@lru_cache(_CACHED)
def reach_of(host: str) -> Reach | None:
    """Return how far an address reaches; `None` if nobody can be dialled there, or it is a name."""
    address = _read(host)
    if address is None or address.is_multicast or address.is_unspecified:
        return None
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_link_local or (address.is_reserved and not address.is_private):
        return None
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def is_ip(host: str) -> bool:
    """Say whether a text is an IP address in its one usual form, without a scope."""
    address = None if "%" in host else _read(host)
    return address is not None and str(ipaddress.ip_address(host)) == host


def _read(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # A scope (`fe80::1%eth0`) says where this machine reaches an address, not which it is.
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
