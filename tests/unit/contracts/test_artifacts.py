from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from eth_utils.abi import abi_to_signature

from omninode.contracts.artifacts import Artifact, load_artifact

CONTRACTS = Path(__file__).resolve().parents[3] / "contracts"
NAMES = ("Settlement", "XOM", "TestToken")
CHECKPOINT = "(uint64,uint64,uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32),"

# Nodes, wallets and block explorers depend on these for good.
SETTLEMENT = {
    "function": {
        "addStake(uint256)",
        "commitment(uint256)",
        "deposit(address,uint256,address,uint16)",
        "depositCount()",
        "depositHash()",
        "eip712Domain()",
        "epoch()",
        "exit()",
        "genesisHash()",
        "isRegistered(address)",
        "isToken(address)",
        "isWithdrawn(uint64)",
        "latestCheckpoint()",
        f"proveStake({CHECKPOINT}uint64,address,uint256,bytes32[])",
        "register(uint256,bytes)",
        "rotateValidators(uint64,bytes32,bytes32[],uint256,bytes)",
        "stakeCheckpoint(address)",
        "stakeOf(address)",
        "stakeToken()",
        f"submitCheckpoint({CHECKPOINT}bytes32[],uint256,bytes)",
        "tokens()",
        "unjail()",
        "unstake(uint256)",
        "validatorSetHash()",
        f"withdraw({CHECKPOINT}uint64,address,address,uint256,bytes32[])",
    },
    "event": {
        "Checkpointed(uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32,uint64,uint64)",
        "Deposited(uint64,address,address,uint16,uint256,bytes32)",
        "EIP712DomainChanged()",
        "StakeChanged(uint64,address,uint8,uint256,bytes,bytes32)",
        "StakeProven(address,uint256,uint64)",
        "ValidatorsRotated(uint64,bytes32)",
        "Withdrawn(uint64,address,address,uint256)",
    },
    "error": {
        "AlreadyRegistered()",
        "AlreadyWithdrawn(uint64)",
        "InvalidShortString()",
        "NoQuorum(uint256,uint256)",
        "NoStaking()",
        "NotCheckpointed()",
        "ReentrancyGuardReentrantCall()",
        "SafeERC20FailedOperation(address)",
        "StaleCheckpoint()",
        "StaleProof()",
        "StringTooLong(string)",
        "UnknownToken(address)",
        "WrongAccount()",
        "WrongAmount()",
        "WrongBitmap()",
        "WrongDepositCount()",
        "WrongEpoch()",
        "WrongGenesisHash()",
        "WrongIdentity()",
        "WrongProof()",
        "WrongSignature()",
        "WrongSubaccount()",
        "WrongValidatorSet()",
        "WrongWithdrawalCount()",
    },
}


def document(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((CONTRACTS / "artifacts" / f"{name}.json").read_text())
    return content


@pytest.mark.parametrize("name", NAMES)
def test_it_loads(name: str) -> None:
    artifact = load_artifact(name)
    assert artifact.name == name
    assert len(artifact.bytecode) > len(artifact.deployed_bytecode) > 1_000
    assert artifact is load_artifact(name)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load_artifact("Unsettlement")


def test_there_are_no_other_artifacts() -> None:
    assert {path.stem for path in (CONTRACTS / "artifacts").iterdir()} == set(NAMES)


def test_the_interface_of_the_settlement_contract_stays() -> None:
    found: dict[str, set[str]] = {"function": set(), "event": set(), "error": set()}
    for entry in load_artifact("Settlement").abi:
        if entry["type"] != "constructor":
            found[entry["type"]].add(abi_to_signature(entry))  # type: ignore[arg-type]
    assert found == SETTLEMENT


def test_no_function_takes_coins() -> None:
    for name in NAMES:
        assert [e for e in load_artifact(name).abi if e.get("stateMutability") == "payable"] == []


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_those_that_were_compiled(name: str) -> None:
    """Notices a forgotten build on a machine without the compiler."""
    sources = document(name)["sources"]
    own = {source: known for source, known in sources.items() if not source.startswith("@")}
    assert f"src/{name}.sol" in own
    for source, known in own.items():
        digest = hashlib.sha256((CONTRACTS / source).read_bytes()).hexdigest()
        assert known == f"sha256:{digest}", f"{source} has changed: ./dev contracts --write"


def test_all_were_compiled_by_the_pinned_compiler_with_the_settings_kept() -> None:
    settings = json.loads((CONTRACTS / "compiler.json").read_text())
    assert settings["evmVersion"] == "cancun", "the newest that every chain we settle on has"
    package = json.loads((CONTRACTS / "package.json").read_text())
    for name in NAMES:
        assert document(name)["settings"] == settings
        assert document(name)["compiler"].startswith(package["dependencies"]["solc"] + "+")


def changed(artifact: Artifact, place: int) -> bytes:
    code = bytearray(artifact.deployed_bytecode)
    code[place] ^= 1
    return bytes(code)


def test_code_matches_whatever_its_immutable_values() -> None:
    artifact = load_artifact("Settlement")
    assert artifact.immutable_references
    assert artifact.matches(artifact.deployed_bytecode)
    for reference in artifact.immutable_references:
        last = reference.start + reference.length - 1
        assert artifact.matches(changed(artifact, reference.start))
        assert artifact.matches(changed(artifact, last))


def test_other_code_does_not_match() -> None:
    artifact = load_artifact("Settlement")
    values = {
        place
        for reference in artifact.immutable_references
        for place in range(reference.start, reference.start + reference.length)
    }
    for place in range(0, len(artifact.deployed_bytecode), 7):
        assert artifact.matches(changed(artifact, place)) == (place in values)
    assert not artifact.matches(b"")
    assert not artifact.matches(artifact.deployed_bytecode + b"\0")
    assert not artifact.matches(load_artifact("XOM").deployed_bytecode)
