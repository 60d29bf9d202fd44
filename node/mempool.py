"""Checked transactions that are not final yet, in the order they came. No input, output or clock.

Rules
    M1. The pool is bounded by count, by bytes and per signer. At a bound the newest is refused:
        what was acknowledged before is never pushed out by what comes later. What validators say
        (scheme 2) has a bound per validator instead, so that no flood of orders shuts it out.
    M2. It holds at most one transaction per (account, signer, nonce): only one could count.
    M3. A transaction leaves when it is executed, when another with its nonce is, or when chain time
        has passed its nonce window, so that it can provably never count (PROTOCOL.md P8).
    M4. A block gets the oldest first, of funded accounts and of validators, up to a number per
        signer, per block and of bytes (inclusion policy, P3). What does not fit stays and is next.
    M5. What validators say goes first, so that deposits and checkpoints do not wait behind a
        backlog of orders: a few of each validator, within a share of the block. The rest of it has
        its place in line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from omninode.dex.transaction import SCHEME_VALIDATOR, Transaction
from omninode.errors import UserError
from omninode.node.limits import (
    FIRST_PER_VALIDATOR_MAX,
    POOL_PER_VALIDATOR_MAX,
    VALIDATORS_SHARE,
)

EXPIRY_BUCKET_MS = 1_000
"""Transactions expire in groups of this much nonce time, so one may stay this much longer."""

_NonceKey = tuple[bytes, bytes, int]
Funded = Callable[[bytes], bool]
"""Whether an account (20 bytes) owns anything at the newest executed state."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool (M1)."""

    count_max: int
    bytes_max: int
    per_signer_max: int


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """What fits in one block (M4); from genesis.

    Args:
        bytes_max: Transaction bytes.
        count_max: Transactions.
        per_signer_max: Transactions of one signer.
    """

    bytes_max: int
    count_max: int
    per_signer_max: int


@dataclass(frozen=True, slots=True)
class _Entry:
    transaction: Transaction
    received_ms: int


def _payer(transaction: Transaction) -> tuple[int, bytes]:
    """Return what a transaction is counted under (M1): validators' word apart from all else."""
    return (int(transaction.scheme == SCHEME_VALIDATOR), transaction.signer)


def _nonce_key(transaction: Transaction) -> _NonceKey:
    return (transaction.account, transaction.signer, transaction.nonce)


