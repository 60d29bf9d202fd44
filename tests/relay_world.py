"""A chain with the real contract on a real EVM, a gate before it, and one validator's relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_abi.abi import encode
from eth_account import Account

from evm_chain import GENESIS_HASH, Refusal, Server, served
from omninode.contracts import relay as relay_module
from omninode.contracts.abi import SettlementAbi
from omninode.contracts.artifacts import load_artifact
from omninode.contracts.confirmed import ConfirmedLog
from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.errands import Errands
from omninode.contracts.follower import Follower
from omninode.contracts.relay import Relay
from omninode.contracts.sending import GasAccount
from omninode.contracts.source import ContractTerms, Source
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.evm import (
    SettlementDomain,
    checkpoint_digest,
    handover_digest,
    validator_set_hash,
)
from omninode.dex.bridge.handover import CertifiedHandover, Handover
from omninode.dex.bridge.stake_proofs import StakeProof
from omninode.errors import EndpointError
from omninode.storage.database import Database

CHAIN_ID = 31_337
DEPLOYER = SigningKey(b"\xdd" * 32)
PAYER = SigningKey(b"\xaa" * 32)
VALIDATORS = [SigningKey(bytes([1 + place]) * 32) for place in range(4)]
WORDS = tuple(key.address + (10).to_bytes(12, "big") for key in VALIDATORS)
TOKEN = b"\x70" * 20
NEXT_WORDS = (*WORDS[1:], SigningKey(b"\x05" * 32).address + (30).to_bytes(12, "big"))
TERMS = ContractTerms((TOKEN,), 0, validator_set_hash(0, WORDS), TOKEN)
COINS = 10**20
COLUMN = b"e"
DEADLINE_S = 30
SEND = "eth_sendRawTransaction"
SUBMIT_GAS = 400_000


def contract_address(deployer: bytes) -> bytes:
    """Where the deployer's first transaction puts a contract: its RLP is `[address, 0]`."""
    return keccak256(b"\xd6\x94" + deployer + b"\x80")[12:]


DOMAIN = SettlementDomain(CHAIN_ID, contract_address(DEPLOYER.address), GENESIS_HASH)
ABI = SettlementAbi(DOMAIN.contract)


def handover(signers: tuple[int, ...] = (0, 2, 3)) -> CertifiedHandover:
    """From the validators of genesis to those of epoch 3."""
    next_hash = validator_set_hash(3, NEXT_WORDS)
    digest = handover_digest(0, next_epoch=3, next_set_hash=next_hash, domain=DOMAIN)
    signatures = tuple((place, VALIDATORS[place].sign(digest)) for place in signers)
    return CertifiedHandover(Handover(0, WORDS, 3, next_hash), signatures)


def certified(
    number: int,
    *,
    signers: tuple[int, ...] = (0, 1, 2),
    epoch: int = 0,
    state_root: bytes = b"\1" * 32,
) -> CertifiedCheckpoint:
    checkpoint = Checkpoint(
        number,
        epoch,
        10 * number,
        1_000 + number,
        state_root,
        bytes(32),
        0,
        b"\2" * 32,
        0,
        GENESIS_HASH,
    )
    digest = checkpoint_digest(checkpoint, DOMAIN)
    keys = VALIDATORS if epoch == 0 else [*VALIDATORS[1:], SigningKey(b"\x05" * 32)]
    return CertifiedCheckpoint(
        checkpoint, tuple((place, keys[place].sign(digest)) for place in signers)
    )


