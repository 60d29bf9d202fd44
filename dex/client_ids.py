"""The memory of client ids: no reuse within the window, and cancels that came before their order.

Rules
    I1. A client id is unique among a subaccount's open orders and among all that it used within two
        nonce windows before: as long as the first transaction with that id could still be included,
        and so a repeated request can not buy twice.
    I2. A cancel by a client id that names nothing leaves a tombstone for as long (PROTOCOL.md P4):
        an order with that id and a nonce not above the cancel's is cancelled when it arrives.
    I3. Both are state, kept as one record per block like nonces.
"""

from __future__ import annotations

from collections import deque

from omninode.dex.stored import ClientIdRecord


class ClientIds:
    """What was used and buried within the window; `changed` is as in `nonces.Nonces`."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self.changed: dict[int, ClientIdRecord | None] = {}
        self._used: set[tuple[bytes, str]] = set()
        self._tombstones: dict[tuple[bytes, str], int] = {}
        self._blocks: deque[tuple[int, ClientIdRecord]] = deque()
        self._new_used: list[tuple[bytes, str]] = []
        self._new_tombstones: list[tuple[bytes, str, int]] = []

    def is_used(self, account_key: bytes, client_id: str) -> bool:
        """Whether an order of this subaccount had this id within the window (I1)."""
        return (account_key, client_id) in self._used

    def is_buried(self, account_key: bytes, client_id: str, nonce: int) -> bool:
        """Whether a cancel came before the order with this id and nonce (I2)."""
        return self._tombstones.get((account_key, client_id), -1) >= nonce

    def use(self, account_key: bytes, client_id: str) -> None:
        """Note that an order took this id."""
        self._used.add((account_key, client_id))
        self._new_used.append((account_key, client_id))

    def bury(self, account_key: bytes, client_id: str, nonce: int) -> None:
        """Note a cancel that found no order."""
        key = (account_key, client_id)
        self._tombstones[key] = max(nonce, self._tombstones.get(key, -1))
        self._new_tombstones.append((account_key, client_id, nonce))

    def begin_block(self, time_ms: int) -> None:
        """Drop what has left the window."""
        blocks = self._blocks
        while blocks and blocks[0][1].time_ms + 2 * self.window_ms < time_ms:
            height, record = blocks.popleft()
            self._used.difference_update(record.used)
            for account_key, client_id, nonce in record.tombstones:
                if self._tombstones.get((account_key, client_id)) == nonce:
                    del self._tombstones[account_key, client_id]
            self.changed[height] = None

    def end_block(self, height: int, time_ms: int) -> None:
        """Make this block's record."""
        if self._new_used or self._new_tombstones:
            record = ClientIdRecord(time_ms, tuple(self._new_used), tuple(self._new_tombstones))
            self._new_used, self._new_tombstones = [], []
            self._blocks.append((height, record))
            self.changed[height] = record

    def load(self, height: int, record: ClientIdRecord) -> None:
        """Take back a stored record; heights ascend."""
        self._used.update(record.used)
        for account_key, client_id, nonce in record.tombstones:
            key = (account_key, client_id)
            self._tombstones[key] = max(nonce, self._tombstones.get(key, -1))
        self._blocks.append((height, record))

    def records(self) -> list[tuple[int, ClientIdRecord]]:
        """Return every block's record, oldest first."""
        return list(self._blocks)
