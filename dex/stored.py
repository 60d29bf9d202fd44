"""The structs behind state records, apart from `events.OrderRecord`, which is one too.

They stand in a module of their own since mypyc drops a class's keyword arguments (`array_like`):
a module that declares msgspec structs is never compiled.
"""

from __future__ import annotations

import msgspec


class MarketRecord(msgspec.Struct, frozen=True, array_like=True):
    """A market's counters and last price in ticks."""

    sequence: int
    trades: int
    last_price: int


class NonceRecord(msgspec.Struct, frozen=True, array_like=True):
    """What one block used: its time and `account | signer | nonce` of each transaction."""

    time_ms: int
    used: tuple[bytes, ...]


class ClientIdRecord(msgspec.Struct, frozen=True, array_like=True):
    """One block's uses (account key, client id) and tombstones (account key, client id, nonce)."""

    time_ms: int
    used: tuple[tuple[bytes, str], ...]
    tombstones: tuple[tuple[bytes, str, int], ...]


class AgentRecord(msgspec.Struct, frozen=True, array_like=True):
    """One approval of a session key: what it may do, and until which block time."""

    name: str
    permissions: tuple[str, ...]
    expires_ms: int


class HeadRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where the state is."""

    height: int
    time_ms: int
    app_hash: bytes
