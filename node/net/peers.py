"""The peer table: who is known, how they behave, who is banned. Pure: time comes as an argument.

Rules
    T1. A score starts at 0, faults lower it, time brings it back to 0, never above.
    T2. At `SCORE_DISCONNECT` the peer is disconnected, at `SCORE_BAN` banned for a while.
    T3. A ban ends by itself; the score then stands at `SCORE_DISCONNECT`, so that relapse is dear.
        A stranger's next ban within `BAN_MEMORY_MS` is longer. Bans are of peers that have proven
        who they are, so nobody can have somebody else banned.
    T4. A stranger is forgotten when the table is full; persistent peers and validators never are.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

from omninode.errors import PeerFault
from omninode.node.net.identity import PeerId
from omninode.node.net.limits import (
    ADDRESSES_PER_PEER_MAX,
    BAN_MAX_MS,
    BAN_MEMORY_MS,
    BAN_MS,
    BAN_STEP,
    BAN_VALIDATOR_MS,
    PEERS_REMEMBERED_MAX,
    SCORE_BAN,
    SCORE_DISCONNECT,
    SCORE_RECOVERY_PER_MINUTE,
)
from omninode.node.net.settings import Plane

Direction = Literal["inbound", "outbound"]


class Verdict(enum.Enum):
    """What a fault leads to (T2)."""

    KEEP = "keep"
    DISCONNECT = "disconnect"
    BAN = "ban"


@dataclass(frozen=True, kw_only=True)
class PeerInfo:
    """One peer as `omninode peers` and the RPC show it.

    Attributes:
        id: The peer's id.
        moniker: The name it gave itself, empty before its hello.
        addresses: Multiaddresses where it was reached or is configured.
        direction: Who dialled; None when not connected.
        connected_since_ms: When its hello was accepted; None when not connected.
        rtt_ms: Last round trip of a ping; None before the first.
        score: 0 is clean, faults make it negative.
        is_validator: Whether it belongs to the validator set.
        is_persistent: Whether this node keeps dialling it.
        planes: Outgoing plane streams that the peer has accepted.
        last_error: Why the last connection or dial ended, or its last fault.
        banned_until_ms: 0, or when its ban ends.
        ban_reason: The fault that led to its ban; empty when it is not banned.
    """

    id: PeerId
    moniker: str
    addresses: tuple[str, ...]
    direction: Direction | None
    connected_since_ms: int | None
    rtt_ms: float | None
    score: int
    is_validator: bool
    is_persistent: bool
    planes: tuple[Plane, ...]
    last_error: str
    banned_until_ms: int
    ban_reason: str = ""


@dataclass(frozen=True)
class Ban:
    """A ban as it is kept on disk.

    Attributes:
        peer: Who is banned.
        until_ms: When it ends.
        reason: The fault that led to it.
        count: The how manieth it is in a row.
    """

    peer: PeerId
    until_ms: int
    reason: str
    count: int


@dataclass
class PeerRecord:
    """What the table keeps of one peer. `score` is as of `scored_at_ms`."""

    id: PeerId
    is_validator: bool
    is_persistent: bool
    moniker: str = ""
    addresses: list[str] = field(default_factory=list)
    score: int = 0
    scored_at_ms: int = 0
    banned_until_ms: int = 0
    ban_reason: str = ""
    ban_count: int = 0
    last_error: str = ""
    last_seen_ms: int = 0
    connected_since_ms: int | None = None


class PeerTable:
    """The records of all peers that are or were seen.

    Args:
        validators: Ids of the validator set.
    """

    def __init__(self, validators: frozenset[PeerId]) -> None:
        self._validators = validators
        self._records: dict[PeerId, PeerRecord] = {}
        self.is_changed = False
        """Whether there is a ban that was not there when this was set to false."""

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> tuple[PeerRecord, ...]:
        """Return every record, in order of first sight."""
        return tuple(self._records.values())

    def get(self, peer: PeerId) -> PeerRecord | None:
        """Return the record of a peer that was seen before."""
        return self._records.get(peer)

    def set_validators(self, validators: frozenset[PeerId]) -> None:
        """Take another validator set."""
        self._validators = validators
        for record in self._records.values():
            record.is_validator = record.id in validators

    def keep(self, peer: PeerId, address: str) -> PeerRecord:
        """Note an address of a peer that must stay connected."""
        record = self.see(peer, now_ms=0)
        record.is_persistent = True
        self.add_address(peer, address)
        return record

    def see(self, peer: PeerId, *, now_ms: int) -> PeerRecord:
        """Return the record of a peer, made now if need be (T4)."""
        record = self._records.get(peer)
        if record is None:
            if len(self._records) >= PEERS_REMEMBERED_MAX:
                self._forget_one(now_ms)
            is_validator = peer in self._validators
            record = PeerRecord(peer, is_validator=is_validator, is_persistent=False)
            self._records[peer] = record
        record.last_seen_ms = max(record.last_seen_ms, now_ms)
        return record

    def add_address(self, peer: PeerId, address: str) -> None:
        """Note where a known peer was reached."""
        record = self._records[peer]
        if address not in record.addresses and len(record.addresses) < ADDRESSES_PER_PEER_MAX:
            record.addresses.append(address)

    def score(self, peer: PeerId, *, now_ms: int) -> int:
        """Return a peer's score as it stands now (T1)."""
        record = self._records.get(peer)
        if record is None:
            return 0
        elapsed_ms = max(0, now_ms - record.scored_at_ms)
        return min(0, record.score + elapsed_ms * SCORE_RECOVERY_PER_MINUTE // 60_000)

    def fault(self, peer: PeerId, fault: PeerFault, *, now_ms: int) -> Verdict:
        """Take the penalty of a fault from a peer's score and say what follows (T1, T2)."""
        record = self.see(peer, now_ms=now_ms)
        score = self.score(peer, now_ms=now_ms) - max(0, fault.penalty)
        record.last_error = f"{fault.reason}: {fault}"
        record.score, record.scored_at_ms = score, now_ms
        if score > SCORE_DISCONNECT or fault.penalty <= 0:
            return Verdict.KEEP
        if score > SCORE_BAN:
            return Verdict.DISCONNECT
        if now_ms - record.banned_until_ms > BAN_MEMORY_MS:
            record.ban_count = 0
        record.ban_count += 1
        until_ms = now_ms + _ban_ms(record)
        self._ban(record, Ban(peer, until_ms, record.last_error, record.ban_count))
        return Verdict.BAN

    def bans(self, *, now_ms: int) -> list[Ban]:
        """Return the bans that hold now."""
        return [
            Ban(record.id, record.banned_until_ms, record.ban_reason, record.ban_count)
            for record in self._records.values()
            if now_ms < record.banned_until_ms
        ]

    def restore_ban(self, ban: Ban, *, now_ms: int) -> None:
        """Take in a ban that was on disk; one that no ban of ours is as long as means nothing."""
        if now_ms < ban.until_ms <= now_ms + BAN_MAX_MS:
            self._ban(self.see(ban.peer, now_ms=now_ms), ban)

    def _ban(self, record: PeerRecord, ban: Ban) -> None:
        record.banned_until_ms, record.ban_reason = ban.until_ms, ban.reason
        record.ban_count = ban.count
        self.is_changed = True
        # T3: the clock of recovery starts again when the ban ends.
        record.score, record.scored_at_ms = SCORE_DISCONNECT, ban.until_ms

    def is_banned(self, peer: PeerId, *, now_ms: int) -> bool:
        """Say whether a peer is banned at this time (T3)."""
        record = self._records.get(peer)
        return record is not None and now_ms < record.banned_until_ms

    def is_guaranteed(self, peer: PeerId) -> bool:
        """Say whether a peer gets in even when the node is full of strangers."""
        record = self._records.get(peer)
        return peer in self._validators or (record is not None and record.is_persistent)

    def _forget_one(self, now_ms: int) -> None:
        """Drop the stranger seen longest ago; a banned one only if nobody else is left (T4)."""
        strangers = [
            record
            for record in self._records.values()
            if record.connected_since_ms is None
            and not (record.is_persistent or record.is_validator)
        ]
        if strangers:
            oldest = min(strangers, key=lambda r: (r.banned_until_ms > now_ms, r.last_seen_ms))
            del self._records[oldest.id]


def _ban_ms(record: PeerRecord) -> int:
    """Return how long a peer is banned this time (T3)."""
    if record.is_validator:
        return BAN_VALIDATOR_MS
    if record.is_persistent:
        return BAN_MS
    return int(min(BAN_MS * BAN_STEP ** min(record.ban_count - 1, 10), BAN_MAX_MS))