def _validators_share(limits: BlockLimits) -> BlockLimits:
    """Return the part of a block that is for what validators say, before all else (M5)."""
    return BlockLimits(
        bytes_max=limits.bytes_max // VALIDATORS_SHARE,
        count_max=max(1, limits.count_max // VALIDATORS_SHARE),
        per_signer_max=min(FIRST_PER_VALIDATOR_MAX, limits.per_signer_max),
    )


class _Choice:
    """What was chosen for a block so far, in the order it goes in."""

    def __init__(self, funded: Funded) -> None:
        self.chosen: dict[bytes, None] = {}
        self._funded = funded
        self._known: dict[bytes, bool] = {}
        self._per_signer: dict[bytes, int] = {}
        self._bytes = 0

    def take(self, candidates: Iterable[tuple[bytes, Transaction]], limits: BlockLimits) -> None:
        """Choose more, while all that is chosen is within limits."""
        for transaction_hash, transaction in candidates:
            if len(self.chosen) >= limits.count_max:
                break
            size = len(transaction.raw)
            count = self._per_signer.get(transaction.signer, 0)
            if self._bytes + size > limits.bytes_max or count >= limits.per_signer_max:
                continue
            if transaction_hash in self.chosen or not self._is_payable(transaction):
                continue
            self.chosen[transaction_hash] = None
            self._per_signer[transaction.signer] = count + 1
            self._bytes += size

    def _is_payable(self, transaction: Transaction) -> bool:
        if transaction.scheme == SCHEME_VALIDATOR:
            return True
        account = transaction.account
        if account not in self._known:
            self._known[account] = self._funded(account)
        return self._known[account]


class Mempool:
    """Pending transactions in order of arrival.

    Args:
        limits: Its bounds.
        nonce_window_ms: How far chain time may pass a nonce before the transaction is void.
    """

    def __init__(self, limits: PoolLimits, *, nonce_window_ms: int) -> None:
        self._limits = limits
        self._nonce_window_ms = nonce_window_ms
        self._entries: dict[bytes, _Entry] = {}
        self._said: dict[bytes, Transaction] = {}
        self._by_nonce: dict[_NonceKey, bytes] = {}
        self._per_signer: dict[tuple[int, bytes], int] = {}
        self._buckets: dict[int, set[bytes]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, transaction_hash: object) -> bool:
        return transaction_hash in self._entries

    @property
    def size_bytes(self) -> int:
        """Signed bytes of all transactions held."""
        return self._bytes

    def get(self, transaction_hash: bytes) -> Transaction | None:
        """Return a held transaction."""
        entry = self._entries.get(transaction_hash)
        return None if entry is None else entry.transaction

    def add(self, transaction: Transaction, *, received_ms: int) -> bool:
        """Take a transaction whose signature was checked.

        Args:
            transaction: With `signer` known.
            received_ms: When it arrived; must not go back from call to call.

        Returns:
            False if it is already here.

        Raises:
            UserError: `mempool_full` (M1), or `nonce_used` if another one has its nonce (M2).
        """
        transaction_hash = transaction.hash
        if transaction_hash in self._entries:
            return False
        key = _nonce_key(transaction)
        if key in self._by_nonce:
            raise UserError(
                "nonce_used",
                f"another transaction with nonce {transaction.nonce} is pending",
                hint="use max(now_ms, last + 1) as nonce",
            )
        payer = _payer(transaction)
        held = self._per_signer.get(payer, 0)
        self._check_room(transaction, held)
        self._entries[transaction_hash] = _Entry(transaction, received_ms)
        if transaction.scheme == SCHEME_VALIDATOR:
            self._said[transaction_hash] = transaction
        self._by_nonce[key] = transaction_hash
        self._per_signer[payer] = held + 1
        bucket = transaction.nonce // EXPIRY_BUCKET_MS
        self._buckets.setdefault(bucket, set()).add(transaction_hash)
        self._bytes += len(transaction.raw)
        return True

    def _check_room(self, transaction: Transaction, held_by_signer: int) -> None:
        """Refuse the newest at a bound (M1)."""
        limits, size = self._limits, len(transaction.raw)
        by_validator = transaction.scheme == SCHEME_VALIDATOR
        if held_by_signer >= (POOL_PER_VALIDATOR_MAX if by_validator else limits.per_signer_max):
            message = f"{held_by_signer} transactions of this signer are pending"
            raise UserError("mempool_full", message, hint="wait until some are final")
        is_full = len(self._entries) >= limits.count_max or self._bytes + size > limits.bytes_max
        if is_full and not by_validator:
            message = f"{len(self._entries)} transactions are pending"
            raise UserError("mempool_full", message, hint="send again in a moment")

    def remove(self, hashes: Iterable[bytes]) -> list[Transaction]:
        """Forget transactions; returns those that were held."""
        return [removed for i in hashes if (removed := self._remove(i)) is not None]

    def executed(self, transactions: Iterable[Transaction]) -> list[Transaction]:
        """Forget what a block executed, and what that made void (M3).

        Returns:
            The transactions that left, the block's own and others with a nonce that is now used.
        """
        left = []
        for transaction in transactions:
            held = self._by_nonce.get(_nonce_key(transaction))
            for i in {transaction.hash, held or transaction.hash}:
                removed = self._remove(i)
                if removed is not None:
                    left.append(removed)
        return left

    def expire(self, chain_time_ms: int) -> list[Transaction]:
        """Forget what chain time has passed by (M3); returns it."""
        newest_void = chain_time_ms - self._nonce_window_ms - 1
        bucket_end = (newest_void + 1) // EXPIRY_BUCKET_MS
        void = [bucket for bucket in self._buckets if bucket < bucket_end]
        return self.remove([i for bucket in void for i in tuple(self._buckets[bucket])])

    def _remove(self, transaction_hash: bytes) -> Transaction | None:
        entry = self._entries.pop(transaction_hash, None)
        if entry is None:
            return None
        transaction = entry.transaction
        self._said.pop(transaction_hash, None)
        del self._by_nonce[_nonce_key(transaction)]
        payer = _payer(transaction)
        held = self._per_signer[payer] - 1
        if held:
            self._per_signer[payer] = held
        else:
            del self._per_signer[payer]
        bucket = transaction.nonce // EXPIRY_BUCKET_MS
        self._buckets[bucket].discard(transaction_hash)
        if not self._buckets[bucket]:
            del self._buckets[bucket]
        self._bytes -= len(transaction.raw)
        if not self._entries:
            # A dict keeps the holes of removed keys and walks over them; an empty one starts anew.
            self._entries = {}
        if not self._said:
            self._said = {}
        return transaction

    def select(
        self, excluded: Collection[bytes], *, limits: BlockLimits, funded: Funded
    ) -> tuple[bytes, ...]:
        """Choose transactions for a block (M4, M5).

        Args:
            excluded: Hashes in the ancestry that are not executed yet; a set.
            limits: What fits.
            funded: Asked once per account.
        """
        choice = _Choice(funded)
        said = ((i, said) for i, said in self._said.items() if i not in excluded)
        choice.take(said, _validators_share(limits))
        choice.take(self._outside(excluded), limits)
        return tuple(choice.chosen)

    def oldest_ms(self, excluded: Collection[bytes], *, funded: Funded) -> int | None:
        """Return when the oldest transaction arrived that a block could take now, if there is one.

        It looks at the excluded ones (which are the oldest) and at one more, as a rule.
        """
        for transaction_hash, transaction in self._outside(excluded):
            if transaction.scheme == SCHEME_VALIDATOR or funded(transaction.account):
                return self._entries[transaction_hash].received_ms
        return None

    def stale(self, excluded: Collection[bytes], *, before_ms: int, bytes_max: int) -> list[bytes]:
        """Return the signed bytes of what arrived before a time, oldest first, as many as fit."""
        raws: list[bytes] = []
        for transaction_hash, transaction in self._outside(excluded):
            if self._entries[transaction_hash].received_ms >= before_ms:
                break
            bytes_max -= len(transaction.raw)
            if bytes_max < 0:
                break
            raws.append(transaction.raw)
        return raws

    def newest_ms(self, hashes: Iterable[bytes]) -> int | None:
        """Return when the newest of these arrived, as far as they are held."""
        entries = self._entries
        return max((entries[i].received_ms for i in hashes if i in entries), default=None)

    def missing(self, hashes: Iterable[bytes]) -> list[bytes]:
        """Return those that are not held."""
        return [i for i in hashes if i not in self._entries]

    def _outside(self, excluded: Collection[bytes]) -> Iterator[tuple[bytes, Transaction]]:
        for transaction_hash, entry in self._entries.items():
            if transaction_hash not in excluded:
                yield transaction_hash, entry.transaction
