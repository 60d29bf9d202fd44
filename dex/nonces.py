"""Which nonces are used: the memory that makes every transaction count once (PROTOCOL.md P4).

Rules
    N1. A nonce is a millisecond timestamp within the window (genesis) around the block's time, both
        ends included, and is used once per (account, signer).
    N2. Used nonces are state: one record per block lists what it used. The record goes when the
        last nonce it could hold has left the window, two windows after its block.
    N3. They are kept by (account, signer), not with the agent's approval, and so outlive it.
"""

from __future__ import annotations

from collections import deque

from omninode.dex.stored import NonceRecord

NONCE_BYTES = 8


def nonce_key(account: bytes, signer: bytes, nonce: int) -> bytes:
    """Return what identifies a use (N1)."""
    return account + signer + nonce.to_bytes(NONCE_BYTES, "big")


class Nonces:
    """The used nonces inside the window; `changed` has this block's record and those it dropped."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self.changed: dict[int, NonceRecord | None] = {}
        self._used: set[bytes] = set()
        self._blocks: deque[tuple[int, NonceRecord]] = deque()
        self._new: list[bytes] = []

    def is_in_window(self, nonce: int, time_ms: int) -> bool:
        """Whether a nonce may be used at this block time (N1)."""
        return abs(nonce - time_ms) <= self.window_ms

    def is_used(self, account: bytes, signer: bytes, nonce: int) -> bool:
        """Whether this nonce was used; asks nothing about the window."""
        return nonce_key(account, signer, nonce) in self._used

    def use(self, key: bytes) -> bool:
        """Use a nonce by its `nonce_key`; False when it was used before."""
        if key in self._used:
            return False
        self._used.add(key)
        self._new.append(key)
        return True

    def begin_block(self, time_ms: int) -> None:
        """Drop what has left the window (N2)."""
        blocks = self._blocks
        while blocks and blocks[0][1].time_ms + 2 * self.window_ms < time_ms:
            height, record = blocks.popleft()
            self._used.difference_update(record.used)
            self.changed[height] = None

    def end_block(self, height: int, time_ms: int) -> None:
        """Make this block's record."""
        if self._new:
            record = NonceRecord(time_ms, tuple(self._new))
            self._new = []
            self._blocks.append((height, record))
            self.changed[height] = record

    def load(self, height: int, record: NonceRecord) -> None:
        """Take back a stored record; heights ascend."""
        self._used.update(record.used)
        self._blocks.append((height, record))

    def records(self) -> list[tuple[int, NonceRecord]]:
        """Return every block's record, oldest first."""
        return list(self._blocks)
