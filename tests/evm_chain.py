"""A settlement chain played in memory, and served over real HTTP to what asks endpoints.

It has blocks, forks and the contract's logs, but no EVM: what follows a chain is tested with every
reorganisation that one can think of, in no time. With a real EVM: `real_chain`.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from eth_abi.abi import encode

from omninode.contracts.artifacts import load_artifact
from omninode.contracts.source import ContractTerms
from omninode.contracts.wire import Header, Log
from omninode.crypto import checksum_address, keccak256
from omninode.dex.bridge.deposits import Deposit, StakeChange, next_deposit_hash
from omninode.dex.bridge.evm import SettlementDomain
from omninode.encoding import amount_from_bytes, amount_to_bytes

CONTRACT = b"\xc0" * 20
TOKEN = b"\x70" * 20
SET_HASH = b"\x5e" * 32
TERMS = ContractTerms(tokens=(TOKEN,), epoch=0, set_hash=SET_HASH)
GENESIS_HASH = b"\x9e" * 32
CHAIN_ID = 31_337
DOMAIN = SettlementDomain(CHAIN_ID, CONTRACT, GENESIS_HASH)

DEPOSITED = keccak256(b"Deposited(uint64,address,address,uint16,uint256,bytes32)")
WITHDRAWN = keccak256(b"Withdrawn(uint64,address,address,uint256)")
STAKE_CHANGED = keccak256(b"StakeChanged(uint64,address,uint8,uint256,bytes,bytes32)")
ROTATED = keccak256(b"ValidatorsRotated(uint64,bytes32)")
CHECKPOINTED = keccak256(
    b"Checkpointed(uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32,uint64,uint64)"
)


def word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


def deposit_of(number: int) -> Deposit:
    return Deposit(
        TOKEN, bytes([number % 251 + 1]) * 20, number % 1000, amount_to_bytes(1 + number)
    )


def deposit_hash_of(count: int) -> bytes:
    """The rolling hash over the first deposits that `deposit_of` makes."""
    rolling = GENESIS_HASH
    for index in range(count):
        rolling = next_deposit_hash(rolling, index, deposit_of(index))
    return rolling


Told = tuple[tuple[bytes, ...], bytes]
"""Topics and data of a log."""


def deposited(index: int, deposit: Deposit | None = None, before: bytes = b"") -> Told:
    """A deposit's log; `before` is the rolling hash before it, by default of `deposit_of`'s."""
    made = deposit or deposit_of(index)
    after = next_deposit_hash(before or deposit_hash_of(index), index, made)
    topics = (DEPOSITED, word(index), word(made.token), word(made.account))
    return topics, word(made.subaccount) + word(amount_from_bytes(made.amount)) + after


def stake_changed(index: int, change: StakeChange, before: bytes = b"") -> Told:
    """The log of an entry of stake, as `deposited`."""
    after = next_deposit_hash(before or deposit_hash_of(index), index, change)
    data = encode(
        ["uint256", "bytes", "bytes32"],
        [amount_from_bytes(change.amount), change.identity, after],
    )
    return (STAKE_CHANGED, word(index), word(change.owner), word(change.kind)), data


def checkpointed(number: int) -> Told:
    data = encode(
        ["bytes32", "bytes32", "uint64", "bytes32", "uint64", "bytes32", "uint64", "uint64"],
        [b"\1" * 32, b"\2" * 32, 0, b"\3" * 32, 0, b"\4" * 32, 0, 1],
    )
    return (CHECKPOINTED, word(number), word(number * 10)), data


def rotated(epoch: int, set_hash: bytes = b"\2" * 32) -> Told:
    return (ROTATED, word(epoch)), set_hash


def withdrawn(index: int) -> Told:
    return (WITHDRAWN, word(index), word(TOKEN), word(b"\5" * 20)), word(7)


@dataclass(frozen=True)
class SimBlock:
    header: Header
    logs: tuple[Log, ...]


class SimChain:
    """Blocks by height; `name` keeps the hashes of two chains apart."""

    def __init__(
        self,
        name: str = "main",
        length: int = 1,
        *,
        domain: SettlementDomain = DOMAIN,
        tokens: tuple[bytes, ...] = (TOKEN,),
        epoch: int = 0,
        set_hash: bytes = SET_HASH,
        stake_token: bytes = bytes(20),
    ) -> None:
        self._name = name
        self._domain = domain
        self.tokens = tokens
        self.epoch = epoch
        self.set_hash = set_hash
        self.stake_token = stake_token
        self._made = 0
        self.blocks: list[SimBlock] = []
        self.forgotten: dict[bytes, SimBlock] = {}
        self.extend(length)

    @property
    def head(self) -> Header:
        return self.blocks[-1].header

    @property
    def height(self) -> int:
        return self.head.number

    def copy(self) -> SimChain:
        other = SimChain(
            self._name + " copied",
            domain=self._domain,
            tokens=self.tokens,
            epoch=self.epoch,
            set_hash=self.set_hash,
        )
        other.blocks = list(self.blocks)
        other._made = self._made
        return other

    def extend(self, count: int = 1, *told: Told) -> SimBlock:
        """Add blocks; the first has the logs."""
        first = len(self.blocks)
        for place in range(count):
            self._add(told if place == 0 else ())
        return self.blocks[first]

    def _add(self, told: tuple[Told, ...]) -> None:
        number = len(self.blocks)
        parent = self.blocks[-1].header.hash if self.blocks else bytes(32)
        self._made += 1
        identity = keccak256(f"{self._name} {self._made}".encode() + parent)
        header = Header(number, identity, parent, 1_700_000_000 + number, 10**9)
        logs = tuple(
            Log(number, identity, place, keccak256(identity + bytes([place])), topics, data)
            for place, (topics, data) in enumerate(told)
        )
        self.blocks.append(SimBlock(header, logs))

    def drop(self, depth: int) -> None:
        """Take the newest blocks off: a reorganisation begins."""
        for block in self.blocks[len(self.blocks) - depth :]:
            self.forgotten[block.header.hash] = block
        del self.blocks[len(self.blocks) - depth :]

    def find(self, block_hash: bytes) -> SimBlock | None:
        return next((b for b in reversed(self.blocks) if b.header.hash == block_hash), None)

    def logs(self, first: int, last: int) -> tuple[Log, ...]:
        return tuple(log for block in self.blocks[first : last + 1] for log in block.logs)

    # --- As JSON-RPC -----------------------------------------------------------------------------

    def answer(self, method: str, params: list[Any]) -> Any:
        """Answer as an endpoint does; raises `Refusal`."""
        match method:
            case "eth_chainId":
                return hex(CHAIN_ID)
            case "eth_getCode":
                return "0x" + load_artifact("Settlement").deployed_bytecode.hex()
            case "eth_call":
                return self._read(params[0]["data"])
            case "eth_getBlockByNumber":
                number = self.height if params[0] == "latest" else int(params[0], 16)
                found = self.blocks[number] if 0 <= number <= self.height else None
                return found and block_json(found.header)
            case "eth_getBlockByHash":
                found = self.find(bytes.fromhex(params[0][2:]))
                return found and block_json(found.header)
            case "eth_getLogs":
                return self._get_logs(params[0])
            case _:
                raise Refusal(-32601, f"the method {method} does not exist")

    def _read(self, data: str) -> str:
        selector = bytes.fromhex(data[2:10])
        if selector == keccak256(b"genesisHash()")[:4]:
            return "0x" + self._domain.genesis_hash.hex()
        if selector == keccak256(b"tokens()")[:4]:
            items = b"".join(bytes(12) + token for token in sorted(self.tokens))
            return "0x" + (word(32) + word(len(self.tokens)) + items).hex()
        if selector == keccak256(b"epoch()")[:4]:
            return "0x" + word(self.epoch).hex()
        if selector == keccak256(b"stakeToken()")[:4]:
            return "0x" + word(self.stake_token).hex()
        if selector == keccak256(b"validatorSetHash()")[:4]:
            return "0x" + self.set_hash.hex()
        assert selector == keccak256(b"isToken(address)")[:4]
        return "0x" + word(int(bytes.fromhex(data[-40:]) in self.tokens)).hex()

    def _get_logs(self, chosen: dict[str, str]) -> list[dict[str, Any]]:
        assert chosen["address"] == checksum_address(self._domain.contract)
        if "blockHash" in chosen:
            block = self.find(bytes.fromhex(chosen["blockHash"][2:]))
            if block is None:
                raise Refusal(-32000, "unknown block")
            logs = block.logs
        else:
            logs = self.logs(int(chosen["fromBlock"], 16), int(chosen["toBlock"], 16))
        return [log_json(log, self._domain.contract) for log in logs]


def block_json(header: Header) -> dict[str, Any]:
    return {
        "number": hex(header.number),
        "hash": "0x" + header.hash.hex(),
        "parentHash": "0x" + header.parent_hash.hex(),
        "timestamp": hex(header.time_s),
        "baseFeePerGas": hex(header.base_fee),
    }


def log_json(log: Log, contract: bytes = CONTRACT) -> dict[str, Any]:
    return {
        "address": "0x" + contract.hex(),
        "blockNumber": hex(log.block_number),
        "blockHash": "0x" + log.block_hash.hex(),
        "logIndex": hex(log.index),
        "transactionHash": "0x" + log.transaction_hash.hex(),
        "topics": ["0x" + topic.hex() for topic in log.topics],
        "data": "0x" + log.data.hex(),
        "removed": False,
    }


class Refusal(Exception):
    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


Answering = Callable[[str, list[Any]], Any]


class Server:
    """An endpoint over real HTTP; what it answers can be changed at any time.

    Attributes:
        answer: Answers calls, at once or after a while.
        raw: Answers request bodies with the bytes of a whole HTTP response instead, if set.
        calls: How many calls of each method came.
    """

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.raw: Callable[[bytes], Awaitable[bytes]] | None = None
        self.is_open = True
        self.calls: Counter[str] = Counter()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        buffered = bytearray()
        try:
            while True:
                body = await _read_request(stream, buffered)
                if body is None or not self.is_open:
                    return
                await stream.send_all(await self._respond(body))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await stream.aclose()

    async def _respond(self, body: bytes) -> bytes:
        if self.raw is not None:
            return await self.raw(body)
        request = json.loads(body)
        self.calls[request["method"]] += 1
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            result = self.answer(request["method"], request["params"])
            reply["result"] = await result if inspect.isawaitable(result) else result
        except Refusal as refusal:
            reply["error"] = refusal.error
        return response(json.dumps(reply).encode())


def response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def _read_request(stream: trio.SocketStream, buffered: bytearray) -> bytes | None:
    while b"\r\n\r\n" not in buffered:
        piece = await stream.receive_some()
        if not piece:
            return None
        buffered += piece
    head, _, rest = bytes(buffered).partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2])
    body = bytearray(rest)
    while len(body) < length:
        body += await stream.receive_some()
    buffered[:] = body[length:]
    return bytes(body[:length])


@asynccontextmanager
async def served(*servers: Server) -> AsyncIterator[None]:
    """Run endpoints on free ports."""
    async with trio.open_nursery() as nursery:
        for server in servers:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            server.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield
        nursery.cancel_scope.cancel()
