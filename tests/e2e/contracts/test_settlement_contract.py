"""The committed settlement contract on py-evm: vectors, a whole round of money, and gas.

What it refuses is tested by forge (`contracts/test`, `./dev contracts`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_utils.crypto import keccak

from omninode.contracts.artifacts import load_artifact
from omninode.dex.bridge.deposits import Deposit, LogEntry, StakeChange, next_deposit_hash
from omninode.encoding import amount_to_bytes
from settlement_signing import EPOCH, Signers, as_argument, checkpoint, digest_for, formats
from settlement_world import CHAIN_ID, DEPLOYER, Contract, Reverted, SettlementWorld

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "settlement"
GENESIS_HASH: bytes = formats.GENESIS_HASH
ALICE = keccak(b"alice")[:20]
NOBODY = bytes(20)
SLOTS = 16
MANY = 10**30


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def data(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def text(value: bytes) -> str:
    return "0x" + value.hex()


class Market:
    """A vault with one token, which backs a genesis and is in the deployer's hands as well."""

    def __init__(self, validators: int) -> None:
        self.world = SettlementWorld()
        self.signers = Signers(validators)
        self.token = self.world.deploy("TestToken", "Test USD", "USDC", 6, self.world.deployer)
        self.vault = self.world.deploy(
            "Settlement",
            GENESIS_HASH,
            EPOCH,
            self.signers.set_hash(EPOCH),
            [self.token.address],
            self.token.address,
        )
        self.token.send("mint", self.vault.address, 10**12)
        self.token.send("mint", self.world.deployer, 10**12)
        self.token.send("approve", self.vault.address, MANY)

    def submit(self, values: dict[str, Any]) -> int:
        signed = self.signers.sign(digest_for(self.vault.address, values), self.signers.quorum)
        return self.vault.send("submitCheckpoint", as_argument(values), *signed).gas

    def deposit(self, amount: int) -> int:
        return self.vault.send("deposit", self.token.address, amount, ALICE, 3).gas

    def leaf(self, index: int, recipient: bytes, amount: int) -> bytes:
        types = ["uint64", "address", "address", "uint256"]
        return data(formats.twice(types, [index, self.token.address, recipient, amount]))

    def withdraw(
        self, values: dict[str, Any], index: int, to: bytes, amount: int, proof: list[bytes]
    ) -> int:
        arguments = (as_argument(values), index, self.token.address, to, amount, proof)
        return self.vault.send("withdraw", *arguments).gas


# --- Vectors --------------------------------------------------------------------------------------


def test_the_vectors_are_what_their_script_writes() -> None:
    for name in ("digests", "validator_sets", "deposits", "leaves", "trees"):
        assert vectors(name) == getattr(formats, name)()


def placed_at_the_vectors_address(
    set_hash: bytes, epoch: int, deposit_count: int
) -> tuple[SettlementWorld, Contract]:
    """Put a settlement contract where the vectors' signatures say it is.

    Epoch and deposit count share a slot, which is found by an epoch that nothing else is equal to.
    """
    marker = 0xE90C_0000_1234_5678
    source = SettlementWorld()
    vault = source.deploy("Settlement", GENESIS_HASH, marker, set_hash, [], NOBODY)
    storage = source.storage(vault.address, SLOTS)
    (slot,) = (slot for slot, value in storage.items() if value == marker)
    storage[slot] = epoch | deposit_count << 64
    place = data(formats.CONTRACT)
    world = SettlementWorld({place: (source.code(vault.address), storage)})
    return world, world.at("Settlement", place)


@pytest.mark.parametrize("case", vectors("digests")["checkpoints"], ids=lambda c: c["number"])
def test_checkpoint_vectors_are_accepted(case: dict[str, Any]) -> None:
    words = [data(s["signer"]) + (1).to_bytes(12) for s in case["signatures"]]
    set_hash = keccak(formats.encode(["uint64", "bytes32[]"], [case["epoch"], words]))
    _, vault = placed_at_the_vectors_address(set_hash, case["epoch"], case["depositCount"])
    assert vault.call("epoch") == case["epoch"]
    assert vault.call("depositCount") == case["depositCount"]
    argument = tuple(
        data(case[name]) if kind == "bytes32" else case[name] for name, kind in formats.FIELDS
    )
    signatures = b"".join(data(s["compact"]) for s in case["signatures"])
    outcome = vault.send("submitCheckpoint", argument, words, 2 ** len(words) - 1, signatures)
    (event,) = outcome.events
    assert event.pop("event") == "Checkpointed"
    del event["address"]
    assert {k: text(v) if isinstance(v, bytes) else v for k, v in event.items()} == {
        name: case[name] for name, _ in formats.FIELDS
    }
    assert text(vault.call("commitment", case["number"] % 256)) == case["commitment"]
    assert vault.call("latestCheckpoint") == (case["number"], case["height"], case["timeMs"])


