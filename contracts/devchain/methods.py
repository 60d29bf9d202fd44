"""The JSON-RPC methods: what web3.py, ethers, cast and wallets ask for.

Computations and long searches run in threads, one computation at a time; all else is a few reads
and is answered at once. Methods that begin with `dev_` exist for tests, and pages in a browser may
not call them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

from omninode import __version__
from omninode.contracts.devchain import calls, fees
from omninode.contracts.devchain.blocks import Block
from omninode.contracts.devchain.chain import Chain
from omninode.contracts.devchain.evm import State
from omninode.contracts.devchain.limits import (
    CALLS_WAITING_MAX,
    FINALIZED_DEPTH,
    LOG_BLOCKS_MAX,
    MINE_BLOCKS_MAX,
    REORGANISATION_DEPTH_MAX,
    SAFE_DEPTH,
)
from omninode.contracts.devchain.logs import logs_of_block, logs_of_range, read_filter
from omninode.contracts.devchain.miner import Miner, unix_time_s
from omninode.contracts.devchain.quantities import data, quantity, read_data, read_quantity
from omninode.contracts.devchain.refusals import (
    METHOD_NOT_FOUND,
    CallRefused,
    invalid,
    missing,
    over_limit,
    refuse,
)
from omninode.contracts.devchain.views import (
    Json,
    block_view,
    pending_block_view,
    receipt_view,
    transaction_view,
)
from omninode.crypto import keccak256

Arguments = list[Any]
Method = Callable[[Arguments], Any]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_SEARCHES_MAX: Final = 2


class Methods:
    """Runs methods by their names.

    Args:
        chain: What is read.
        miner: What changes it.
    """

    def __init__(self, chain: Chain, miner: Miner) -> None:
        self._chain = chain
        self._miner = miner
        self._evm = trio.CapacityLimiter(1)
        self._searches = trio.CapacityLimiter(_SEARCHES_MAX)
        self._quick: dict[str, Method] = self._quick_methods()
        self._long: dict[str, Callable[[Arguments], Awaitable[Any]]] = {
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_feeHistory": self._fee_history,
            "eth_getLogs": self._logs,
            "eth_sendRawTransaction": self._send,
            "dev_mine": self._mine,
            "dev_reorganise": self._reorganise,
        }

    def _quick_methods(self) -> dict[str, Method]:
        chain = self._chain
        return {
            "eth_chainId": lambda _: quantity(chain.chain_id),
            "net_version": lambda _: str(chain.chain_id),
            "net_listening": lambda _: True,
            "net_peerCount": lambda _: "0x0",
            "web3_clientVersion": lambda _: f"omninode-devchain/{__version__}",
            "web3_sha3": lambda given: data(keccak256(read_data(argument(given, 0), 0))),
            "eth_syncing": lambda _: False,
            "eth_accounts": lambda _: [],
            "eth_blockNumber": lambda _: quantity(chain.head.number),
            "eth_gasPrice": lambda _: quantity(chain.next_base_fee() + fees.SUGGESTED_TIP),
            "eth_maxPriorityFeePerGas": lambda _: quantity(fees.SUGGESTED_TIP),
            "eth_blobBaseFee": lambda _: "0x1",
            "eth_getBalance": self._balance,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getBlockByNumber": self._block,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._receipts,
            "eth_getBlockTransactionCountByNumber": self._count,
            "eth_getBlockTransactionCountByHash": self._count,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionByBlockNumberAndIndex": self._transaction_at,
            "eth_getTransactionByBlockHashAndIndex": self._transaction_at,
            "eth_getTransactionReceipt": self._receipt,
        }

    async def run(self, method: str, arguments: Arguments, *, from_page: bool) -> object:
        """Run a method and return what becomes its JSON result.

        Args:
            method: Its name.
            arguments: Its positional arguments.
            from_page: Whether a page in a browser asks.

        Raises:
            CallRefused: It is answered with an error.
            StorageFault: The disk failed or is full.
        """
        quick = self._quick.get(method)
        if quick is not None:
            return quick(arguments)
        long = self._long.get(method)
        if long is None or (from_page and method.startswith("dev_")):
            raise CallRefused(
                METHOD_NOT_FOUND, f"the method {method[:100]} does not exist/is not available"
            )
        return await long(arguments)

    # --- Blocks -----------------------------------------------------------------------------------

    def _number(self, tag: object, index: int) -> int:
        """Return the height that a tag or a number means."""
        head = self._chain.head.number
        match tag:
            case "latest" | "pending" | None:
                return head
            case "earliest":
                return 0
            case "safe":
                return max(0, head - SAFE_DEPTH)
            case "finalized":
                return max(0, head - FINALIZED_DEPTH)
            case _:
                return read_quantity(tag, index, below=2**64)

    def _find_block(self, tag: object, index: int) -> Block | None:
        """Return the block that a tag, a number, a hash or an object of EIP-1898 means."""
        if isinstance(tag, dict):
            tag = tag.get("blockHash", tag.get("blockNumber"))
        if isinstance(tag, str) and len(tag) == 66:
            return self._chain.block(read_data(tag, index, size=32))
        number = self._number(tag, index)
        return self._chain.head if number == self._chain.head.number else self._at(number)

    def _at(self, number: int) -> Block | None:
        return self._chain.block_at(number)

    def _state_block(self, arguments: Arguments, index: int) -> Block:
        """Return the block whose state is asked for."""
        block = self._find_block(arguments[index] if len(arguments) > index else None, index)
        if block is None:
            raise refuse("header not found")
        return block

    def _state(self, arguments: Arguments, index: int) -> State:
        return self._chain.state_at(self._state_block(arguments, index))

    def _block(self, arguments: Arguments) -> Json | None:
        tag, full = argument(arguments, 0), len(arguments) > 1 and arguments[1] is True
        if tag == "pending":
            return pending_block_view(self._chain, timestamp=unix_time_s(), full=full)
        block = self._find_block(tag, 0)
        return None if block is None else block_view(block, full=full)

    def _block_by_hash(self, arguments: Arguments) -> Json | None:
        read_data(argument(arguments, 0), 0, size=32)
        return self._block(arguments)

    def _receipts(self, arguments: Arguments) -> list[Json] | None:
        block = self._find_block(argument(arguments, 0), 0)
        if block is None:
            return None
        return [receipt_view(block, index) for index in range(len(block.records))]

    def _count(self, arguments: Arguments) -> str | None:
        block = self._find_block(argument(arguments, 0), 0)
        return None if block is None else quantity(len(block.records))

    # --- Accounts ---------------------------------------------------------------------------------

    def _balance(self, arguments: Arguments) -> str:
        address = read_data(argument(arguments, 0), 0, size=20)
        return quantity(self._state(arguments, 1).get_balance(address))  # type: ignore[arg-type]

    def _code(self, arguments: Arguments) -> str:
        address = read_data(argument(arguments, 0), 0, size=20)
        return data(self._state(arguments, 1).get_code(address))  # type: ignore[arg-type]

    def _storage(self, arguments: Arguments) -> str:
        address = read_data(argument(arguments, 0), 0, size=20)
        slot = read_quantity(argument(arguments, 1), 1)
        value = self._state(arguments, 2).get_storage(address, slot)  # type: ignore[arg-type]
        return data(value.to_bytes(32))

    def _transaction_count(self, arguments: Arguments) -> str:
        address = read_data(argument(arguments, 0), 0, size=20)
        nonce = int(self._state(arguments, 1).get_nonce(address))  # type: ignore[arg-type]
        if arguments[1:2] == ["pending"]:
            nonce = self._chain.pool.next_nonce(address, nonce)
        return quantity(nonce)

    # --- Transactions -----------------------------------------------------------------------------

    def _transaction(self, arguments: Arguments) -> Json | None:
        transaction_hash = read_data(argument(arguments, 0), 0, size=32)
        found = self._chain.find(transaction_hash)
        if found is not None:
            block, index = found
            return transaction_view(block.transactions[index], block, index)
        waiting = self._chain.pool.get(transaction_hash)
        return None if waiting is None else transaction_view(waiting, None, None)

    def _transaction_at(self, arguments: Arguments) -> Json | None:
        block = self._find_block(argument(arguments, 0), 0)
        index = read_quantity(argument(arguments, 1), 1)
        if block is None or index >= len(block.transactions):
            return None
        return transaction_view(block.transactions[index], block, index)

    def _receipt(self, arguments: Arguments) -> Json | None:
        found = self._chain.find(read_data(argument(arguments, 0), 0, size=32))
        return None if found is None else receipt_view(*found)

    async def _send(self, arguments: Arguments) -> str:
        return data(await self._miner.submit(read_data(argument(arguments, 0), 0)))

    # --- Computations and searches ----------------------------------------------------------------

    async def _call(self, arguments: Arguments) -> str:
        request = calls.read_call(argument(arguments, 0))
        self._refuse_overrides(arguments)
        block = self._state_block(arguments, 1)
        return data(await self._in_thread(self._evm, calls.call, self._chain, block, request))

    async def _estimate(self, arguments: Arguments) -> str:
        request = calls.read_call(argument(arguments, 0))
        self._refuse_overrides(arguments)
        block = self._state_block(arguments, 1)
        found = await self._in_thread(self._evm, calls.estimate, self._chain, block, request)
        return quantity(found)

    @staticmethod
    def _refuse_overrides(arguments: Arguments) -> None:
        if any(arguments[2:]):
            raise invalid(2, "overriding the state or the block is not supported")

    async def _fee_history(self, arguments: Arguments) -> Json:
        count = read_quantity(argument(arguments, 0), 0)
        newest = self._find_block(argument(arguments, 1), 1)
        percentiles = fees.read_percentiles(arguments[2] if len(arguments) > 2 else None)
        if newest is None:
            raise refuse("request beyond head block")
        return await self._in_thread(
            self._searches, fees.fee_history, self._chain, count, newest, percentiles
        )

    async def _logs(self, arguments: Arguments) -> list[Json]:
        given = argument(arguments, 0)
        if not isinstance(given, dict):
            raise invalid(0, "an object is wanted")
        wanted = read_filter(given)
        if given.get("blockHash") is not None:
            if given.get("fromBlock") is not None or given.get("toBlock") is not None:
                raise invalid(0, "cannot specify both BlockHash and FromBlock/ToBlock")
            block = self._chain.block(read_data(given["blockHash"], 0, size=32))
            if block is None:
                raise refuse("unknown block")
            return logs_of_block(block, wanted)
        first, last = self._number(given.get("fromBlock"), 0), self._number(given.get("toBlock"), 0)
        if first > last:
            raise refuse("invalid block range params")
        if min(last, self._chain.head.number) - first >= LOG_BLOCKS_MAX:
            raise over_limit(f"block range too large: at most {LOG_BLOCKS_MAX} blocks")
        return await self._in_thread(
            self._searches, logs_of_range, self._chain, wanted, first, last
        )

    async def _in_thread(
        self, limiter: trio.CapacityLimiter, work: Callable[[*_Ts], _T], *arguments: *_Ts
    ) -> _T:
        if limiter.statistics().tasks_waiting >= CALLS_WAITING_MAX:
            raise over_limit("too many calls at once: try again")
        return await trio.to_thread.run_sync(work, *arguments, limiter=limiter)

    # --- For tests --------------------------------------------------------------------------------

    async def _mine(self, arguments: Arguments) -> str:
        """`dev_mine [count]`: make blocks at once; returns the newest height."""
        count = read_quantity(arguments[0], 0) if arguments else 1
        if count > MINE_BLOCKS_MAX:
            raise over_limit(f"at most {MINE_BLOCKS_MAX} blocks at once")
        await self._miner.mine(count)
        return quantity(self._chain.head.number)

    async def _reorganise(self, arguments: Arguments) -> str:
        """`dev_reorganise [depth, keepTransactions]`: replace the newest blocks by others.

        Their transactions are put into the new ones, or forgotten; returns the newest hash.
        """
        depth = read_quantity(argument(arguments, 0), 0)
        keep = arguments[1] if len(arguments) > 1 else True
        if not isinstance(keep, bool):
            raise invalid(1, "true or false is wanted")
        if not 1 <= depth <= REORGANISATION_DEPTH_MAX:
            raise invalid(0, f"a depth from 1 to {REORGANISATION_DEPTH_MAX} is wanted")
        await self._miner.reorganise(depth, keep=keep)
        return data(self._chain.head.hash)


def argument(arguments: Arguments, index: int) -> object:
    """Return an argument that must be there.

    Raises:
        CallRefused: It is not.
    """
    if index >= len(arguments):
        raise missing(index)
    return arguments[index]
