"""How much a client may ask: a token bucket for each address.

A request costs a token per call (a heavy read: its method's `cost`), and at least one for each
started `TOKEN_BYTES` of its text. Tokens come back at `requests_per_second`, up to
`requests_burst`. An IPv6 client is its /64, for whoever has one address has them all.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from omninode.node.rpc.limits import CLIENTS_MAX, TOKEN_BYTES


def cost_of(calls: int, size_bytes: int) -> int:
    """Return the price of a request in tokens."""
    return max(calls, -(-size_bytes // TOKEN_BYTES), 1)


def client_of(host: str) -> str:
    """Return what a limit counts as one client, from the address of its socket."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


class RateLimiter:
    """Token buckets by client; time comes as an argument.

    Args:
        per_second: Tokens that come back each second.
        burst: Most tokens a client can have.
    """

    def __init__(self, *, per_second: int, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def clients(self) -> int:
        """How many clients are remembered."""
        return len(self._buckets)

    def take(self, client: str, cost: int, *, now_s: float) -> float:
        """Take tokens, all or none.

        A request dearer than a full bucket can never be paid in advance: it takes a full bucket
        into debt, so that it passes, and what follows waits longer.

        Returns:
            0 if they were there, else the seconds until they will be.
        """
        tokens, then = self._buckets.pop(client, (float(self._burst), now_s))
        tokens = min(self._burst, tokens + (now_s - then) * self._per_second)
        missing = min(cost, self._burst) - tokens
        if missing <= 0:
            tokens -= cost
        self._buckets[client] = (tokens, now_s)
        if len(self._buckets) > CLIENTS_MAX:
            self._buckets.popitem(last=False)
        return max(missing / self._per_second, 0.0)