@pytest.mark.parametrize("case", vectors("digests")["handovers"], ids=lambda c: c["nextEpoch"])
def test_handover_vectors_are_accepted(case: dict[str, Any]) -> None:
    words = [data(s["signer"]) + (1).to_bytes(12) for s in case["signatures"]]
    set_hash = keccak(formats.encode(["uint64", "bytes32[]"], [case["epoch"], words]))
    _, vault = placed_at_the_vectors_address(set_hash, case["epoch"], 0)
    signatures = b"".join(data(s["compact"]) for s in case["signatures"])
    next_hash = data(case["nextSetHash"])
    vault.send(
        "rotateValidators", case["nextEpoch"], next_hash, words, 2 ** len(words) - 1, signatures
    )
    assert vault.call("epoch") == case["nextEpoch"]
    assert vault.call("validatorSetHash") == next_hash


@pytest.mark.parametrize("case", vectors("validator_sets"), ids=lambda c: len(c["words"]))
def test_validator_set_vectors_are_known(case: dict[str, Any]) -> None:
    """Without signatures the right set lacks a quorum, and any other set is the wrong one."""
    vault = SettlementWorld().deploy(
        "Settlement", GENESIS_HASH, case["epoch"], data(case["hash"]), [], NOBODY
    )
    argument = as_argument(checkpoint(1, epoch=case["epoch"]))
    words = [data(word) for word in case["words"]]
    with pytest.raises(Reverted, match="NoQuorum"):
        vault.send("submitCheckpoint", argument, words, 0, b"")
    with pytest.raises(Reverted, match="WrongValidatorSet"):
        vault.send("submitCheckpoint", argument, [*words, bytes(32)], 0, b"")


def test_deposit_vectors_make_the_same_chain() -> None:
    source = SettlementWorld()
    model = source.deploy("TestToken", "Test USD", "USDC", 6, source.deployer)
    code = source.code(model.address)
    world = SettlementWorld({data(token): (code, {}) for token in formats.TOKENS})
    vault = world.deploy("Settlement", GENESIS_HASH, 0, b"\x01" * 32, formats.TOKENS, NOBODY)
    for token in formats.TOKENS:
        contract = world.at("TestToken", data(token))
        contract.send("mint", world.deployer, 2**200)
        contract.send("approve", vault.address, 2**200)
    for case in vectors("deposits")["deposits"]:
        arguments = (case["token"], int(case["amount"]), case["account"], case["subaccount"])
        (event,) = vault.send("deposit", *arguments).events
        assert event["index"] == case["index"]
        assert text(event["depositHash"]) == case["hash"]
        assert text(vault.call("depositHash")) == case["hash"]


def test_withdrawal_leaf_vectors_are_paid() -> None:
    source = SettlementWorld()
    model = source.deploy("TestToken", "Test USD", "USDC", 6, source.deployer)
    code = source.code(model.address)
    world = SettlementWorld({data(token): (code, {}) for token in formats.TOKENS})
    signers = Signers(1)
    set_hash = signers.set_hash(EPOCH)
    vault = world.deploy("Settlement", GENESIS_HASH, EPOCH, set_hash, formats.TOKENS, NOBODY)
    cases = vectors("leaves")["withdrawal"]
    leaves = [data(case["leaf"]) for case in cases]
    values = checkpoint(1, withdrawalRoot=formats.root_of(leaves), withdrawalCount=2**64 - 1)
    signed = signers.sign(digest_for(vault.address, values), 1)
    vault.send("submitCheckpoint", as_argument(values), *signed)
    for token in formats.TOKENS:
        world.at("TestToken", data(token)).send("mint", vault.address, 2**200)
    for place, case in enumerate(cases):
        what = (case["index"], case["token"], case["recipient"], int(case["amount"]))
        proof = formats.proof_of(leaves, place)
        if case["index"] == 2**64 - 1:  # no count is above it
            with pytest.raises(Reverted, match="WrongProof"):
                vault.send("withdraw", as_argument(values), *what, proof)
            continue
        vault.send("withdraw", as_argument(values), *what, proof)
        assert vault.call("isWithdrawn", case["index"])


# --- A round of money -----------------------------------------------------------------------------


