"""What we executed, and what finalized headers say about it.

Rules (PROTOCOL.md P3, P5)
    X1. A header names the newest block that its leader had executed; a voter needs the same app
        hash there.
    X2. A *final* header with another app hash than ours means that our state is not the network's:
        halt.
"""

from __future__ import annotations

from dataclasses import dataclass

from omninode.consensus.types import Header
from omninode.errors import BrokenInvariant


@dataclass(frozen=True, slots=True)
class Divergence:
    """Our app hash at `height` is not the one of a final header (X2)."""

    height: int
    expected: bytes
    ours: bytes


class Executed:
    """App hashes of executed blocks, from the oldest that a valid header can still name."""

    def __init__(self, app_hashes: dict[int, bytes], *, final_view: int) -> None:
        self.height = max(app_hashes)
        self._hashes = app_hashes
        self._expected: dict[int, bytes] = {}
        self._final_views = {self.height: final_view}

    def hash_at(self, height: int) -> bytes | None:
        """Return our app hash at a height; `None` if it is not executed yet or too old."""
        return self._hashes.get(height)

    def since(self, height: int) -> tuple[tuple[int, bytes], ...]:
        """Return the app hashes from a height on."""
        return tuple((at, h) for at, h in sorted(self._hashes.items()) if at >= height)

    @property
    def newest_hash(self) -> bytes:
        """Our newest app hash."""
        return self._hashes[self.height]

    @property
    def final_view(self) -> int:
        """The view of the certificate that made the newest executed block final."""
        return self._final_views.get(self.height, 0)

    def executed(self, height: int, app_hash: bytes) -> Divergence | None:
        """Note an executed block; blocks come in height order."""
        if height != self.height + 1 or height not in self._final_views:
            raise BrokenInvariant(f"executed {height} after {self.height}, not final or not next")
        self._final_views.pop(self.height, None)
        self.height = height
        self._hashes[height] = app_hash
        expected = self._expected.pop(height, app_hash)
        if expected != app_hash:
            return Divergence(height, expected, app_hash)
        return None

    def finalized(self, header: Header, final_view: int) -> Divergence | None:
        """Note a final header, in height order, and judge what it says (X2)."""
        self._final_views[header.height] = final_view
        ours = self._hashes.get(header.executed_height)
        if ours is None:
            if header.executed_height > self.height:
                self._expected[header.executed_height] = header.app_hash
        elif ours != header.app_hash:
            return Divergence(header.executed_height, header.app_hash, ours)
        for height in range(min(self._hashes), min(header.executed_height, self.height)):
            self._hashes.pop(height, None)
        return None
