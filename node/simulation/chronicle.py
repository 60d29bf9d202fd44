"""What happened in a schedule: hashed always, told in words if somebody listens.

The hash covers each event in order: when, at which node, what, and the view that the node was in;
and what became final. It holds nothing that depends on the machine, the process or the wording.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final

from omninode.consensus import messages as msg

Tell = Callable[[str], None]

_BATCH: Final = 32_768
"""Numbers gathered before they are hashed."""

MESSAGES: Final[tuple[type, ...]] = (
    msg.VoteMessage,
    msg.CertificateMessage,
    msg.ProposalMessage,
    msg.NeedMessage,
    msg.MemoryRequest,
    msg.MemoryAnswer,
)
_OTHER: Final = "other"
_NAMES: Final = ("timer", "feed", "synced", "fetch", "body", "sync", "build", "pending", "execute")
_ALL: Final[tuple[str | type, ...]] = (*MESSAGES, _OTHER, *_NAMES, "commit", "die", "world")
_KINDS: Final = {kind: code for code, kind in enumerate(_ALL)}


class Chronicle:
    """One schedule's log."""

    def __init__(self, tell: Tell | None) -> None:
        self.tells = tell is not None
        self._tell = tell
        self._hash = hashlib.sha256()
        self._numbers: list[int] = []

    def event(self, at_ms: int, place: int, kind: str | type, view: int) -> None:
        """Note an event; `kind` is a name or the type of a message."""
        numbers = self._numbers
        numbers += (at_ms, place, _KINDS.get(kind, _KINDS[_OTHER]), view)
        if len(numbers) >= _BATCH:
            self._flush()

    def fact(self, what: bytes) -> None:
        """Note something that must be the same in every run, in its place among the events."""
        self._flush()
        self._hash.update(what)

    def tell(self, text: str) -> None:
        """Say something to whoever listens."""
        if self._tell is not None:
            self._tell(text)

    def hexdigest(self) -> str:
        """Return the hash so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(struct.pack(f"<{len(self._numbers)}q", *self._numbers))
        self._numbers.clear()
