"""What goes into the exchange for one block, and what comes out of it.

Results are canonical records (hashed, stored, shown); `BlockOutcome` itself is only handed over in
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from omninode.dex.events import Event

if TYPE_CHECKING:
    from omninode.dex.transaction import Transaction

OK: Final = "ok"
REJECTED: Final = "rejected"
IGNORED: Final = "ignored"


class ItemResult(msgspec.Struct, frozen=True, array_like=True):
    """What became of one order, cancel or replacement of a transaction.

    `status` is `open`, `partially_filled`, `filled`, `cancelled` or `rejected` (with `reason`), and
    `done` for actions that are not about an order. `filled` is in lots; `notional` (ticks x lots)
    and `fees` (base units of the quote asset) are 16 bytes each.
    """

    status: str
    reason: str = ""
    order_id: bytes = b""
    client_id: str = ""
    market: str = ""
    filled: int = 0
    notional: bytes = b""
    fees: bytes = b""


class TransactionResult(msgspec.Struct, frozen=True, array_like=True):
    """What became of one included transaction.

    `code` is `ok`, `rejected` (judged and refused: nothing changed but the nonce) or `ignored`
    (`nonce_used`, `nonce_out_of_window`: this inclusion had no effect and is not the transaction's
    result; an earlier or later one is). A batch is `ok` when it was judged; its items say the rest.
    """

    hash: bytes
    code: str
    reason: str = ""
    items: tuple[ItemResult, ...] = ()


class HashParts(msgspec.Struct, frozen=True, array_like=True):
    """What an app hash is made of (PROTOCOL.md P5), so that a divergence names its module."""

    results_hash: bytes
    modules: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class BlockInput:
    """One finalized block: `seed` ranks the accounts (P4), `transactions` come in body order."""

    height: int
    time_ms: int
    seed: bytes
    transactions: Sequence[Transaction]


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """What a block did: `results` in body order, state records to put (or delete: `None`)."""

    height: int
    app_hash: bytes
    parts: HashParts
    results: tuple[TransactionResult, ...]
    events: tuple[Event, ...]
    writes: dict[bytes, bytes | None]
