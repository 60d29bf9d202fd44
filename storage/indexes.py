"""The keys by which a block's content is found again; pure, and the same at commit and at pruning.

Rules
    I1. A transaction is found under its own result: an inclusion that was ignored points nowhere.
    I2. Everything is derived from what is stored of the block, so pruning finds every key again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from omninode.consensus.types import Header
from omninode.dex.events import Event, LevelChanged, OrderRejected, OrderUpdated, Trade
from omninode.dex.outcomes import IGNORED, TransactionResult
from omninode.encoding import encode
from omninode.errors import BrokenInvariant
from omninode.storage import keys
from omninode.storage.records import ClosedOrder, FillReference, StoredTrade

MAKER, TAKER = b"\x00", b"\x01"
_CLOSED_STATES = frozenset({"filled", "cancelled"})
_ACCOUNT_AT = slice(5, 25)
_ACCOUNT_HEAD = b"\xc4\x14"


def account_of(raw: bytes) -> bytes:
    """Return the account that a transaction acts for, from its signed bytes.

    The account is the third field of the array, behind two one-byte numbers.
    """
    if raw[3:5] != _ACCOUNT_HEAD:
        raise BrokenInvariant("a stored transaction does not name its account where it should")
    return raw[_ACCOUNT_AT]


def kept_events(events: Sequence[Event]) -> tuple[Event, ...]:
    """Return the events that are stored; price levels are for live streams only."""
    return tuple(event for event in events if not isinstance(event, LevelChanged))


def index_entries(
    header: Header,
    transactions: Sequence[bytes],
    results: Sequence[TransactionResult],
    events: Sequence[Event],
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the index entries of one block.

    Args:
        header: The block's.
        transactions: The bodies in the block's order.
        results: Their results, in the same order.
        events: What `kept_events` left.
    """
    height = header.height
    yield keys.BLOCK_HEIGHT + header.hash, keys.height_bytes(height)
    for index, (raw, result) in enumerate(zip(transactions, results, strict=True)):
        if result.code == IGNORED:  # I1
            continue
        place = keys.place_bytes(height, index)
        yield keys.TRANSACTION + result.hash, place
        yield keys.ACCOUNT_TRANSACTION + account_of(raw) + place, b""
    for index, event in enumerate(events):
        if isinstance(event, Trade):
            yield from _trade_entries(header, index, event)
        elif isinstance(event, OrderRejected):
            closed = ClosedOrder(height, header.time_ms, event)
            yield keys.CLOSED_ORDER + event.order_id, encode(closed)
        elif isinstance(event, OrderUpdated) and event.state in _CLOSED_STATES:
            closed = ClosedOrder(height, header.time_ms, event)
            yield keys.CLOSED_ORDER + event.order.order_id, encode(closed)


def _trade_entries(header: Header, index: int, trade: Trade) -> Iterator[tuple[bytes, bytes]]:
    stored = StoredTrade(header.height, header.time_ms, trade)
    yield keys.market_prefix(trade.market) + keys.height_bytes(trade.sequence), encode(stored)
    place = keys.place_bytes(header.height, index)
    reference = encode(FillReference(trade.market, trade.sequence))
    yield keys.ACCOUNT_FILL + trade.maker + place + MAKER, reference
    yield keys.ACCOUNT_FILL + trade.taker + place + TAKER, reference
