"""The chain above the newest confirmed block, as one endpoint tells it.

Rules
    B1. Blocks count by hash: a block is linked when its parent is linked or is the base, the newest
        confirmed block. Blocks are asked for downwards from the head, by the parent's hash, so a
        reorganisation only replaces what is above the fork.
    B2. A linked block's logs are asked for by its hash, so they can not be of another block.
    B3. Far below the head there is no need for that: a stretch of blocks that are confirmed already
        is asked for by numbers, between two looks at its last block and at the base.
    B4. An endpoint whose chain does not contain the base contradicts it; that is not for this
        endpoint alone to decide (`following`).

Pure: says what to ask (`ask`) and is told the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from omninode.contracts.limits import STRANGE_BLOCKS_MAX, TIP_BLOCKS
from omninode.contracts.wire import Header, Log
from omninode.errors import Malformed

UNKNOWN_HASH: Final = b""
"""The hash of the base before the first block is confirmed; any parent fits it."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A block by number and hash."""

    number: int
    hash: bytes

    def is_parent_of(self, header: Header) -> bool:
        """Whether a block may follow this one."""
        linked = self.hash in (UNKNOWN_HASH, header.parent_hash)
        return linked and header.number == self.number + 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """Confirmed blocks from `first` to `last` with the contract's logs in them.

    One endpoint's word; endpoints agree if all of it is equal.
    """

    first: int
    parent_hash: bytes
    last: Anchor
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class AskNumber:
    """Ask for the block at a height."""

    number: int


@dataclass(frozen=True, slots=True)
class AskHash:
    """Ask for the block with a hash."""

    hash: bytes


