"""The compiled contracts on py-evm, in this process: one block that takes all transactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode, encode
from eth_keys.datatypes import PrivateKey
from eth_utils.abi import (
    abi_to_signature,
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
    function_signature_to_4byte_selector,
    get_abi_input_types,
    get_abi_output_types,
)

from omninode.contracts.artifacts import Artifact, load_artifact

CHAIN_ID = 31337
DEPLOYER = PrivateKey(b"\x01" * 32)
BLOCK_GAS = 10**12
TRANSACTION_GAS = 16_000_000
EVM_PARAMETERS = {
    "coinbase": b"\xcb" * 20,
    "difficulty": 0,
    "gas_limit": BLOCK_GAS,
    "timestamp": 1_700_000_000,
}


class Reverted(Exception):
    """A transaction or call failed; `name` is the custom error's name, `data` all that was said."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name)
        self.name = name
        self.data = data


@dataclass(frozen=True)
class Sent:
    to: bytes
    data: bytes
    gas: int


@dataclass(frozen=True)
class Outcome:
    gas: int
    events: list[dict[str, Any]]
    created: bytes


class SettlementWorld:
    """A chain and what is deployed on it.

    Attributes:
        sent: The transactions that succeeded.

    Args:
        placed: Contracts that are there from the start, as (code, storage) by address.
    """

    def __init__(self, placed: dict[bytes, tuple[bytes, dict[int, int]]] | None = None) -> None:
        configured = MiningChain.configure(vm_configuration=((0, PragueVM),), chain_id=CHAIN_ID)
        state = {
            address: {"balance": 0, "nonce": 1, "code": code, "storage": storage}
            for address, (code, storage) in (placed or {}).items()
        }
        rich = {"balance": 10**30, "nonce": 0, "code": b"", "storage": {}}
        self._chain: Any = configured.from_genesis(
            AtomicDB(), EVM_PARAMETERS, {**state, DEPLOYER.public_key.to_canonical_address(): rich}
        )
        self.sent: list[Sent] = []
        self.deployer: bytes = DEPLOYER.public_key.to_canonical_address()

    def deploy(self, name: str, *arguments: Any) -> Contract:
        artifact = load_artifact(name)
        entry = next(e for e in artifact.abi if e["type"] == "constructor")
        data = artifact.bytecode + encode(get_abi_input_types(entry), arguments)
        outcome = self.send(artifact, b"", data, DEPLOYER)
        return Contract(self, artifact, outcome.created)

    def at(self, name: str, address: bytes) -> Contract:
        return Contract(self, load_artifact(name), address)

    def code(self, address: bytes) -> bytes:
        return bytes(self._state().get_code(address))

    def storage(self, address: bytes, slots: int) -> dict[int, int]:
        """The first slots of a contract's storage."""
        return {slot: self._state().get_storage(address, slot) for slot in range(slots)}

    def send(self, artifact: Artifact, to: bytes, data: bytes, sender: PrivateKey) -> Outcome:
        """Execute a transaction; raise `Reverted` if it fails, with everything undone."""
        vm = self._chain.get_vm()
        unsigned = vm.create_unsigned_transaction(
            nonce=self._state().get_nonce(sender.public_key.to_canonical_address()),
            gas_price=10**10,
            gas=TRANSACTION_GAS,
            to=to,
            value=0,
            data=data,
        )
        transaction = unsigned.as_signed_transaction(sender, chain_id=CHAIN_ID)
        before = vm.get_header().gas_used
        _, receipt, computation = self._chain.apply_transaction(transaction)
        if computation.is_error:
            raise reverted(artifact, computation.output)
        events = [
            decoded
            for entry in computation.get_log_entries()
            if (decoded := decode_log(artifact, *entry)) is not None
        ]
        gas = receipt.gas_used - before
        self.sent.append(Sent(to, data, gas))
        return Outcome(gas, events, computation.msg.storage_address)

    def call(self, to: bytes, data: bytes) -> bytes:
        """Execute without effect and return the output."""
        vm = self._chain.get_vm()
        unsigned = vm.create_unsigned_transaction(
            nonce=vm.state.get_nonce(self.deployer),
            gas_price=10**10,
            gas=TRANSACTION_GAS,
            to=to,
            value=0,
            data=data,
        )
        with vm.in_costless_state() as state:
            spoof = SpoofTransaction(unsigned, from_=self.deployer)
            computation = state.costless_execute_transaction(spoof)
        computation.raise_if_error()
        return bytes(computation.output)

    def _state(self) -> Any:
        return self._chain.get_vm().state


class Contract:
    """One deployed contract."""

    def __init__(self, world: SettlementWorld, artifact: Artifact, address: bytes) -> None:
        self._world = world
        self._artifact = artifact
        self.address = address

    def send(self, function: str, *arguments: Any, sender: PrivateKey = DEPLOYER) -> Outcome:
        data = self.calldata(function, *arguments)
        return self._world.send(self._artifact, self.address, data, sender)

    def calldata(self, function: str, *arguments: Any) -> bytes:
        entry = self._entry(function)
        return function_abi_to_4byte_selector(entry) + encode(get_abi_input_types(entry), arguments)

    def call(self, function: str, *arguments: Any) -> Any:
        """Return what a view answers: its value, or all of them as a tuple."""
        output = self._world.call(self.address, self.calldata(function, *arguments))
        values = decode(get_abi_output_types(self._entry(function)), output)
        return values[0] if len(values) == 1 else values

    def _entry(self, function: str) -> Any:
        return next(
            e for e in self._artifact.abi if e["type"] == "function" and e["name"] == function
        )


def decode_log(
    artifact: Artifact, address: bytes, topics: tuple[int, ...], data: bytes
) -> dict[str, Any] | None:
    """Return an event's arguments with its name and address, or `None` if the ABI has no such."""
    words = [topic.to_bytes(32) for topic in topics]
    for entry in artifact.abi:
        if entry["type"] != "event" or event_abi_to_log_topic(entry) != words[0]:
            continue
        indexed = [i for i in entry["inputs"] if i["indexed"]]
        plain = [i for i in entry["inputs"] if not i["indexed"]]
        values = decode([i["type"] for i in plain], data)
        found = {i["name"]: value for i, value in zip(plain, values, strict=True)}
        for i, word in zip(indexed, words[1:], strict=True):
            found[i["name"]] = decode([i["type"]], word)[0]
        return {"event": entry["name"], "address": address, **found}
    return None


def reverted(artifact: Artifact, data: bytes) -> Reverted:
    for entry in artifact.abi:
        if (
            entry["type"] == "error"
            and function_signature_to_4byte_selector(abi_to_signature(entry)) == data[:4]
        ):
            return Reverted(entry["name"], data)
    return Reverted("", data)