def test_deployed_code_is_the_artifacts() -> None:
    market = Market(4)
    assert load_artifact("Settlement").matches(market.world.code(market.vault.address))
    assert load_artifact("TestToken").matches(market.world.code(market.token.address))
    xom = market.world.deploy("XOM", ALICE, 10**27)
    assert load_artifact("XOM").matches(market.world.code(xom.address))
    assert xom.call("balanceOf", ALICE) == 10**27


def test_money_goes_in_and_out_to_the_last_unit() -> None:
    market = Market(4)
    market.deposit(1_000)
    market.deposit(500)
    amounts = [700, 1, 299, 10**12]
    people = [keccak(b"person %d" % i)[:20] for i in range(len(amounts))]
    leaves = [
        market.leaf(index, who, amount)
        for index, (who, amount) in enumerate(zip(people, amounts, strict=True))
    ]
    values = checkpoint(
        1,
        withdrawalRoot=formats.root_of(leaves),
        withdrawalCount=len(leaves),
        depositCount=2,
        depositHash=market.vault.call("depositHash"),
    )
    market.submit(values)
    for index, (who, amount) in enumerate(zip(people, amounts, strict=True)):
        proof = formats.proof_of(leaves, index)
        market.withdraw(values, index, who, amount, proof)
        with pytest.raises(Reverted, match="AlreadyWithdrawn"):
            market.withdraw(values, index, who, amount, proof)
        assert market.token.call("balanceOf", who) == amount
    assert market.token.call("balanceOf", market.vault.address) == 500
    assert market.token.call("totalSupply") == 2 * 10**12


def test_entries_of_stake_make_the_chain_that_the_exchange_makes() -> None:
    """Every kind of entry, a deposit among them, hashed as the exchange hashes it."""
    market = Market(4)
    vault, owner, who = market.vault, market.world.deployer, b"who" * 100
    asked: list[tuple[LogEntry, str, tuple[Any, ...]]] = [
        (
            StakeChange(owner, 1, amount_to_bytes(900), who),
            "register",
            (900, who),
        ),
        (StakeChange(owner, 2, amount_to_bytes(50), b""), "addStake", (50,)),
        (
            Deposit(market.token.address, ALICE, 3, amount_to_bytes(7)),
            "deposit",
            (market.token.address, 7, ALICE, 3),
        ),
        (StakeChange(owner, 3, amount_to_bytes(40), b""), "unstake", (40,)),
        (StakeChange(owner, 5, bytes(16), b""), "unjail", ()),
        (StakeChange(owner, 4, bytes(16), b""), "exit", ()),
    ]
    rolling = GENESIS_HASH
    for index, (entry, function, arguments) in enumerate(asked):
        rolling = next_deposit_hash(rolling, index, entry)
        (event, *_) = vault.send(function, *arguments).events
        assert event["index"] == index
        assert event["depositHash"] == vault.call("depositHash") == rolling
    assert market.token.call("balanceOf", vault.address) == 10**12 + 957
    assert vault.call("stakeOf", owner) == 0
    assert not vault.call("isRegistered", owner)


# --- Gas ------------------------------------------------------------------------------------------
# `pytest -rP -k gas_of` on this file prints what docs/benchmarks.md has.


@pytest.mark.parametrize(
    ("validators", "first", "later", "used_slot"),
    [(4, 98_000, 81_000, 64_000), (16, 143_000, 126_000, 109_000), (64, 320_000, 303_000, 286_000)],
)
def test_gas_of_a_checkpoint(validators: int, first: int, later: int, used_slot: int) -> None:
    market = Market(validators)
    used = [market.submit(checkpoint(number)) for number in (1, 2, 258)]
    print("checkpoint: first, later, used slot:", *used)  # noqa: T201 - shown by -rP
    assert used[0] <= first
    assert used[1] <= later
    assert used[2] <= used_slot


@pytest.mark.parametrize(
    ("depth", "first_in_word", "new_holder", "holder"),
    [(10, 98_000, 81_000, 64_000), (20, 105_000, 88_000, 71_000), (32, 114_000, 97_000, 80_000)],
)
def test_gas_of_a_withdrawal(depth: int, first_in_word: int, new_holder: int, holder: int) -> None:
    """A word of the nullifiers serves 256 withdrawals; a new holder costs the token a slot."""
    market = Market(1)
    count = 2**depth
    proof = [keccak(b"sibling %d" % i) for i in range(depth)]
    people = [keccak(b"one")[:20], keccak(b"two")[:20], keccak(b"two")[:20]]
    used = []
    for number, who in enumerate(people, 1):
        root = market.leaf(count - number, who, 10**6)
        for sibling in proof:
            root = formats.node(root, sibling)
        values = checkpoint(number, withdrawalRoot=root, withdrawalCount=count)
        market.submit(values)
        used.append(market.withdraw(values, count - number, who, 10**6, proof))
    print("withdrawal: first of its 256, new holder, holder:", *used)  # noqa: T201 - as above
    assert used[0] <= first_in_word
    assert used[1] <= new_holder
    assert used[2] <= holder


