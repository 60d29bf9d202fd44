"""Reading what an endpoint answers: headers, logs and numbers, with every field checked.

Rules
    W1. A value that is missing, of another type, out of its range or not about what was asked is
        `Malformed`; nothing is guessed.
    W2. Logs come in the order of the chain, from the contract and the blocks that were asked for,
        and none of them has been removed by a reorganisation.

Pure: no input or output. `follower` turns `Malformed` into the endpoint's failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from omninode.contracts.limits import LOG_DATA_BYTES_MAX, LOGS_OF_BLOCK_MAX
from omninode.crypto import ADDRESS_BYTES, HASH_BYTES
from omninode.errors import Malformed

TOPICS_MAX: Final = 4
_UINT64: Final = 2**64
_FEE_LIMIT: Final = 2**128
_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")


class Header(msgspec.Struct, frozen=True):
    """What matters of a block's header; `base_fee` is 0 on a chain without one."""

    number: int
    hash: bytes
    parent_hash: bytes
    time_s: int
    base_fee: int = 0


class Log(msgspec.Struct, frozen=True):
    """An event that the settlement contract wrote."""

    block_number: int
    block_hash: bytes
    index: int
    transaction_hash: bytes
    topics: tuple[bytes, ...]
    data: bytes


def read_quantity(value: object, *, below: int = _UINT64) -> int:
    """Read a number such as `0x1f`.

    Raises:
        Malformed: It is not one, or `below` or more.
    """
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise Malformed(f"not a quantity: {str(value)[:80]!r}")
    number = int(value, 16)
    if number >= below:
        raise Malformed(f"a quantity out of range: {value}")
    return number


def read_bytes(value: object, *, size: int | None = None, size_max: int = 1 << 24) -> bytes:
    """Read hex bytes such as `0xabcd`.

    Raises:
        Malformed: They are not hex, not of this size, or too many.
    """
    if not isinstance(value, str) or value[:2] != "0x" or len(value) > 2 + 2 * size_max:
        raise Malformed(f"not bytes in hex: {str(value)[:80]!r}")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise Malformed(f"not bytes in hex: {value[:80]!r}") from None
    if 2 * len(data) != len(value) - 2 or (size is not None and len(data) != size):
        raise Malformed(f"{len(data)} bytes where {size} were expected")
    return data


def read_header(value: object) -> Header:
    """Read a block as `eth_getBlockBy…` answers it.

    Raises:
        Malformed: W1.
    """
    block = _mapping(value)
    base_fee = block.get("baseFeePerGas")
    return Header(
        number=read_quantity(block.get("number")),
        hash=read_bytes(block.get("hash"), size=HASH_BYTES),
        parent_hash=read_bytes(block.get("parentHash"), size=HASH_BYTES),
        time_s=read_quantity(block.get("timestamp")),
        base_fee=0 if base_fee is None else read_quantity(base_fee, below=_FEE_LIMIT),
    )


def read_logs(value: object, *, contract: bytes, first: int, last: int) -> tuple[Log, ...]:
    """Read what `eth_getLogs` answers.

    Args:
        value: The result.
        contract: The address that was asked for.
        first: The lowest block that was asked for.
        last: The highest.

    Raises:
        Malformed: W1, W2.
    """
    if not isinstance(value, list) or len(value) > LOGS_OF_BLOCK_MAX:
        raise Malformed("not a list of logs, or too long")
    logs = tuple(_read_log(item, contract) for item in value)
    places = [(log.block_number, log.index) for log in logs]
    if places != sorted(set(places)):
        raise Malformed("logs out of order")
    if places and not first <= places[0][0] <= places[-1][0] <= last:
        raise Malformed(f"logs from outside of blocks {first} to {last}")
    return logs


def _read_log(value: object, contract: bytes) -> Log:
    log = _mapping(value)
    topics = log.get("topics")
    if log.get("removed", False) is not False:
        raise Malformed("a removed log")
    if read_bytes(log.get("address"), size=ADDRESS_BYTES) != contract:
        raise Malformed("a log of another contract")
    if not isinstance(topics, list) or len(topics) > TOPICS_MAX:
        raise Malformed("a log without topics")
    return Log(
        block_number=read_quantity(log.get("blockNumber")),
        block_hash=read_bytes(log.get("blockHash"), size=HASH_BYTES),
        index=read_quantity(log.get("logIndex")),
        transaction_hash=read_bytes(log.get("transactionHash"), size=HASH_BYTES),
        topics=tuple(read_bytes(topic, size=HASH_BYTES) for topic in topics),
        data=read_bytes(log.get("data"), size_max=LOG_DATA_BYTES_MAX),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"not an object: {str(value)[:80]!r}")
    return value
