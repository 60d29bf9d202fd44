"""Blocks, transactions, receipts and logs as JSON-RPC shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from eth.constants import EMPTY_UNCLE_HASH

from omninode.contracts.devchain.blocks import Block, Header
from omninode.contracts.devchain.build import logs_bloom, next_header
from omninode.contracts.devchain.chain import Chain
from omninode.contracts.devchain.quantities import data, quantity
from omninode.contracts.devchain.transactions import Transaction

Json = dict[str, Any]

_DYNAMIC_FEE_KIND: Final = 2
_SET_CODE_KIND: Final = 4


def block_view(block: Block, *, full: bool) -> Json:
    """Return a block; with whole transactions or with their hashes."""
    view = _header_view(block.header)
    view["hash"] = data(block.hash)
    view["size"] = quantity(block.size)
    view["transactions"] = [
        transaction_view(item, block, index) if full else data(item.hash)
        for index, item in enumerate(block.transactions)
    ]
    return view


def pending_block_view(chain: Chain, *, timestamp: int, full: bool) -> Json:
    """Return the block to come, with what waits for it; its hash is not known yet."""
    header = next_header(chain.head.header, timestamp=timestamp)
    waiting, _ = chain.candidates()
    view = _header_view(header)
    for name in ("hash", "miner", "nonce", "logsBloom"):
        view[name] = None
    view["size"] = quantity(Block(header, ()).size)
    view["transactions"] = [
        transaction_view(item, None, None) if full else data(item.hash) for item in waiting
    ]
    return view


def _header_view(header: Header) -> Json:
    return {
        "number": quantity(header.block_number),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(EMPTY_UNCLE_HASH),
        "logsBloom": data(header.bloom.to_bytes(256)),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": data(header.extra_data),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas or 0),
        "withdrawalsRoot": data(header.withdrawals_root or b""),
        "withdrawals": [],
        "blobGasUsed": "0x0",
        "excessBlobGas": "0x0",
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root or b""),
        "requestsHash": data(header.requests_hash),
        "uncles": [],
    }


def transaction_view(item: Transaction, block: Block | None, index: int | None) -> Json:
    """Return a transaction; without a block it waits in the pool."""
    signed = item.signed
    view: Json = {
        "hash": data(item.hash),
        "nonce": quantity(item.nonce),
        "blockHash": None if block is None else data(block.hash),
        "blockNumber": None if block is None else quantity(block.number),
        "transactionIndex": None if index is None else quantity(index),
        "from": data(item.sender),
        "to": None if item.to is None else data(item.to),
        "value": quantity(item.value),
        "gas": quantity(item.gas),
        "input": data(item.data),
        "type": quantity(item.kind),
        "chainId": None if item.chain_id is None else quantity(item.chain_id),
        "r": quantity(signed.r),
        "s": quantity(signed.s),
    }
    if item.kind == 0:
        view["v"] = quantity(signed.v)  # type: ignore[attr-defined]
    else:
        view["v"] = view["yParity"] = quantity(signed.y_parity)
        view["accessList"] = [
            {"address": data(address), "storageKeys": [data(slot.to_bytes(32)) for slot in slots]}
            for address, slots in signed.access_list
        ]
    view["gasPrice"] = quantity(item.max_fee if block is None else item.price(block.base_fee))
    if item.kind >= _DYNAMIC_FEE_KIND:
        view["maxFeePerGas"] = quantity(item.max_fee)
        view["maxPriorityFeePerGas"] = quantity(item.max_tip)
    if item.kind == _SET_CODE_KIND:
        view["authorizationList"] = list(_authorizations(item))
    return view


def _authorizations(item: Transaction) -> Iterator[Json]:
    for entry in item.signed.authorization_list:
        yield {
            "chainId": quantity(entry.chain_id),
            "address": data(entry.address),
            "nonce": quantity(entry.nonce),
            "yParity": quantity(entry.y_parity),
            "r": quantity(entry.r),
            "s": quantity(entry.s),
        }


def receipt_view(block: Block, index: int) -> Json:
    """Return the receipt of a transaction of a block."""
    record, item = block.records[index], block.transactions[index]
    return {
        "transactionHash": data(item.hash),
        "transactionIndex": quantity(index),
        "blockHash": data(block.hash),
        "blockNumber": quantity(block.number),
        "from": data(item.sender),
        "to": None if item.to is None else data(item.to),
        "cumulativeGasUsed": quantity(record.cumulative_gas),
        "gasUsed": quantity(record.gas_used),
        "effectiveGasPrice": quantity(item.price(block.base_fee)),
        "contractAddress": data(record.created) if record.created else None,
        "logs": log_views(block, index),
        "logsBloom": data(logs_bloom(record.logs).to_bytes(256)),
        "status": quantity(int(record.succeeded)),
        "type": quantity(item.kind),
    }


def log_views(block: Block, index: int) -> list[Json]:
    """Return the logs of a transaction of a block."""
    first = sum(len(record.logs) for record in block.records[:index])
    transaction_hash = data(block.transactions[index].hash)
    return [
        {
            "address": data(log.address),
            "topics": [data(topic) for topic in log.topics],
            "data": data(log.data),
            "blockNumber": quantity(block.number),
            "blockHash": data(block.hash),
            "blockTimestamp": quantity(block.header.timestamp),
            "transactionHash": transaction_hash,
            "transactionIndex": quantity(index),
            "logIndex": quantity(first + offset),
            "removed": False,
        }
        for offset, log in enumerate(block.records[index].logs)
    ]
