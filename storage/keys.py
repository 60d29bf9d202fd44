"""Every key of the database: one byte names the column, the rest is fixed-width and big-endian.

| column | key after the first byte | value |
| --- | --- | --- |
| `M` meta | name | canonical integer or bytes: `format`, `genesis`, `first` (lowest block kept) |
| `H` head | – | `StoredHead` |
| `B` block | height(8) | `Block` |
| `b` height of a block | block hash(32) | height(8) |
| `T` bodies | height(8) | the block's transactions in body order; none for an empty block |
| `R` results | height(8) | their `TransactionResult`s; none for an empty block |
| `E` events | height(8) | the block's `Event`s without levels, if any |
| `P` parts | height(8) | `StoredParts`: app hash and what it is made of |
| `C` certificate | height(8) | the `Certificate` that finalizes this very block, if any |
| `t` transaction place | transaction hash(32) | height(8), index(4) |
| `S` state | as the exchange names it | as the exchange encodes it |
| `J` journal | transaction hash(32) | `JournalEntry` |
| `m` trades of a market | length(1), market, sequence(8) | `StoredTrade` |
| `f` fills of an account | account(20), height(8), event(4), role(1) | `FillReference` |
| `o` closed or rejected order | order id(32) | `ClosedOrder` |
| `a` transactions of an account | account(20), height(8), index(4) | empty |
| `d` deposits of an account | account(20), index(8) | `StoredDeposit` |
| `w` withdrawal | index(8) | `StoredWithdrawal` |
| `v` withdrawals of an account | account(20), index(8) | empty |
| `n` withdrawal tree | level(1), index(8) | the root of that full subtree |
| `k` certified checkpoint | its height(8) | `StoredCheckpoint` |
| `K` height of a checkpoint | its number(8) | its height(8) |
| `c` cut of an epoch | epoch(8) | its `StoredCut`; kept for ever |
| `p` end of an epoch | epoch(8) | its `EpochProof`; kept for ever |
| `e` settlement chain | as `contracts.records` names it | what was confirmed and sent there |
"""

from __future__ import annotations

from typing import Final

META: Final = b"M"
HEAD: Final = b"H"
BLOCK: Final = b"B"
BLOCK_HEIGHT: Final = b"b"
BODIES: Final = b"T"
RESULTS: Final = b"R"
EVENTS: Final = b"E"
PARTS: Final = b"P"
CERTIFICATE: Final = b"C"
TRANSACTION: Final = b"t"
STATE: Final = b"S"
JOURNAL: Final = b"J"
MARKET_TRADE: Final = b"m"
ACCOUNT_FILL: Final = b"f"
CLOSED_ORDER: Final = b"o"
ACCOUNT_TRANSACTION: Final = b"a"
ACCOUNT_DEPOSIT: Final = b"d"
WITHDRAWAL: Final = b"w"
ACCOUNT_WITHDRAWAL: Final = b"v"
WITHDRAWAL_NODE: Final = b"n"
CHECKPOINT: Final = b"k"
CHECKPOINT_HEIGHT: Final = b"K"
EPOCH_CUT: Final = b"c"
EPOCH_PROOF: Final = b"p"
SETTLEMENT: Final = b"e"

META_FORMAT: Final = META + b"format"
META_GENESIS: Final = META + b"genesis"
META_FIRST: Final = META + b"first"

HEIGHT_BYTES: Final = 8
INDEX_BYTES: Final = 4


def height_bytes(height: int) -> bytes:
    """Return a height (or any other count) as it sorts in keys."""
    return height.to_bytes(HEIGHT_BYTES, "big")


def index_bytes(index: int) -> bytes:
    """Return an index within a block as it sorts in keys."""
    return index.to_bytes(INDEX_BYTES, "big")


def place_bytes(height: int, index: int) -> bytes:
    """Return a place in the chain as it sorts in keys."""
    return height_bytes(height) + index_bytes(index)


def read_place(data: bytes) -> tuple[int, int]:
    """Return height and index of what `place_bytes` made."""
    return (
        int.from_bytes(data[:HEIGHT_BYTES], "big"),
        int.from_bytes(data[HEIGHT_BYTES : HEIGHT_BYTES + INDEX_BYTES], "big"),
    )


def market_prefix(market: str) -> bytes:
    """Return what the keys of a market's trades begin with."""
    name = market.encode()
    return MARKET_TRADE + bytes((len(name),)) + name


def node_key(level: int, index: int) -> bytes:
    """Return the key of a node of the withdrawal tree."""
    return WITHDRAWAL_NODE + bytes((level,)) + height_bytes(index)
