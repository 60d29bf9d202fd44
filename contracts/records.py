"""What is kept on disk of the settlement chain, in the database's column for it.

| key after the column | value |
| --- | --- |
| `p` | `StoredProgress`: the newest confirmed block and what the contract's events add up to |
| `a` block number(8) | hash of a confirmed block, the newest `ANCHORS_KEPT` |
| `d` index(8) | `StoredDeposit`: a deposit, or an entry of stake |
| `c` index(8) | empty: this withdrawal was paid out |
| `h` | why the node halted, while it does |
| `s` | `StoredSend`: the transaction of our own that is not settled yet |

`omninode reset` removes all of it: the chain has it, and sending again has no second effect.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omninode.dex.bridge.deposits import LogEntry

PROGRESS: Final = b"p"
ANCHOR: Final = b"a"
DEPOSIT: Final = b"d"
CLAIMED: Final = b"c"
HALT: Final = b"h"
SEND: Final = b"s"

NUMBER_BYTES: Final = 8
RECORD_BYTES_MAX: Final = 1 << 22


class StoredProgress(msgspec.Struct, frozen=True, array_like=True):
    """How far the chain is confirmed; `contract` and `chain_id` say which one this is."""

    chain_id: int
    contract: bytes
    number: int
    hash: bytes
    deposit_count: int
    deposit_hash: bytes
    checkpoint: int
    epoch: int = 0


class StoredDeposit(msgspec.Struct, frozen=True, array_like=True):
    """A confirmed deposit, the rolling hash after it, and where it is on the chain."""

    deposit: LogEntry
    hash: bytes
    block_number: int
    transaction_hash: bytes


class StoredSend(msgspec.Struct, frozen=True, array_like=True):
    """Transactions of one nonce, of which the chain takes one; written before any is sent.

    `name` is what it brings; `raws` are the signed bytes, the newest last, each with a higher fee
    than those before.
    """

    nonce: int
    name: str
    raws: tuple[bytes, ...]
    max_fee: bytes
    tip: bytes


def number_key(kind: bytes, number: int) -> bytes:
    """Return the key of a record that is found by a number."""
    return kind + number.to_bytes(NUMBER_BYTES, "big")
