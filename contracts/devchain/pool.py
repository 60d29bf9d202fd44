"""The transaction pool: what is signed, payable and waits for a block.

Rules
    P1. One transaction for an account and nonce. A later one replaces it if both its fees are at
        least `REPLACEMENT_PERCENT` of the other's.
    P2. Nonces may run ahead of the account's: such a transaction waits until the gap is filled.
    P3. What was taken in leaves only into a block, by replacement, or because its nonce was used by
        another. Nothing expires; at a bound the newcomer is refused.
    P4. For a block, transactions are offered by tip, then by arrival; those of one account in the
        order of their nonces.

Pure: no input, output or clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from omninode.contracts.devchain.limits import (
    POOL_ACCOUNT_MAX,
    POOL_BYTES_MAX,
    POOL_TRANSACTIONS_MAX,
    REPLACEMENT_PERCENT,
)
from omninode.contracts.devchain.refusals import refuse
from omninode.contracts.devchain.transactions import Transaction


class Pool:
    """Transactions that wait, by account and nonce."""

    def __init__(self) -> None:
        self._accounts: dict[bytes, dict[int, Transaction]] = {}
        self._arrivals: dict[bytes, int] = {}
        self._by_hash: dict[bytes, Transaction] = {}
        self._bytes = 0
        self._next_arrival = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __iter__(self) -> Iterator[Transaction]:
        return iter(self._by_hash.values())

    def get(self, transaction_hash: bytes) -> Transaction | None:
        """Return a waiting transaction."""
        return self._by_hash.get(transaction_hash)

    @property
    def next_arrival(self) -> int:
        """The number of arrival for the next transaction."""
        return self._next_arrival

    def check(self, transaction: Transaction, *, nonce: int, balance: int) -> Transaction | None:
        """Check that a transaction may enter; return the one that it replaces.

        Args:
            transaction: It passed `check_transaction`.
            nonce: Its sender's next nonce on the chain.
            balance: Its sender's coins on the chain, in wei.

        Raises:
            CallRefused: With geth's words for it.
        """
        if transaction.hash in self._by_hash:
            raise refuse("already known")
        if transaction.nonce < nonce:
            raise refuse(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        account = self._accounts.get(transaction.sender, {})
        replaced = account.get(transaction.nonce)
        cost = transaction.cost_max + sum(
            item.cost_max for item in account.values() if item is not replaced
        )
        if cost > balance:
            raise refuse(
                f"insufficient funds for gas * price + value: balance {balance}, "
                f"tx cost {transaction.cost_max}, overshot {cost - balance}"
            )
        if replaced is None:
            self._check_room(transaction, len(account))
        elif not _outbids(transaction, replaced):
            raise refuse("replacement transaction underpriced")
        return replaced

    def _check_room(self, transaction: Transaction, waiting: int) -> None:
        if waiting >= POOL_ACCOUNT_MAX:
            raise refuse(f"account limit exceeded: {waiting} transactions of this account wait")
        full = len(self._by_hash) >= POOL_TRANSACTIONS_MAX
        if full or self._bytes + len(transaction.raw) > POOL_BYTES_MAX:
            raise refuse("txpool is full")

    def add(self, transaction: Transaction, *, arrival: int) -> None:
        """Take a transaction in, in place of that of its nonce if there is one (P1)."""
        account = self._accounts.setdefault(transaction.sender, {})
        replaced = account.get(transaction.nonce)
        if replaced is not None:
            self._forget(replaced)
        account[transaction.nonce] = transaction
        self._by_hash[transaction.hash] = transaction
        self._arrivals[transaction.hash] = arrival
        self._next_arrival = max(self._next_arrival, arrival + 1)
        self._bytes += len(transaction.raw)

    def remove(self, transactions: Iterable[Transaction]) -> None:
        """Remove transactions; those that are not in the pool do not matter."""
        for transaction in transactions:
            found = self._by_hash.get(transaction.hash)
            if found is None:
                continue
            self._forget(found)
            account = self._accounts[found.sender]
            del account[found.nonce]
            if not account:
                del self._accounts[found.sender]

    def stale(self, nonce_of: Callable[[bytes], int]) -> list[Transaction]:
        """Return what can not be executed any more: its account's nonce has gone past it."""
        return [
            item
            for sender, account in self._accounts.items()
            if min(account) < (nonce := nonce_of(sender))
            for item in account.values()
            if item.nonce < nonce
        ]

    def _forget(self, transaction: Transaction) -> None:
        del self._by_hash[transaction.hash]
        del self._arrivals[transaction.hash]
        self._bytes -= len(transaction.raw)

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """Return the first nonce, from the chain's `nonce` on, for which nothing waits."""
        account = self._accounts.get(sender, {})
        while nonce in account:
            nonce += 1
        return nonce

    def offered(self, base_fee: int, nonce_of: Callable[[bytes], int]) -> list[Transaction]:
        """Return what a block with this base fee may take, in order (P4).

        Args:
            base_fee: Of the block, in wei.
            nonce_of: Returns an account's next nonce on the chain.
        """
        heads: list[tuple[int, int, bytes, int]] = []
        for sender in self._accounts:
            self._push(heads, sender, nonce_of(sender), base_fee)
        order = []
        while heads:
            _, _, sender, nonce = heapq.heappop(heads)
            order.append(self._accounts[sender][nonce])
            self._push(heads, sender, nonce + 1, base_fee)
        return order

    def _push(
        self, heads: list[tuple[int, int, bytes, int]], sender: bytes, nonce: int, base_fee: int
    ) -> None:
        transaction = self._accounts[sender].get(nonce)
        if transaction is not None and (tip := transaction.tip(base_fee)) >= 0:
            heapq.heappush(heads, (-tip, self._arrivals[transaction.hash], sender, nonce))


def _outbids(transaction: Transaction, other: Transaction) -> bool:
    return (
        transaction.max_fee * 100 >= other.max_fee * REPLACEMENT_PERCENT
        and transaction.max_tip * 100 >= other.max_tip * REPLACEMENT_PERCENT
    )
