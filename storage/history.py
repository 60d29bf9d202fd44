"""What happened, newest first: trades, fills, transactions, and how orders ended.

What is kept for ever, of money in and out, is in `bridge`.

Rules
    H1. Entries are written in the batch of their block (`indexes`), so a page never shows a block
        that is not final, and a restart loses none.
    H2. Pages go backwards from a cursor; a cursor is the place of the last row that was shown (or,
        where only some are asked for, looked at), so new blocks do not shift pages.
    H3. An open order is in the exchange's state, not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from omninode.storage import keys
from omninode.storage.bridge import BridgeHistory
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.indexes import TAKER
from omninode.storage.records import (
    ClosedOrder,
    Fill,
    FillReference,
    StoredTrade,
    StoredTransaction,
)
from omninode.storage.rows import Page, bounded_page, decode_row, read_page

FillPosition: TypeAlias = tuple[int, int, int]
"""Height, event within the block, and 0 for the maker's or 1 for the taker's side."""


class History:
    """Reads the index entries of an open database.

    Attributes:
        bridge: Deposits, withdrawals and checkpoints.
    """

    def __init__(self, database: Database, chain: ChainStore) -> None:
        self._database = database
        self._chain = chain
        self.bridge: Final = BridgeHistory(database)

    def trades(self, market: str, *, limit: int, before: int | None = None) -> list[StoredTrade]:
        """Return trades of a market, newest first.

        Args:
            market: Its name.
            limit: At most so many, up to `PAGE_ROWS_MAX`.
            before: Only trades with a lower sequence number than this.
        """
        stop = None if before is None else keys.height_bytes(before)
        rows = self._database.iterate(keys.market_prefix(market), stop=stop, reverse=True)
        return [decode_row(value, StoredTrade) for _, value in islice(rows, bounded_page(limit))]

    def fills(
        self,
        account: bytes,
        *,
        limit: int,
        before: FillPosition | None = None,
        subaccount: int | None = None,
    ) -> Page[Fill, FillPosition]:
        """Return an account's sides of trades, newest first.

        Args:
            account: Its address.
            limit: At most so many, up to `PAGE_ROWS_MAX`.
            before: `next` of the page before this one.
            subaccount: Only that one's; by default all subaccounts'.
        """
        return read_page(
            ((fill.position, fill) for fill in self._fills(account, before)),
            limit=limit,
            wanted=lambda fill: subaccount in (None, fill.subaccount),
        )

    def _fills(self, account: bytes, before: FillPosition | None) -> Iterator[Fill]:
        stop = None
        if before is not None:
            height, event, role = before
            stop = keys.place_bytes(height, event) + bytes((role,))
        rows = self._database.iterate(keys.ACCOUNT_FILL + account, stop=stop, reverse=True)
        for key, value in rows:
            reference = decode_row(value, FillReference)
            trade = self._database.get(
                keys.market_prefix(reference.market) + keys.height_bytes(reference.sequence)
            )
            if trade is None:  # pruned since the iterator was made
                break
            position = (*keys.read_place(key), key[-1])
            yield Fill(position, key.endswith(TAKER), decode_row(trade, StoredTrade))

    def closed_order(self, order_id: bytes) -> ClosedOrder | None:
        """Return how an order ended: filled, cancelled, or rejected."""
        value = self._database.get(keys.CLOSED_ORDER + order_id)
        return None if value is None else decode_row(value, ClosedOrder)

    def transactions(
        self, account: bytes, *, limit: int, before: tuple[int, int] | None = None
    ) -> list[StoredTransaction]:
        """Return the transactions that acted for an account, newest first.

        Args:
            account: Its address.
            limit: At most so many, up to `PAGE_ROWS_MAX`.
            before: Height and index of the last transaction that was shown.
        """
        stop = None if before is None else keys.place_bytes(*before)
        rows = self._database.iterate(keys.ACCOUNT_TRANSACTION + account, stop=stop, reverse=True)
        found: list[StoredTransaction] = []
        block: list[StoredTransaction] = []
        for key, _ in islice(rows, bounded_page(limit)):
            height, index = keys.read_place(key)
            if not block or block[0].height != height:
                block = self._chain.transactions_at(height)
            if not block:  # pruned since the iterator was made
                break
            found.append(block[index])
        return found
