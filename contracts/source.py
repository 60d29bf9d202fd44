"""One endpoint as a source of facts about the chain: asks, checks the form, tells its branch.

Rules
    U1. Before anything counts, and again after every failure, the endpoint must be of the right
        chain and show the right contract: chain id, code, genesis hash, tokens, what is staked, and
        the validators that the exchange knows for the contract's epoch. A node that is behind does
        not know those of later epochs.
    U2. An answer of the wrong form is the endpoint's failure, as silence is.
    U3. A range with too many logs for one answer is asked for in halves; a stretch with more than
        `LOGS_MAX` fails as too long, and `following` asks all endpoints for a shorter one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import trio

from omninode.contracts.abi import SettlementAbi
from omninode.contracts.branch import (
    AskHash,
    AskLogs,
    AskNumber,
    AskStretch,
    Branch,
    Question,
)
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import LOGS_DECODED_AT_ONCE, LOGS_MAX, STRETCH_BLOCKS_MAX
from omninode.contracts.provider import ContractReader
from omninode.contracts.wire import (
    Header,
    Log,
    read_bytes,
    read_header,
    read_logs,
    read_quantity,
)
from omninode.crypto import checksum_address
from omninode.dex.bridge.evm import SettlementDomain
from omninode.errors import EndpointError, Malformed

CODE_BYTES_MAX: Final = 65_536

T = TypeVar("T")


class WrongChain(EndpointFailure):
    """The endpoint answers for another chain, or the contract is not the one of genesis (U1)."""


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """What genesis says that the contract was made with.

    Attributes:
        tokens: The tokens it takes.
        epoch: The epoch of the validators of genesis.
        set_hash: `validator_set_hash` of them.
        stake_token: What the exchange takes for stake, if anything.
        is_staking: Whether the network needs that the contract takes stake.
    """

    tokens: tuple[bytes, ...]
    epoch: int
    set_hash: bytes
    stake_token: bytes | None = None
    is_staking: bool = False


class Source:
    """Asks one endpoint about the chain.

    Args:
        endpoint: Whom.
        abi: The contract.
        domain: The chain, the contract and the network it is for.
        terms: What the contract must have been made with.
        later_set_hash: Returns the hash of the validators of a later epoch, if they are known.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        abi: SettlementAbi,
        domain: SettlementDomain,
        terms: ContractTerms,
        later_set_hash: Callable[[int], bytes | None] = lambda _: None,
    ) -> None:
        self.endpoint: Final = endpoint
        self.reader: Final = ContractReader(endpoint, abi)
        self._abi = abi
        self._domain = domain
        self._terms = terms
        self._later_set_hash = later_set_hash
        self._range_blocks = STRETCH_BLOCKS_MAX

    @property
    def name(self) -> str:
        """What people call the endpoint."""
        return self.endpoint.name

    async def check(self) -> None:
        """Make sure of chain and contract (U1).

        Raises:
            WrongChain: They are others; the message says what differs.
            ChainError: The endpoint failed.
        """
        domain = self._domain
        chain_id = self.read(read_quantity, await self.endpoint.call("eth_chainId", []))
        if chain_id != domain.chain_id:
            raise self._wrong(f"its chain id is {chain_id}, genesis says {domain.chain_id}")
        answer = await self.endpoint.call("eth_getCode", [self._abi.address, "latest"])
        code = self.read(lambda value: read_bytes(value, size_max=CODE_BYTES_MAX), answer)
        if not code:
            raise self._wrong(f"there is no contract at {self._abi.address}")
        if not self._abi.is_code(code):
            raise self._wrong(f"the code at {self._abi.address} is not the settlement contract's")
        if await self.reader.genesis_hash() != domain.genesis_hash:
            raise self._wrong("the settlement contract is for another genesis")
        await self._check_terms(self._terms)

    async def _check_terms(self, terms: ContractTerms) -> None:
        for token in terms.tokens:
            if not await self.reader.is_token(token):
                raise self._wrong(f"the contract does not take token {checksum_address(token)}")
        for token in await self.reader.tokens():
            if token not in terms.tokens:
                # Whoever deposited it would lose it.
                raise self._wrong(f"the contract takes {checksum_address(token)}, genesis does not")
        await self._check_stake_token(terms)
        epoch, set_hash = await self.reader.validator_set()
        if epoch < terms.epoch or (epoch == terms.epoch and set_hash != terms.set_hash):
            raise self._wrong("the contract was made with other validators than those of genesis")
        if epoch > terms.epoch and self._later_set_hash(epoch) not in (None, set_hash):
            raise self._wrong(f"the contract trusts other validators than those of epoch {epoch}")

    async def _check_stake_token(self, terms: ContractTerms) -> None:
        """Refuse a contract whose stake would be credited as something else."""
        token = await self.reader.stake_token()
        if not any(token):
            if terms.is_staking:
                raise self._wrong("the contract takes no stake, genesis has staking")
        elif token != terms.stake_token:
            raise self._wrong(f"the contract takes {checksum_address(token)} as stake")

    async def head(self) -> Header:
        """Return the newest block.

        Raises:
            ChainError: The endpoint failed.
        """
        header = await self._block("eth_getBlockByNumber", "latest")
        if header is None:
            raise self._failure("it has no newest block")
        return header

    async def block(self, number: int) -> Header | None:
        """Return the block at a height, if there is one.

        Raises:
            ChainError: The endpoint failed.
        """
        header = await self._block("eth_getBlockByNumber", hex(number))
        if header is not None and header.number != number:
            raise self._failure(f"block {header.number} for block {number}")
        return header

    async def answer(self, question: Question, branch: Branch) -> None:
        """Ask one question and tell the branch the answer.

        Raises:
            ChainError: The endpoint failed.
        """
        match question:
            case AskNumber(number):
                self._tell_block(branch, await self.block(number))
            case AskHash(block_hash):
                header = await self._block("eth_getBlockByHash", "0x" + block_hash.hex())
                self._tell_block(branch, header)
            case AskLogs(number, block_hash):
                chosen = {"blockHash": "0x" + block_hash.hex()}
                logs = await self._logs(chosen, first=number, last=number)
                try:
                    branch.saw_logs(question, logs)
                except Malformed as error:
                    raise self._failure(str(error)) from None
            case AskStretch():
                await self._answer_stretch(question, branch)

    def _tell_block(self, branch: Branch, header: Header | None) -> None:
        if header is None:
            branch.drop_loose()
            return
        try:
            branch.saw_block(header)
        except Malformed as error:
            raise self._failure(str(error)) from None

    async def _answer_stretch(self, question: AskStretch, branch: Branch) -> None:
        """Read a stretch between two looks at its ends (B3 of `branch`)."""
        before = await self._hash_at(question.last)
        logs: list[Log] = []
        start = question.first
        while start <= question.last:
            end = min(start + self._range_blocks - 1, question.last)
            try:
                chosen = {"fromBlock": hex(start), "toBlock": hex(end)}
                logs += await self._logs(chosen, first=start, last=end)
            except (EndpointError, EndpointFailure) as error:
                if end == start or not (isinstance(error, EndpointError) or error.too_long):
                    raise
                self._range_blocks = (end - start + 1) // 2  # U3
                continue
            start = end + 1
            self._range_blocks = min(self._range_blocks * 2, STRETCH_BLOCKS_MAX)
            if len(logs) > LOGS_MAX and question.last > question.first:
                what = f"more than {LOGS_MAX} logs from block {question.first} on"
                raise EndpointFailure(f"{self.name}: {what}", too_long=True)
        parent_hash = b"" if question.first == 0 else await self._hash_at(question.first - 1)
        if await self._hash_at(question.last) != before:
            raise self._failure(f"block {question.last} was replaced meanwhile")
        try:
            branch.saw_stretch(
                question, parent_hash=parent_hash, last_hash=before, logs=tuple(logs)
            )
        except Malformed as error:
            raise self._failure(str(error)) from None

    async def _hash_at(self, number: int) -> bytes:
        header = await self.block(number)
        if header is None:
            raise self._failure(f"block {number} is gone")
        return header.hash

    async def _block(self, method: str, which: str) -> Header | None:
        answer = await self.endpoint.call(method, [which, False])
        return None if answer is None else self.read(read_header, answer)

    async def _logs(self, chosen: dict[str, str], *, first: int, last: int) -> tuple[Log, ...]:
        contract = self._domain.contract
        answer = await self.endpoint.call("eth_getLogs", [{"address": self._abi.address, **chosen}])
        if last > first and isinstance(answer, list) and len(answer) > LOGS_MAX:
            what = f"more than {LOGS_MAX} logs in blocks {first} to {last}"
            raise EndpointFailure(f"{self.name}: {what}", too_long=True)
        read = partial(read_logs, answer, contract=contract, first=first, last=last)
        try:
            if isinstance(answer, list) and len(answer) > LOGS_DECODED_AT_ONCE:
                return await trio.to_thread.run_sync(read)
            return read()
        except Malformed as error:
            raise self._failure(str(error)) from None

    def read(self, read: Callable[[object], T], value: object) -> T:
        """Read an answer with one of the readers of `wire` (U2).

        Raises:
            EndpointFailure: It has the wrong form.
        """
        try:
            return read(value)
        except Malformed as error:
            raise self._failure(str(error)) from None

    def _failure(self, what: str) -> EndpointFailure:
        return EndpointFailure(f"{self.name}: {what}")

    def _wrong(self, what: str) -> WrongChain:
        return WrongChain(f"{self.name}: {what}")