def make_hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the relay's pauses."""
    monkeypatch.setattr(relay_module, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(relay_module, "FAILURE_PAUSE_S", 0.1)
    monkeypatch.setattr(relay_module, "EMPTY_PAUSE_S", 0.2)
    monkeypatch.setattr(relay_module, "RESEND_S", 0.3)


class World:
    """A chain with the contract, a gate before it, and what one validator runs.

    Attributes:
        sent: Raw transactions that came to the gate, in order.
        certified: The newest certified checkpoint.
        index: The validator's place in the set.
    """

    def __init__(self, path: Path) -> None:
        self.sent: list[bytes] = []
        self.certified: CertifiedCheckpoint | None = None
        self.handovers: dict[int, CertifiedHandover] = {}
        self.proofs: dict[int, tuple[StakeProof, ...]] = {}
        self.index: int | None = 1
        self.gate = Server(self.forward)
        self._path = path

    async def start(self, nursery: trio.Nursery, *, coins: int) -> None:
        alloc = {checksum_address(DEPLOYER.address): COINS}
        if coins:
            alloc[checksum_address(PAYER.address)] = coins
        settings = ChainSettings(
            home=self._path / "chain", port=0, block_interval_ms=100, alloc=alloc
        )
        self.chain = Endpoint(await nursery.start(run_chain, settings), timeout_s=10)
        arguments = encode(
            ["bytes32", "uint64", "bytes32", "address[]", "address"],
            [GENESIS_HASH, 0, validator_set_hash(0, WORDS), [checksum_address(TOKEN)], TOKEN],
        )
        await self.act(None, load_artifact("Settlement").bytecode + arguments, gas=6_000_000)

    async def act(self, to: bytes | None, data: bytes = b"", *, gas: int, value: int = 0) -> None:
        """Send a transaction of the deployer and wait until it has succeeded."""
        sender = checksum_address(DEPLOYER.address)
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": int(await self.chain.call("eth_getTransactionCount", [sender, "latest"]), 16),
            "value": value,
            "data": data,
            "gas": gas,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        }
        if to is not None:
            fields["to"] = checksum_address(to)
        raw = Account.sign_transaction(fields, DEPLOYER.secret).raw_transaction.to_0x_hex()
        name = await self.chain.call(SEND, [raw])
        with trio.fail_after(DEADLINE_S):
            while (found := await self.chain.call("eth_getTransactionReceipt", [name])) is None:
                await trio.sleep(0.02)
        assert found["status"] == "0x1", found

    async def forward(self, method: str, params: list[Any]) -> Any:
        if method == SEND:
            self.sent.append(bytes.fromhex(params[0][2:]))
        return await self.ask(method, params)

    async def ask(self, method: str, params: list[Any]) -> Any:
        """Ask the chain itself."""
        try:
            return await self.chain.call(method, params)
        except EndpointError as error:
            raise Refusal(error.code, str(error), error.data) from None

    @asynccontextmanager
    async def validator(self) -> AsyncIterator[None]:
        """Run the validator's part; leaving it is a crash with what is on the disk kept."""
        self.database = Database.open(self._path / "node")
        endpoint = Endpoint(self.gate.url, timeout_s=5)
        confirmed = ConfirmedLog(self.database, column=COLUMN, domain=DOMAIN, start_block=1)
        self.confirmed = confirmed
        self.follower = Follower(
            [Source(endpoint, abi=ABI, domain=DOMAIN, terms=TERMS)],
            abi=ABI,
            confirmed=confirmed,
            confirmations=2,
            poll_interval_s=0.05,
            on_change=self._changed,
        )
        self.account = GasAccount(PAYER, self.database, column=COLUMN, chain_id=CHAIN_ID)
        self.relay = Relay(
            self.account,
            abi=ABI,
            follower=self.follower,
            errands=Errands(
                ABI,
                certified=lambda: self.certified,
                words={0: WORDS, 3: NEXT_WORDS}.get,
                handover=self.handovers.get,
                proofs=lambda number: self.proofs.get(number, ()),
            ),
            turn=lambda: (self.index, len(WORDS)),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self.follower.run)
            await nursery.start(self.relay.run)
            yield
            nursery.cancel_scope.cancel()
        await endpoint.close()
        self.database.close()

    def _changed(self) -> None:
        self.relay.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(DEADLINE_S):
            while not condition():
                await trio.sleep(0.01)
            return
        pytest.fail(
            f"{self.relay.trouble!r} {self.relay.counts} {len(self.sent)} sent, "
            f"open: {self.account.open is not None}, {self.follower.state()}"
        )

    async def on_chain(self, number: int) -> None:
        """Wait until the contract has a checkpoint, and our transaction is settled."""
        await self.until(lambda: self.follower.newest_checkpoint >= number)
        assert await self.latest() >= number
        await self.until(lambda: self.account.open is None)

    async def latest(self) -> int:
        call = {
            "to": checksum_address(DOMAIN.contract),
            "data": "0x" + keccak256(b"latestCheckpoint()")[:4].hex(),
        }
        return int((await self.chain.call("eth_call", [call, "latest"]))[2:66], 16)

    async def transactions(self) -> int:
        """How many of the payer's transactions are in blocks."""
        sender = checksum_address(PAYER.address)
        return int(await self.chain.call("eth_getTransactionCount", [sender, "latest"]), 16)


@asynccontextmanager
async def chain_world(path: Path, *, coins: int = COINS) -> AsyncIterator[World]:
    world = World(path)
    async with trio.open_nursery() as nursery, served(world.gate):
        await world.start(nursery, coins=coins)
        yield world
        await world.chain.close()
        nursery.cancel_scope.cancel()
