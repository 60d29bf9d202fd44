"""The dev chain's LevelDB folder: ordered keys, and one synced batch for all that belongs together.

Key spaces, by first byte
    s  node of a state tree or code of a contract, by hash
    b  block by hash: `records.BlockRecord`
    n  hash of the block of a height on the main chain
    l  block of a height on the main chain that holds logs: hash, then bloom filter
    t  place of a transaction on the main chain: hash of the block, then index
    p  acknowledged transaction that waits, by hash: arrival, then the transaction
    m  what the chain is, and its newest block
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import plyvel
from eth.db.backends.base import BaseDB
from typing_extensions import override

from omninode.contracts.devchain.limits import (
    OPEN_FILES_MAX,
    READ_CACHE_BYTES,
    WRITE_BUFFER_BYTES,
)
from omninode.errors import StorageFault

_BLOOM_BITS: Final = 10

Changes = dict[bytes, bytes | None]
"""Keys with their new values; `None` deletes."""


def state_key(key: bytes) -> bytes:
    """Return where a node of a state tree is kept."""
    return b"s" + key


def block_key(block_hash: bytes) -> bytes:
    """Return where a block is kept."""
    return b"b" + block_hash


def number_key(number: int) -> bytes:
    """Return where the hash of the main chain's block of a height is kept."""
    return b"n" + number.to_bytes(8)


def logs_key(number: int) -> bytes:
    """Return where the bloom filter of the main chain's block of a height is kept."""
    return b"l" + number.to_bytes(8)


def place_key(transaction_hash: bytes) -> bytes:
    """Return where the place of a transaction on the main chain is kept."""
    return b"t" + transaction_hash


def waiting_key(transaction_hash: bytes) -> bytes:
    """Return where a waiting transaction is kept."""
    return b"p" + transaction_hash


HEAD_KEY: Final = b"m/head"
GENESIS_KEY: Final = b"m/genesis"


class Store:
    """An open folder; LevelDB's lock on it lets one process in.

    Reads may come from any thread; they see whole batches only.
    """

    def __init__(self, path: Path, level: plyvel.DB) -> None:
        self._path = path
        self._level = level

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder, making it if missing.

        Raises:
            StorageFault: It is in use, damaged, or can not be read or written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            level = plyvel.DB(
                str(path),
                create_if_missing=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                max_open_files=OPEN_FILES_MAX,
                lru_cache_size=READ_CACHE_BYTES,
                bloom_filter_bits=_BLOOM_BITS,
            )
        except (plyvel.Error, OSError) as error:
            raise StorageFault(
                f"the dev chain's database {path} can not be opened: {error}. Is another process "
                "using it? Stop that one first"
            ) from error
        return cls(path, level)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key.

        Raises:
            StorageFault: The disk failed or the database is damaged.
        """
        try:
            value: bytes | None = self._level.get(key)
        except (plyvel.Error, OSError) as error:
            raise self._fault(error) from error
        return value

    def between(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and values from `start` up to and with `stop`, as they are now.

        Raises:
            StorageFault: The disk failed or the database is damaged.
        """
        try:
            yield from self._level.iterator(start=start, stop=stop, include_stop=True)
        except (plyvel.Error, OSError) as error:
            raise self._fault(error) from error

    def write(self, changes: Changes) -> None:
        """Apply all changes or none, and return when they are durable.

        Raises:
            StorageFault: The disk failed or is full.
        """
        try:
            with self._level.write_batch(sync=True) as batch:
                for key, value in changes.items():
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
        except (plyvel.Error, OSError) as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Close the folder; a second call does nothing."""
        self._level.close()

    def _fault(self, error: Exception) -> StorageFault:
        return StorageFault(f"the dev chain's database {self._path} failed: {error}")


class StateNodes(BaseDB):
    """State trees as py-evm wants them; what it writes waits in memory until it is taken.

    So a block's nodes reach the disk in one batch with the block, or not at all.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[bytes, bytes] = {}

    def take(self) -> Changes:
        """Return what was written, to be put into a batch, and forget it."""
        changes: Changes = {state_key(key): value for key, value in self._written.items()}
        self._written = {}
        return changes

    @override
    def __getitem__(self, key: bytes) -> bytes:
        value = self._written.get(key)
        if value is None:
            value = self._store.get(state_key(key))
        if value is None:
            raise KeyError(key)
        return value

    @override
    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._written[key] = bytes(value)

    @override
    def __delitem__(self, key: bytes) -> None:
        """Do nothing: keys are hashes of their values, and older states stay readable."""

    def _exists(self, key: bytes) -> bool:
        return key in self._written or self._store.get(state_key(key)) is not None