def test_gas_of_a_deposit() -> None:
    """The first that the contract ever has of a token, with allowance left, and using it up."""
    market = Market(1)
    signers, token = market.signers.set_hash(EPOCH), market.token
    empty = market.world.deploy("Settlement", GENESIS_HASH, EPOCH, signers, [token.address], NOBODY)
    token.send("approve", empty.address, MANY)
    used = [empty.send("deposit", token.address, 10**6, ALICE, 3).gas, market.deposit(10**6)]
    token.send("approve", market.vault.address, 10**6)
    used.append(market.deposit(10**6))
    print("deposit: first of its token, later, allowance used up:", *used)  # noqa: T201 - as above
    assert used[0] <= 79_000
    assert used[1] <= 62_000
    assert used[2] <= 57_000


def test_gas_of_staking() -> None:
    """Registering with an identity of 320 bytes, as with a beacon key, then all that follows."""
    market = Market(1)
    vault, owner = market.vault, market.world.deployer
    used = [vault.send("register", 10**9, b"\x01" * 320).gas, vault.send("addStake", 10**6).gas]
    used += [vault.send("unstake", 10**6).gas, vault.send("unjail").gas]
    inner = ["uint64", "address", "uint16", "address", "uint256"]
    root = data(formats.twice(inner, [2**20 - 1, owner, 1000, market.token.address, 10**6]))
    proof = [keccak(b"sibling %d" % i) for i in range(20)]
    for sibling in proof:
        root = formats.node(root, sibling)
    for number in (1, 2):
        values = checkpoint(number, stateRoot=root, depositCount=4)
        market.submit(values)
        arguments = (as_argument(values), 2**20 - 1, owner, 10**6, proof)
        used.append(vault.send("proveStake", *arguments).gas)
    assert vault.call("stakeOf", owner) == 10**6
    used.append(vault.send("exit").gas)
    names = "register, more, less, unjail, first proof, later proof, exit"
    print(f"staking: {names}:", *used)  # noqa: T201 - as above
    limits = (91_000, 65_000, 42_000, 42_000, 74_000, 56_000, 42_000)
    assert all(gas <= limit for gas, limit in zip(used, limits, strict=True)), used


# --- A second EVM ---------------------------------------------------------------------------------


@contextmanager
def anvil(program: str) -> Iterator[Callable[..., Any]]:
    """Run anvil on a port of its choice and yield how to ask it something."""
    command = [program, "--port", "0", "--hardfork", "prague", "--no-mining"]
    command += ["--chain-id", str(CHAIN_ID)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        httpx.Client(timeout=30) as client,
    ):
        try:
            assert process.stdout
            listening = next(line for line in process.stdout if line.startswith("Listening on "))
            url = f"http://{listening.split()[-1]}"

            def ask(method: str, *params: Any) -> Any:
                request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                reply = client.post(url, json=request).json()
                assert "error" not in reply, reply
                return reply["result"]

            yield ask
        finally:
            process.kill()


def test_anvil_comes_to_the_same_outcomes_and_gas(npm_program: Callable[[str], str]) -> None:
    """The same transactions, so the same addresses and signatures, on another implementation."""
    market = Market(16)
    market.deposit(5)
    leaves = [market.leaf(index, ALICE, 10 + index) for index in range(5)]
    values = checkpoint(1, withdrawalRoot=formats.root_of(leaves), withdrawalCount=5)
    market.submit(values)
    for index in range(5):
        proof = formats.proof_of(leaves, index)
        market.withdraw(values, index, ALICE, 10 + index, proof)

    sender = DEPLOYER.public_key.to_checksum_address()
    with anvil(npm_program("anvil")) as ask:
        ask("anvil_setBalance", sender, hex(10**30))
        ask("anvil_impersonateAccount", sender)
        for sent in market.world.sent:
            transaction = {"from": sender, "data": text(sent.data), "gas": hex(10**7)}
            if sent.to:
                transaction["to"] = text(sent.to)
            sent_hash = ask("eth_sendTransaction", transaction)
            ask("evm_mine")
            receipt = ask("eth_getTransactionReceipt", sent_hash)
            assert receipt["status"] == "0x1"
            assert int(receipt["gasUsed"], 16) == sent.gas
        for contract in (market.vault, market.token):
            code = ask("eth_getCode", text(contract.address), "latest")
            assert data(code) == market.world.code(contract.address)
