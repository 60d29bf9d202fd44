"""What the settlement part needs of the rest of the node; `node/runtime.py` supplies it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class Call(NamedTuple):
    """A call of an endpoint that ended, for metrics; `outcome` is `ok`, `error` or `failed`."""

    endpoint: str
    method: str
    outcome: str


class Store(Protocol):
    """The node's database (`storage.database.Database`)."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        ...

    def iterate(
        self, prefix: bytes, *, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the keys with a prefix, which is taken off."""
        ...

    async def write(self, batch: Sequence[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """Write a batch; `None` deletes."""
        ...


class Door(Protocol):
    """Takes this validator's own transactions (`node.admission.Admission`)."""

    async def submit(self, raw: bytes) -> bytes:
        """Return a transaction's hash once it is acknowledged.

        Raises:
            UserError: It is refused.
        """
        ...
