"""Room for connections: how many, from where, and who may always come in. Pure bookkeeping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from omninode.node.net.limits import HANDSHAKES_MAX, HANDSHAKES_PER_IP_MAX


class Admission:
    """Counts handshakes, and the connections of strangers.

    Args:
        connections_max: Most connections at a time.
        connections_per_ip_max: Most connections of strangers from one IP address.
        reserved: How many of `connections_max` strangers may never take.
    """

    def __init__(self, *, connections_max: int, connections_per_ip_max: int, reserved: int) -> None:
        self._connections_max = connections_max
        self._strangers_max = 0
        self.reserve(reserved)
        self._per_ip_max = connections_per_ip_max
        self._handshakes: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()

    @contextmanager
    def handshake(self, ip: str) -> Iterator[bool]:
        """Take a place for a handshake; False means that there is none."""
        full = (
            self._handshakes.total() >= HANDSHAKES_MAX
            or self._handshakes[ip] >= HANDSHAKES_PER_IP_MAX
        )
        if full:
            yield False
            return
        self._handshakes[ip] += 1
        try:
            yield True
        finally:
            _give_back(self._handshakes, ip)

    def enter(self, ip: str) -> str:
        """Take a place for a stranger's connection; return why not, or an empty text."""
        if self._strangers.total() >= self._strangers_max:
            return "no room for strangers"
        if self._strangers[ip] >= self._per_ip_max:
            return "too many connections from its address"
        self._strangers[ip] += 1
        return ""

    def reserve(self, places: int) -> None:
        """Keep so many places free of strangers from now on; those who have one may stay."""
        self._strangers_max = max(0, self._connections_max - places)

    def take(self, ip: str) -> None:
        """Take a place for who was no stranger before, whether there is room or not."""
        self._strangers[ip] += 1

    def leave(self, ip: str) -> None:
        """Give the place of a stranger's connection back."""
        _give_back(self._strangers, ip)


def _give_back(counter: Counter[str], ip: str) -> None:
    counter[ip] -= 1
    if counter[ip] <= 0:
        del counter[ip]
