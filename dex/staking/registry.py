"""The registry of validators: who has registered, with which keys, and how each one stands.

Rules (PROTOCOL.md P6)
    G1. One validator per owner of a stake. A vote key, a beacon key and a peer id belong to one
        validator at a time, and those of a tombstoned one to nobody ever again.
    G2. `candidate`: registered, not in a set yet. `active`: in the set. `jailed`: taken out of it
        for missing too much. `exiting`: in the set until the epoch ends. `unbonding`: out of it,
        with stake that is not back yet. `tombstoned`: convicted, for ever.
    G3. A candidate enters a set after its own signed word that it has caught up (`is_synced`);
        jail takes that word back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from omninode.consensus.participation.score import NEUTRAL
from omninode.consensus.types import FIRST_SCORE

CANDIDATE: Final = "candidate"
ACTIVE: Final = "active"
JAILED: Final = "jailed"
EXITING: Final = "exiting"
UNBONDING: Final = "unbonding"
TOMBSTONED: Final = "tombstoned"

STAKING: Final = (CANDIDATE, ACTIVE, JAILED)
"""Those who may add and remove stake, and whose stake counts for the cap."""


class EpochReport(msgspec.Struct, frozen=True, array_like=True):
    """What the last cut saw of a validator and made of it.

    Components are in basis points of their full share, in the order of `score.POINTS`; `credits`
    of `blocks` shown blocks, `done` of `assigned` led views, `sub_windows` of `any_windows` with a
    vote; `reward` in base units of the stake's asset, 16 bytes.
    """

    epoch: int
    components: tuple[int, ...]
    raw: int
    previous_score: int
    credits: int
    blocks: int
    done: int
    assigned: int
    sub_windows: int
    any_windows: int
    reward: bytes


class Member(msgspec.Struct, array_like=True):
    """One registered validator.

    `tenure_from_ms` is where its tenure counts from; `services` are the results of the last audits
    in basis points, in the order of `score.SERVICES`; `jailed_epoch` is the one that sent it there.
    """

    owner: bytes
    address: bytes
    public_key: bytes
    beacon_key: bytes
    peer_id: str
    moniker: str
    registered_ms: int
    status: str
    tenure_from_ms: int
    is_synced: bool = False
    score: int = FIRST_SCORE
    services: tuple[int, int, int] = (NEUTRAL, NEUTRAL, NEUTRAL)
    jailed_epoch: int = 0
    jails: int = 0
    report: EpochReport | None = None
    previous: EpochReport | None = None


class Registry:
    """All validators by owner and by the address of their vote key.

    Attributes:
        members: By owner.
        changed: Owners whose record changed since it was last taken.
    """

    def __init__(self) -> None:
        self.members: Final[dict[bytes, Member]] = {}
        self.changed: Final[set[bytes]] = set()
        self._by_address: Final[dict[bytes, Member]] = {}

    def __iter__(self) -> Iterator[Member]:
        """Go through all validators in ascending order of owner."""
        return iter([self.members[owner] for owner in sorted(self.members)])

    def of(self, owner: bytes) -> Member | None:
        """Return an owner's validator."""
        return self.members.get(owner)

    def by_address(self, address: bytes) -> Member | None:
        """Return the validator with this vote key."""
        return self._by_address.get(address)

    def add(self, member: Member) -> None:
        """Take in a validator; whoever calls has checked that nothing of it is taken (G1)."""
        self.members[member.owner] = member
        self._by_address[member.address] = member
        self.changed.add(member.owner)

    def remove(self, member: Member) -> None:
        """Forget a validator whose stake is all back."""
        del self.members[member.owner], self._by_address[member.address]
        self.changed.add(member.owner)

    def touch(self, member: Member) -> None:
        """Note that a validator changed."""
        self.changed.add(member.owner)

    def taken(self, *, address: bytes, beacon_key: bytes, peer_id: str) -> str | None:
        """Return why these can not be a new validator's, or None (G1)."""
        if address in self._by_address:
            return "key_in_use"
        for member in self.members.values():
            if member.peer_id == peer_id:
                return "peer_in_use"
            if beacon_key and member.beacon_key == beacon_key:
                return "key_in_use"
        return None

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.changed.clear()

    def load(self, members: Iterable[Member]) -> None:
        """Take back stored validators."""
        for member in members:
            self.add(member)
        self.changed.clear()
