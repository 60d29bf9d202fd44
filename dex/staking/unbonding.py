"""Stake on its way back: parts that wait until their unbonding time is over, oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec


class Unbonding(msgspec.Struct, array_like=True):
    """One part of an owner's stake; `units` is 16 bytes at rest, so it is kept as such."""

    owner: bytes
    units: bytes
    release_ms: int

    @property
    def amount(self) -> int:
        """Base units."""
        return int.from_bytes(self.units, "big")


class Unbondings:
    """The queue, by number; parts never overtake each other since all wait equally long.

    Attributes:
        parts: By number, ascending.
        count: How many there were ever; the next one's number.
        changed: Numbers whose record changed since it was last taken.
    """

    def __init__(self) -> None:
        self.parts: Final[dict[int, Unbonding]] = {}
        self.count = 0
        self.changed: Final[set[int]] = set()

    def add(self, owner: bytes, amount: int, release_ms: int) -> None:
        """Let a part wait."""
        self.parts[self.count] = Unbonding(owner, amount.to_bytes(16, "big"), release_ms)
        self.changed.add(self.count)
        self.count += 1

    def due(self, time_ms: int) -> tuple[int, Unbonding] | None:
        """Return the oldest part if its time is over."""
        for number, part in self.parts.items():
            return (number, part) if part.release_ms <= time_ms else None
        return None

    def remove(self, number: int) -> None:
        """Forget a part that was paid out."""
        del self.parts[number]
        self.changed.add(number)

    def of(self, owner: bytes) -> list[int]:
        """Return the numbers of an owner's parts, oldest first."""
        return [number for number, part in self.parts.items() if part.owner == owner]

    def take(self, owner: bytes, amount: int) -> None:
        """Take an amount from an owner's parts, the newest first; they hold at least that."""
        for number in reversed(self.of(owner)):
            if not amount:
                return
            part = self.parts[number]
            taken = min(amount, part.amount)
            amount -= taken
            if taken == part.amount:
                self.remove(number)
            else:
                part.units = (part.amount - taken).to_bytes(16, "big")
                self.changed.add(number)
        assert not amount

    def load(self, parts: Iterable[tuple[int, Unbonding]], count: int) -> None:
        """Take back the stored queue."""
        self.parts.update(sorted(parts))
        self.count = count
