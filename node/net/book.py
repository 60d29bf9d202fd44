"""The address book: where peers were reached, and what others say. Pure: time is an argument.

Rules
    K1. An entry is a place where a peer has proven its identity to this node, or one that the
        configuration names. Only the first kind is told to others or kept on disk.
    K2. What others say is a candidate: kept in memory, few for each source, taken out in turns
        between sources, and tried once. It never replaces an entry.
    K3. An address that fails is dialled less and less often, and forgotten when it was not reached
        for `BOOK_FORGET_MS`; one that the configuration names is never forgotten.
    K4. An address is believed to mean something only as far as its source can reach: loopback
        addresses from loopback, private ones not from the internet.
    K5. Few entries share one public address, so that one machine can not fill the book.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    BOOK_ADDRESSES_PER_PEER_MAX,
    BOOK_FAILURES_MAX,
    BOOK_FORGET_MS,
    BOOK_PEERS_MAX,
    BOOK_PER_GROUP_MAX,
    BOOK_RETRY_MAX_MS,
    BOOK_RETRY_MS,
    BOOK_STALE_MS,
    BOOTSTRAP_RETRY_MAX_MS,
    BOOTSTRAP_RETRY_MS,
    CANDIDATE_SOURCES_MAX,
    CANDIDATES_PER_SOURCE_MAX,
)
from omninode.node.net.places import Reach, address_group, reach_of
from omninode.node.net.settings import TcpAddress


@dataclass(slots=True)
class BookEntry:
    """One address of one peer.

    Attributes:
        address: Where, with the peer's id.
        reached_ms: When the peer last proved itself there; 0 for never.
        failures: Dials that failed since.
        retry_ms: Not dialled again before.
        is_named: Whether the configuration names it.
    """

    address: TcpAddress
    reached_ms: int = 0
    failures: int = 0
    retry_ms: int = 0
    is_named: bool = False


class AddressBook:
    """Where peers are.

    Args:
        local: This node's id, which is never in the book.
        rng: Chooses among equals.
    """

    def __init__(self, local: PeerId, *, rng: random.Random) -> None:
        self._local = local
        self._rng = rng
        self._entries: dict[PeerId, list[BookEntry]] = {}
        self._candidates: dict[str, deque[TcpAddress]] = {}
        self.is_changed = False
        """Whether something worth writing to disk has changed since this was set to false."""

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[BookEntry, ...]:
        """Return all entries."""
        return tuple(entry for entries in self._entries.values() for entry in entries)

    def of(self, peer: PeerId) -> tuple[BookEntry, ...]:
        """Return the entries of one peer."""
        return tuple(self._entries.get(peer, ()))

    def is_named(self, peer: PeerId) -> bool:
        """Say whether the configuration names a peer."""
        return any(entry.is_named for entry in self.of(peer))

    # --- What is known ----------------------------------------------------------------------------

    def name(self, address: TcpAddress) -> None:
        """Take in an address of the configuration, which must end in a peer id."""
        if address.peer_id != self._local:
            entry = self._find(address) or self._insert(address)
            entry.is_named = True

    def reached(self, address: TcpAddress, *, now_ms: int) -> None:
        """Note that a peer has proven itself at an address (K1)."""
        if address.peer_id == self._local or reach_of(address.host) is None:
            return
        entry = self._find(address)
        if entry is None:
            if self._is_crowded(address.host):
                return
            entry = self._insert(address)
        entry.reached_ms, entry.failures, entry.retry_ms = now_ms, 0, 0
        self.is_changed = True

    def failed(self, address: TcpAddress, *, now_ms: int) -> None:
        """Note that a dial of an entry failed (K3)."""
        entry = self._find(address)
        if entry is None:
            return
        entry.failures += 1
        first_ms, most_ms = (
            (BOOTSTRAP_RETRY_MS, BOOTSTRAP_RETRY_MAX_MS)
            if entry.is_named
            else (BOOK_RETRY_MS, BOOK_RETRY_MAX_MS)
        )
        entry.retry_ms = now_ms + min(first_ms << min(entry.failures - 1, 20), most_ms)
        is_old = now_ms - entry.reached_ms > BOOK_FORGET_MS
        if not entry.is_named and entry.failures >= BOOK_FAILURES_MAX and is_old:
            self._remove(entry)
        self.is_changed = True

    def restore(self, entry: BookEntry, *, now_ms: int) -> None:
        """Take in an entry that was on disk; a clock that was ahead then means nothing now."""
        address = entry.address
        is_good = address.peer_id != self._local and reach_of(address.host) is not None
        if is_good and self._find(address) is None and not self._is_crowded(address.host):
            restored = self._insert(address)
            restored.reached_ms = min(entry.reached_ms, now_ms)
            restored.failures = entry.failures

    def due(self, *, now_ms: int, wants: Callable[[PeerId], bool]) -> TcpAddress | None:
        """Return an address to dial now: what was reached before what is only named, then any."""
        ready = [
            entry
            for entry in self.entries()
            if entry.retry_ms <= now_ms and wants(entry.address.peer_id)
        ]
        if not ready:
            return None
        chosen = min(ready, key=lambda e: (e.failures, not e.reached_ms, self._rng.random()))
        return chosen.address

    def sample(
        self, count: int, *, reach: Reach, now_ms: int, may_tell: Callable[[PeerId], bool]
    ) -> list[TcpAddress]:
        """Return addresses to tell somebody that this node reaches over `reach` (K1, K4)."""
        told = [
            entry.address
            for entry in self.entries()
            if entry.reached_ms
            and not entry.failures
            and now_ms - entry.reached_ms < BOOK_STALE_MS
            and may_tell(entry.address.peer_id)
            and _means_something(entry.address.host, reach)
        ]
        return self._rng.sample(told, min(count, len(told)))

    # --- What others say --------------------------------------------------------------------------

    def offer(self, addresses: Iterable[TcpAddress], *, source: str) -> int:
        """Take in what somebody at the IP address `source` says (K2, K4); return how many."""
        reach = reach_of(source)
        if reach is None:
            return 0
        group = address_group(source)
        heard = self._candidates.pop(group, None)
        if heard is None:
            if len(self._candidates) >= CANDIDATE_SOURCES_MAX:
                del self._candidates[next(iter(self._candidates))]
            heard = deque(maxlen=CANDIDATES_PER_SOURCE_MAX)
        self._candidates[group] = heard
        taken = 0
        for address in addresses:
            is_new = address not in heard and self._find(address) is None
            if is_new and address.peer_id != self._local and _means_something(address.host, reach):
                heard.append(address)
                taken += 1
        return taken

    def take_candidate(self) -> TcpAddress | None:
        """Return a candidate to try and forget it, in turns between those who told (K2)."""
        for group in tuple(self._candidates):
            heard = self._candidates.pop(group)
            if heard:
                self._candidates[group] = heard
                return heard.popleft()
        return None

    # --- Inside -----------------------------------------------------------------------------------

    def _find(self, address: TcpAddress) -> BookEntry | None:
        entries = self._entries.get(address.peer_id, ())
        return next((entry for entry in entries if entry.address == address), None)

    def _insert(self, address: TcpAddress) -> BookEntry:
        entries = self._entries.setdefault(address.peer_id, [])
        entry = BookEntry(address)
        entries.append(entry)
        if len(entries) > BOOK_ADDRESSES_PER_PEER_MAX:
            self._remove_worst(entries, keep=entry)
        if len(self._entries) > BOOK_PEERS_MAX:
            self._remove_worst(self.entries(), keep=entry)
        return entry

    def _remove_worst(self, entries: Iterable[BookEntry], *, keep: BookEntry) -> None:
        spare = [entry for entry in entries if not entry.is_named and entry is not keep]
        if spare:
            self._remove(max(spare, key=lambda e: (e.failures, -e.reached_ms)))

    def _remove(self, entry: BookEntry) -> None:
        entries = self._entries[entry.address.peer_id]
        entries.remove(entry)
        if not entries:
            del self._entries[entry.address.peer_id]
        self.is_changed = True

    def _is_crowded(self, host: str) -> bool:
        """Say whether a public address has its share of the book (K5)."""
        if reach_of(host) is not Reach.PUBLIC:
            return False
        group = address_group(host)
        same = sum(address_group(entry.address.host) == group for entry in self.entries())
        return same >= BOOK_PER_GROUP_MAX


def _means_something(host: str, reach: Reach) -> bool:
    """Say whether an address means the same to both ends of a connection over `reach` (K4)."""
    own = reach_of(host)
    return own is not None and own >= reach
