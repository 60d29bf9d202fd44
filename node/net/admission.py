"""Room for connections: how many, from where, and who may always come in. Pure bookkeeping.

Rules
    M1. Before a peer has proven who it is, only its address is known: an IPv4 address or an IPv6
        /64 counts as one. Handshakes are bounded per address and in all; a new one takes the place
        of the oldest, so that those who open connections and say nothing keep nobody out.
    M2. An address whose handshakes keep failing is turned away at the door for a short time. This
        is all that happens to an address: whoever has proven its identity is judged by that.
    M3. Addresses where validators and persistent peers are known to be are never turned away, and
        have handshakes of their own, which strangers can not take.
    M4. Strangers that dialled take places, fewer for each address than in all; validators,
        persistent peers and whom this node dials need none.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from omninode.node.net.limits import (
    DOOR_ADDRESSES_MAX,
    DOOR_CLOSED_MS,
    DOOR_FAILURES_MAX,
    DOOR_FAILURES_PER_MINUTE,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_IP_MAX,
    HANDSHAKES_RESERVED,
)
from omninode.node.net.places import address_group


class Handshake:
    """One inbound connection whose other end has not proven who it is.

    Attributes:
        scope: Cancelled when its place is needed (M1).
        is_ended: Whether that has happened.
        failed: Set by who runs it.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self.scope = trio.CancelScope()
        self.is_ended = False
        self.failed = False

    def end(self) -> None:
        """Give its place to another."""
        self.is_ended = True
        self.scope.cancel()


@dataclass(slots=True)
class _Door:
    """How an address fared lately (M2)."""

    failures: float = 0.0
    updated_ms: int = 0
    closed_until_ms: int = 0


class Admission:
    """Counts handshakes, and the connections of strangers.

    Args:
        connections_max: Most connections at a time.
        connections_per_ip_max: Most connections of strangers from one address (M1).
        reserved: How many of `connections_max` strangers may never take.
    """

    def __init__(self, *, connections_max: int, connections_per_ip_max: int, reserved: int) -> None:
        self._connections_max = connections_max
        self._strangers_max = 0
        self.reserve(reserved)
        self._per_ip_max = connections_per_ip_max
        self._handshakes: deque[Handshake] = deque()
        self._reserved_handshakes: deque[Handshake] = deque()
        self._strangers: Counter[str] = Counter()
        self._doors: dict[str, _Door] = {}

    # --- Handshakes -------------------------------------------------------------------------------

    def turns_away(self, ip: str, *, is_known: bool, now_ms: int) -> bool:
        """Say whether an address may not even begin (M2, M3)."""
        door = self._doors.get(address_group(ip))
        return not is_known and door is not None and now_ms < door.closed_until_ms

    @contextmanager
    def handshake(self, ip: str, *, is_known: bool, now_ms: int) -> Iterator[Handshake]:
        """Take a place for a handshake, if need be that of the oldest (M1).

        The caller works inside of its `scope`.
        """
        own = Handshake(address_group(ip))
        pool = self._reserved_handshakes if is_known else self._handshakes
        _make_room(pool, own.group, HANDSHAKES_RESERVED if is_known else HANDSHAKES_MAX)
        pool.append(own)
        try:
            yield own
        finally:
            pool.remove(own)
            if (own.failed or own.is_ended) and not is_known:
                self._note_failure(own.group, now_ms)

    def _note_failure(self, group: str, now_ms: int) -> None:
        door = self._doors.pop(group, None) or _Door(updated_ms=now_ms)
        if len(self._doors) >= DOOR_ADDRESSES_MAX:
            del self._doors[next(iter(self._doors))]
        self._doors[group] = door
        elapsed_ms = max(0, now_ms - door.updated_ms)
        door.updated_ms = now_ms
        forgiven = elapsed_ms * DOOR_FAILURES_PER_MINUTE / 60_000
        door.failures = max(0.0, door.failures - forgiven) + 1
        if door.failures > DOOR_FAILURES_MAX:
            door.closed_until_ms, door.failures = now_ms + DOOR_CLOSED_MS, DOOR_FAILURES_MAX / 2

    # --- Strangers --------------------------------------------------------------------------------

    def enter(self, ip: str) -> str:
        """Take a place for a stranger's connection; return why not, or an empty text."""
        if self._strangers.total() >= self._strangers_max:
            return "no room for strangers"
        if self._strangers[address_group(ip)] >= self._per_ip_max:
            return "too many connections from its address"
        self.take(ip)
        return ""

    def reserve(self, places: int) -> None:
        """Keep so many places free of strangers from now on; those who have one may stay."""
        self._strangers_max = max(0, self._connections_max - places)

    def take(self, ip: str) -> None:
        """Take a place for who was no stranger before, whether there is room or not."""
        self._strangers[address_group(ip)] += 1

    def leave(self, ip: str) -> None:
        """Give the place of a stranger's connection back."""
        group = address_group(ip)
        self._strangers[group] -= 1
        if self._strangers[group] <= 0:
            del self._strangers[group]


def _make_room(pool: deque[Handshake], group: str, most: int) -> None:
    """End the oldest handshake of an address that has its share, or of the busiest one (M1)."""
    counts = Counter(one.group for one in pool if not one.is_ended)
    if counts[group] >= HANDSHAKES_PER_IP_MAX:
        victim = group
    elif counts.total() >= most:
        victim = counts.most_common(1)[0][0]
    else:
        return
    for one in pool:
        if one.group == victim and not one.is_ended:
            one.end()
            return
