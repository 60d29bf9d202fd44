"""Blocks: how they are kept, and how they are held in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec
import rlp
from eth.vm.forks.prague.blocks import PragueBlockHeader

from omninode.contracts.devchain.transactions import Transaction, decode_transaction
from omninode.errors import StorageFault

Header = PragueBlockHeader


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """One event of a contract; topics are 32 bytes each."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class TransactionRecord(msgspec.Struct, frozen=True, array_like=True):
    """A transaction in a block, with what it did.

    `cumulative_gas` is the gas of the block's transactions up to and with it; `created` is the
    address of the contract it created, or empty.
    """

    raw: bytes
    sender: bytes
    gas_used: int
    cumulative_gas: int
    succeeded: bool
    created: bytes
    logs: tuple[LogRecord, ...]


class BlockRecord(msgspec.Struct, frozen=True, array_like=True):
    """A block as it is kept: the header as RLP, and its transactions."""

    header: bytes
    transactions: tuple[TransactionRecord, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(BlockRecord)


class Block:
    """A block in memory; transactions are decoded when they are asked for.

    Attributes:
        header: Its header.
        records: Its transactions with what they did.
        hash: The header's hash.
        number: Its height.
        base_fee: What a unit of gas costs at least, in wei.
    """

    def __init__(self, header: Header, records: tuple[TransactionRecord, ...]) -> None:
        self.header = header
        self.records = records
        self.hash: bytes = header.hash
        self.number: int = header.block_number
        self.base_fee = int(header.base_fee_per_gas or 0)

    @cached_property
    def transactions(self) -> tuple[Transaction, ...]:
        """The transactions, in order."""
        return tuple(decode_transaction(record.raw, record.sender) for record in self.records)

    @cached_property
    def size(self) -> int:
        """Bytes of the block as nodes of Ethereum exchange it: header, transactions, two lists."""
        signed = [rlp.encode(item.raw) if item.kind else item.raw for item in self.transactions]
        content = len(rlp.encode(self.header)) + len(rlp.encode([], infer_serializer=True)) * 2
        body = sum(map(len, signed))
        return _with_prefix(content + _with_prefix(body))

    def encode(self) -> bytes:
        """Return the record's bytes."""
        return _encoder.encode(BlockRecord(rlp.encode(self.header), self.records))


def _with_prefix(size: int) -> int:
    """Return the bytes of an RLP list with that much content."""
    return size + (1 if size < 56 else 1 + (size.bit_length() + 7) // 8)


def decode_block(data: bytes) -> Block:
    """Decode a block's record.

    Raises:
        StorageFault: It is damaged.
    """
    try:
        record = _decoder.decode(data)
        return Block(rlp.decode(record.header, sedes=PragueBlockHeader), record.transactions)
    except (msgspec.DecodeError, rlp.RLPException) as error:
        raise StorageFault(f"a block of the dev chain is damaged: {error}") from error
