"""Making the next block: headers, and the execution of transactions.

Rules
    B1. An empty block changes no state, so it is made without the EVM.
    B2. Timestamps never go back; below an interval of a second several blocks share one, so that
        the chain's clock stays with the wall clock.
    B3. A transaction that can not be executed now (fees, funds, no room) waits, and so do the later
        ones of its sender. One that is out of time (`evm` V2) or breaks the EVM itself is named in
        `hopeless`, and the block is begun anew without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, cast

import structlog
from eth._utils.address import generate_contract_address
from eth.constants import BLANK_ROOT_HASH
from eth.db.trie import make_trie_root_and_nodes
from eth.rlp.receipts import Receipt
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth_bloom import BloomFilter
from eth_typing import Address, BlockNumber, Hash32
from eth_utils import ValidationError

from omninode.contracts.devchain.blocks import Block, Header, LogRecord, TransactionRecord
from omninode.contracts.devchain.evm import OutOfTime, State, gas_used, open_state
from omninode.contracts.devchain.limits import BLOCK_TIME_S, TRANSACTION_TIME_S
from omninode.contracts.devchain.store import StateNodes
from omninode.contracts.devchain.transactions import Transaction
from omninode.errors import StorageFault

_log = structlog.get_logger("devchain")

EXTRA_DATA: Final = b"omninode dev chain"
COINBASE: Final = b"\0" * 20
_NONCE: Final = b"\0" * 8
_GAS_MIN: Final = 21_000

Ancestors = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Built:
    """A block that was made, and the transactions that no block can take (B3)."""

    block: Block
    hopeless: tuple[Transaction, ...]


def genesis_header(state_root: bytes, *, gas_limit: int) -> Header:
    """Return the header of the first block; the same for the same arguments."""
    return Header(
        difficulty=0,
        nonce=_NONCE,
        block_number=BlockNumber(0),
        gas_limit=gas_limit,
        timestamp=0,
        state_root=Hash32(state_root),
        extra_data=EXTRA_DATA,
        base_fee_per_gas=10**9,
    )


def next_header(parent: Header, *, timestamp: int) -> Header:
    """Return the header of an empty block after `parent`, with a new random value (B2)."""
    return Header(
        difficulty=0,
        nonce=_NONCE,
        block_number=BlockNumber(parent.block_number + 1),
        gas_limit=parent.gas_limit,
        timestamp=max(timestamp, parent.timestamp),
        coinbase=Address(COINBASE),
        parent_hash=parent.hash,
        state_root=parent.state_root,
        extra_data=EXTRA_DATA,
        mix_hash=Hash32(os.urandom(32)),
        base_fee_per_gas=next_base_fee(parent),
    )


def next_base_fee(parent: Header) -> int:
    """Return the base fee of the block after `parent`, in wei (EIP-1559)."""
    return int(calculate_expected_base_fee_per_gas(parent))


def build_block(
    parent: Block,
    candidates: list[Transaction],
    *,
    nodes: StateNodes,
    ancestors: Ancestors,
    chain_id: int,
    timestamp: int,
) -> Built:
    """Make the block after `parent`; new state is left in `nodes`.

    Args:
        parent: The block before it.
        candidates: Transactions in the order in which they are tried; those of one sender in the
            order of their nonces.
        nodes: Where state trees are kept.
        ancestors: Makes the hashes of `parent` and the blocks before it, the newest first.
        chain_id: The chain's number.
        timestamp: Unix time in seconds.
    """
    header = next_header(parent.header, timestamp=timestamp)
    hopeless: list[Transaction] = []
    while candidates:
        work = _Work(header, nodes, ancestors(), chain_id)
        culprit = work.execute_all(candidates)
        if culprit is None:
            return Built(work.seal(), tuple(hopeless))
        hopeless.append(culprit)
        candidates = [item for item in candidates if item is not culprit]
    return Built(Block(header, ()), tuple(hopeless))


class _Work:
    """A block in the making."""

    def __init__(
        self, header: Header, nodes: StateNodes, ancestors: Iterable[bytes], chain_id: int
    ) -> None:
        self._header = header
        self._state: State = open_state(nodes, header, ancestors, chain_id=chain_id)
        self._records: list[TransactionRecord] = []
        self._included: list[Transaction] = []
        self._gas = 0

    def execute_all(self, candidates: list[Transaction]) -> Transaction | None:
        """Execute what fits (B3); return the transaction that has no future, if one does."""
        ends = time.monotonic() + BLOCK_TIME_S
        stuck: set[bytes] = set()
        for transaction in candidates:
            if self._header.gas_limit - self._gas < _GAS_MIN or time.monotonic() > ends:
                break
            if transaction.sender in stuck:
                continue
            if transaction.gas > self._header.gas_limit - self._gas:
                stuck.add(transaction.sender)
                continue
            try:
                transaction.signed.validate()
                self._state.validate_transaction(transaction.signed)
            except ValidationError:
                stuck.add(transaction.sender)
                continue
            try:
                self._execute(transaction)
            except OutOfTime:
                return transaction
            except StorageFault:
                raise
            except Exception as error:  # noqa: BLE001 - what strangers send must not stop the chain
                _log.error("evm_failed", transaction=transaction.hash.hex(), exc_info=error)
                return transaction
        return None

    def _execute(self, transaction: Transaction) -> None:
        """Execute one transaction.

        Raises:
            OutOfTime: It took too long; the state is unusable, as after any error.
        """
        state = self._state
        state.deadline = time.monotonic() + TRANSACTION_TIME_S
        state.lock_changes()
        computation = state.apply_transaction(transaction.signed)
        state.make_state_root()
        used = gas_used(transaction.gas, computation)
        self._gas += used
        logs = tuple(
            LogRecord(bytes(address), tuple(topic.to_bytes(32) for topic in topics), bytes(data))
            for address, topics, data in computation.get_log_entries()
        )
        created = b""
        if transaction.to is None:
            created = generate_contract_address(Address(transaction.sender), transaction.nonce)
        self._included.append(transaction)
        self._records.append(
            TransactionRecord(
                raw=transaction.raw,
                sender=transaction.sender,
                gas_used=used,
                cumulative_gas=self._gas,
                succeeded=not computation.is_error,
                created=created,
                logs=logs,
            )
        )

    def seal(self) -> Block:
        """Write the new state into the nodes and return the finished block."""
        if not self._records:
            return Block(self._header, ())
        self._state.persist()
        signed = tuple(item.signed for item in self._included)
        receipts = tuple(map(_receipt, self._included, self._records))
        header = self._header.copy(
            state_root=self._state.state_root,
            transaction_root=make_trie_root_and_nodes(signed)[0],
            receipt_root=make_trie_root_and_nodes(receipts)[0],
            bloom=logs_bloom(log for record in self._records for log in record.logs),
            gas_used=self._gas,
        )
        return Block(cast("Header", header), tuple(self._records))


def _receipt(transaction: Transaction, record: TransactionRecord) -> Receipt:
    entries = tuple(
        (log.address, tuple(int.from_bytes(topic) for topic in log.topics), log.data)
        for log in record.logs
    )
    status = b"\x01" if record.succeeded else b""
    return transaction.signed.make_receipt(status, record.cumulative_gas, entries)  # type: ignore[return-value]


def logs_bloom(logs: Iterable[LogRecord]) -> int:
    """Return the bloom filter over the addresses and topics of logs, as a number of 2048 bits."""
    bloom = BloomFilter()
    for log in logs:
        bloom.add(log.address)
        bloom.extend(log.topics)
    return int(bloom)


EMPTY_STATE_ROOT: Final = bytes(BLANK_ROOT_HASH)
