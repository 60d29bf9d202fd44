"""What goes into the exchange for one block, and what comes out of it.

Results are canonical records (hashed, stored, shown); `BlockOutcome` itself is only handed over in
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from omninode.consensus.types import Block, ValidatorSet, VotesSeen
from omninode.crypto import ZERO_HASH
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
    """One finalized block: `seed` ranks the accounts (P4), `transactions` come in body order.

    The rest is what participation and epochs count by: where the block stands in its epoch, who
    led it, whose votes it shows, the beacon value after it, and whether it `seals` its epoch (P6).
    """

    height: int
    time_ms: int
    seed: bytes
    transactions: Sequence[Transaction]
    epoch: int = 0
    view: int = 0
    parent_view: int = 0
    proposer: int = 0
    executed_height: int = 0
    votes_seen: tuple[VotesSeen, ...] = ()
    beacon: bytes = ZERO_HASH
    seals: bool = False


def block_input(block: Block, transactions: Sequence[Transaction]) -> BlockInput:
    """Turn a final block with its checked transactions into what the exchange executes."""
    header = block.header
    return BlockInput(
        header.height,
        header.time_ms,
        header.beacon if header.beacon_proof else header.parent_hash,
        transactions,
        epoch=header.epoch,
        view=header.view,
        parent_view=header.parent_view,
        proposer=header.proposer,
        executed_height=header.executed_height,
        votes_seen=block.votes_seen,
        beacon=header.beacon,
        seals=header.seal is not None,
    )


@dataclass(frozen=True, slots=True)
class EpochCut:
    """What the cut of an epoch decided (PROTOCOL.md P6): the next set, and the state's root."""

    height: int
    state_root: bytes
    validators: ValidatorSet


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """What a block did: `results` in body order, state records to put (or delete: `None`).

    `cut` is set by the block that ends what its epoch's next set is made from.
    """

    height: int
    app_hash: bytes
    parts: HashParts
    results: tuple[TransactionResult, ...]
    events: tuple[Event, ...]
    writes: dict[bytes, bytes | None]
    cut: EpochCut | None = None