@dataclass(frozen=True, slots=True)
class AskLogs:
    """Ask for the logs of one block, by its hash."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class AskStretch:
    """Ask for a stretch of blocks (B3)."""

    first: int
    last: int


Question: TypeAlias = AskNumber | AskHash | AskLogs | AskStretch


@dataclass(slots=True)
class _Linked:
    header: Header
    logs: tuple[Log, ...] | None = None


class Branch:
    """One endpoint's blocks above the base.

    Args:
        base: The newest confirmed block.
        confirmations: Blocks above one that confirm it.

    Attributes:
        head: The newest block the endpoint told of, if it told any.
        contradicts: Whether the endpoint's chain does not contain the base (B4).
        is_away: Whether it does not answer now; what it told before still counts.
    """

    def __init__(self, base: Anchor, confirmations: int) -> None:
        self.head: Header | None = None
        self.contradicts = False
        self.is_away = True
        self._base = base
        self._confirmations = confirmations
        self._reach = confirmations + 2 * TIP_BLOCKS
        self._linked: list[_Linked] = []
        self._loose: list[Header] = []
        self._wants_top = False
        self._strange: dict[bytes, int] = {}
        self._stretch: Stretch | None = None

    @property
    def linked(self) -> list[tuple[Header, tuple[Log, ...]]]:
        """The linked blocks whose logs are known, lowest first."""
        return [(block.header, block.logs) for block in self._linked if block.logs is not None]

    @property
    def is_linked(self) -> bool:
        """Whether the endpoint has shown blocks on top of the base."""
        return bool(self._linked) or self._stretch is not None

    @property
    def confirmed_height(self) -> int | None:
        """The highest block that this endpoint's head confirms."""
        return None if self.head is None else self.head.number - self._confirmations

    # --- What the endpoint says ------------------------------------------------------------------

    def saw_head(self, header: Header) -> None:
        """Take the endpoint's newest block."""
        self.head = header
        self._loose = []
        self._wants_top = False
        if header.number <= self._base.number + self._reach:
            self._saw_top(header)
        else:
            # The head is far away: a block in reach, by number, confirms the next ones as well.
            self._wants_top = True

    def saw_block(self, header: Header) -> None:
        """Take the answer to `AskNumber` or `AskHash`.

        Raises:
            Malformed: It is not the block below the lowest loose one.
        """
        if self._wants_top:
            if header.number != self._base.number + self._reach:
                raise Malformed(f"block {header.number} is not the one that was asked for")
            self._wants_top = False
            self._saw_top(header)
            return
        if not self._loose:
            return
        child = self._loose[-1]
        if header.hash != child.parent_hash or header.number != child.number - 1:
            raise Malformed(f"block {header.number} is not the parent of block {child.number}")
        self._loose.append(header)
        self._link()

    def saw_logs(self, question: AskLogs, logs: tuple[Log, ...]) -> None:
        """Take the answer to `AskLogs`.

        Raises:
            Malformed: A log is of another block.
        """
        if any(log.block_hash != question.hash for log in logs):
            raise Malformed(f"a log of another block than block {question.number}")
        for block in self._linked:
            if block.header.hash == question.hash:
                block.logs = logs

    def saw_stretch(
        self, question: AskStretch, *, parent_hash: bytes, last_hash: bytes, logs: tuple[Log, ...]
    ) -> None:
        """Take the answer to `AskStretch`.

        Args:
            question: What was asked.
            parent_hash: Hash of the block below the first, asked after the logs.
            last_hash: Hash of the last block, equal before and after.
            logs: The contract's logs between.

        Raises:
            Malformed: A log of the last block is of another one at that height.
        """
        last = Anchor(question.last, last_hash)
        if any(log.block_number == last.number and log.block_hash != last_hash for log in logs):
            raise Malformed(f"a log of another block than block {last.number}")
        if question.first != self._base.number + 1:
            return
        if self._base.hash not in (UNKNOWN_HASH, parent_hash):
            self._contradict(())
            return
        self._stretch = Stretch(question.first, parent_hash, last, logs)
        self.contradicts = False

    # --- What to ask, what to offer --------------------------------------------------------------

    def ask(self, wanted: AskStretch | None) -> Question | None:
        """Return what to ask the endpoint next, or nothing.

        Args:
            wanted: The stretch that all endpoints shall tell, while catching up.
        """
        if wanted is not None:
            confirmed = self.confirmed_height
            if confirmed is None or confirmed < wanted.last or self._tells(wanted):
                return None
            return wanted
        if self._wants_top:
            return AskNumber(self._base.number + self._reach)
        if self._loose:
            return AskHash(self._loose[-1].parent_hash)
        for block in self._linked:
            if block.logs is None:
                return AskLogs(block.header.number, block.header.hash)
        return None

    def offer(self, wanted: AskStretch | None) -> Stretch | None:
        """Return what this endpoint says the next confirmed blocks are, if it does."""
        if wanted is not None:
            return self._stretch if self._tells(wanted) else None
        if not self._linked or self._linked[0].logs is None:
            return None
        header, logs = self._linked[0].header, self._linked[0].logs
        if self._top_number() - header.number < self._confirmations:
            return None
        last = Anchor(header.number, header.hash)
        return Stretch(header.number, header.parent_hash, last, logs)

    def rebase(self, base: Anchor) -> None:
        """Go on above a block that was confirmed; the next head shows whether this chain has it."""
        place = base.number - self._base.number - 1
        is_linked = place < len(self._linked) and self._linked[place].header.hash == base.hash
        # Blocks beside the base may be old; whether this endpoint has the base shows at its head.
        self._linked = self._linked[place + 1 :] if is_linked else []
        self._base = base
        self._forget()

    def doubt(self) -> None:
        """Ask again what is offered: others tell otherwise."""
        self._stretch = None
        if self._linked:
            self._linked[0].logs = None

    def drop_loose(self) -> None:
        """Forget the unfinished walk: a block it needs has vanished; the next head begins anew."""
        self._loose = []
        self._wants_top = False

    def _forget(self) -> None:
        self._loose = []
        self._wants_top = False
        self._stretch = None

    def _tells(self, wanted: AskStretch) -> bool:
        stretch = self._stretch
        return stretch is not None and (stretch.first, stretch.last.number) == (
            wanted.first,
            wanted.last,
        )

    # --- Linking (B1) ----------------------------------------------------------------------------

    def _top_number(self) -> int:
        return self._linked[-1].header.number if self._linked else self._base.number

    def _saw_top(self, header: Header) -> None:
        base = self._base
        if header.number <= base.number:
            if header.number == base.number:
                self.contradicts = base.hash not in (UNKNOWN_HASH, header.hash)
            self._linked = []
            return
        self._loose = [header]
        self._link()

    def _link(self) -> None:
        """Join the loose blocks to the linked ones or the base, if they have come down to them."""
        lowest = self._loose[-1]
        place = lowest.number - self._base.number - 1
        if place < len(self._linked) and self._linked[place].header.hash == lowest.hash:
            self._join(place + 1, self._loose[:-1])
        elif lowest.parent_hash in self._strange:
            self._contradict(tuple(self._loose))
        elif place == 0:
            if self._base.is_parent_of(lowest):
                self._join(0, self._loose)
            else:
                self._contradict(tuple(self._loose))
        elif place <= len(self._linked):
            parent = self._linked[place - 1].header
            if parent.hash == lowest.parent_hash:
                self._join(place, self._loose)

    def _join(self, place: int, loose: list[Header]) -> None:
        self._linked[place:] = [_Linked(header) for header in reversed(loose)]
        self._loose = []
        self.contradicts = False

    def _contradict(self, headers: tuple[Header, ...]) -> None:
        self.contradicts = True
        self._linked = []
        self._forget()
        self._strange.update((header.hash, header.number) for header in headers)
        while len(self._strange) > STRANGE_BLOCKS_MAX:
            del self._strange[next(iter(self._strange))]
