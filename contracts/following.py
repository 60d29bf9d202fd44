"""What is confirmed on the settlement chain: endpoints compared, block by block.

Rules
    F1. The next blocks are confirmed when a strict majority of the *configured* endpoints tell the
        same of them: same hashes, same logs. Silence is not agreement; one of two is no majority.
    F2. What is confirmed stays so. If a majority's chain does not contain the newest confirmed
        block, a reorganisation went deeper than the confirmations: that is `DeepReorganisation`,
        and nothing is confirmed until a majority has that block again.
    F3. Endpoints that differ while there is no majority are a `Disagreement`, which ends when they
        agree. Where there is a majority, those outvoted are named and go on being asked.

Pure: `follower` asks the endpoints and stores what is confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from omninode.contracts.branch import Anchor, AskStretch, Branch, Stretch
from omninode.contracts.limits import (
    STRETCH_BLOCKS_MAX,
    STRETCH_WIDENED_BLOCKS,
    TIP_BLOCKS,
)
from omninode.contracts.wire import Log


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing new is confirmed, and nobody contradicts anybody."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A majority tells the same of the next blocks (F1).

    Attributes:
        stretch: What they tell.
        outvoted: Places of endpoints that tell otherwise.
    """

    stretch: Stretch
    outvoted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Endpoints differ and there is no majority (F3).

    Attributes:
        number: The first block of which they differ.
        sides: Places of the endpoints, by what they tell.
    """

    number: int
    sides: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class DeepReorganisation:
    """The newest confirmed block is not in a majority's chain (F2)."""

    anchor: Anchor


Verdict: TypeAlias = Waiting | Agreed | Disagreement | DeepReorganisation

_WAITING: Final = Waiting()


class Following:
    """The branches of all endpoints above one base.

    Args:
        endpoints: How many are configured.
        base: The newest confirmed block.
        confirmations: Blocks above one that confirm it.

    Attributes:
        base: The newest confirmed block.
        branches: One for each endpoint.
    """

    def __init__(self, endpoints: int, base: Anchor, confirmations: int) -> None:
        self.base = base
        self.branches: Final = [Branch(base, confirmations) for _ in range(endpoints)]
        self._wanted: AskStretch | None = None
        self._stretch_blocks = STRETCH_BLOCKS_MAX

    @property
    def majority(self) -> int:
        """How many endpoints make a strict majority."""
        return len(self.branches) // 2 + 1

    def wanted(self) -> AskStretch | None:
        """Return the stretch that endpoints shall tell, while the base is far below their heads.

        It stays the same until it is confirmed: endpoints agree on equal stretches only.
        """
        heights = [b.confirmed_height for b in self.branches if b.confirmed_height is not None]
        if len(heights) < self.majority:
            return self._wanted
        agreed = sorted(heights, reverse=True)[self.majority - 1]
        wanted, first = self._wanted, self.base.number + 1
        if wanted is not None and wanted.first == first and wanted.last <= agreed:
            return wanted
        if agreed - self.base.number <= TIP_BLOCKS:
            self._wanted = None
        else:
            self._wanted = AskStretch(first, min(self.base.number + self._stretch_blocks, agreed))
        return self._wanted

    def narrow(self, stretch: AskStretch) -> None:
        """Want less at once: an endpoint has more logs in this stretch than anybody takes."""
        if stretch == self._wanted:
            self._stretch_blocks = (stretch.last - stretch.first + 2) // 2
            self._wanted = None

    def decide(self) -> Verdict:
        """Judge what the endpoints tell now."""
        strangers = tuple(i for i, branch in enumerate(self.branches) if branch.contradicts)
        if len(strangers) >= self.majority:
            return DeepReorganisation(self.base)
        wanted = self.wanted()
        sides: dict[Stretch, list[int]] = {}
        open_minds = 0
        for place, branch in enumerate(self.branches):
            if place in strangers:
                continue
            offer = branch.offer(wanted)
            if offer is not None:
                sides.setdefault(offer, []).append(place)
            elif not branch.is_away:
                open_minds += 1
        most = max(map(len, sides.values()), default=0)
        if most >= self.majority:
            stretch = next(stretch for stretch, places in sides.items() if len(places) == most)
            told = {place for places in sides.values() for place in places}
            outvoted = sorted(told.difference(sides[stretch]).union(strangers))
            return Agreed(stretch, tuple(outvoted))
        if most + open_minds < self.majority and (len(sides) > 1 or strangers):
            return self._disagreement(sides, strangers)
        return _WAITING

    def _disagreement(
        self, sides: dict[Stretch, list[int]], strangers: tuple[int, ...]
    ) -> Disagreement:
        groups = [tuple(places) for places in sides.values()]
        if strangers:
            groups.append(strangers)
        return Disagreement(self.base.number + 1, tuple(groups))

    def advance(self, stretch: Stretch) -> None:
        """Make agreed blocks the new base, once they are stored."""
        self.base = stretch.last
        self._wanted = None
        widened = self._stretch_blocks + STRETCH_WIDENED_BLOCKS
        self._stretch_blocks = min(widened, STRETCH_BLOCKS_MAX)
        for branch in self.branches:
            branch.rebase(stretch.last)

    def seen_logs(self) -> list[Log]:
        """Return the contract's logs in the unconfirmed blocks that a majority has linked."""
        counts: dict[bytes, int] = {}
        found: dict[bytes, tuple[Log, ...]] = {}
        for branch in self.branches:
            for header, logs in branch.linked:
                counts[header.hash] = counts.get(header.hash, 0) + 1
                found[header.hash] = logs
        common = (found[block] for block, count in counts.items() if count >= self.majority)
        return [log for logs in common for log in logs]
