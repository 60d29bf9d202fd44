"""The contract's formats against vectors that neither side's code made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omninode.consensus.types import Validator, ValidatorSet
from omninode.crypto import SigningKey, parse_address, recover_address
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.deposits import Deposit, StakeChange, next_deposit_hash
from omninode.dex.bridge.evm import (
    SettlementDomain,
    checkpoint_commitment,
    checkpoint_digest,
    compact_signature,
    fee_leaf,
    handover_digest,
    signer_bitmap,
    state_leaf,
    validator_set_hash,
    validator_set_words,
    withdrawal_leaf,
)
from omninode.encoding import amount_to_bytes
from omninode.errors import Malformed

VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "settlement"


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def test_leaves() -> None:
    vectors = load("leaves")
    for case in vectors["withdrawal"]:
        token, recipient = parse_address(case["token"]), parse_address(case["recipient"])
        leaf = withdrawal_leaf(case["index"], token, recipient, int(case["amount"]))
        assert leaf == unhex(case["leaf"])
    for case in vectors["state"]:
        token, account = parse_address(case["token"]), parse_address(case["account"])
        leaf = state_leaf(case["index"], account, case["subaccount"], token, int(case["amount"]))
        assert leaf == unhex(case["leaf"])
    for case in vectors["fee"]:
        token, recipient = parse_address(case["token"]), parse_address(case["recipient"])
        leaf = fee_leaf(case["index"], recipient, token, int(case["amount"]))
        assert leaf == unhex(case["leaf"])
    assert min(map(len, vectors.values())) > 3


def test_the_rolling_hash_of_deposits() -> None:
    vectors = load("deposits")
    rolling = unhex(vectors["genesis_hash"])
    for case in vectors["deposits"]:
        deposit = Deposit(
            parse_address(case["token"]),
            parse_address(case["account"]),
            case["subaccount"],
            amount_to_bytes(int(case["amount"])),
        )
        rolling = next_deposit_hash(rolling, case["index"], deposit)
        assert rolling == unhex(case["hash"])
    assert len(vectors["deposits"]) > 3
    for case in vectors["stake"]:
        change = StakeChange(
            parse_address(case["owner"]),
            case["kind"],
            amount_to_bytes(int(case["amount"])),
            unhex(case["identity"]),
        )
        rolling = next_deposit_hash(rolling, case["index"], change)
        assert rolling == unhex(case["hash"])
    assert {case["kind"] for case in vectors["stake"]} == {1, 2, 3, 4, 5}


def test_checkpoints_their_commitments_and_signatures() -> None:
    vectors = load("digests")
    domain = SettlementDomain(
        vectors["chain_id"], parse_address(vectors["contract"]), unhex(vectors["genesis_hash"])
    )
    keys = [SigningKey(unhex(secret)) for secret in vectors["secrets"]]
    for case in vectors["checkpoints"]:
        checkpoint = Checkpoint(
            number=case["number"],
            epoch=case["epoch"],
            height=case["height"],
            time_ms=case["timeMs"],
            state_root=unhex(case["stateRoot"]),
            withdrawal_root=unhex(case["withdrawalRoot"]),
            withdrawal_count=case["withdrawalCount"],
            fee_root=unhex(case["feeRoot"]),
            deposit_count=case["depositCount"],
            deposit_hash=unhex(case["depositHash"]),
        )
        digest = checkpoint_digest(checkpoint, domain)
        assert digest == unhex(case["digest"])
        assert checkpoint_commitment(checkpoint) == unhex(case["commitment"])
        for key, expected in zip(keys, case["signatures"], strict=True):
            signature = unhex(expected["signature"])
            assert recover_address(digest, signature) == key.address
            assert key.address == parse_address(expected["signer"])
            assert compact_signature(signature) == unhex(expected["compact"])


def test_handovers_and_their_signatures() -> None:
    vectors = load("digests")
    domain = SettlementDomain(
        vectors["chain_id"], parse_address(vectors["contract"]), unhex(vectors["genesis_hash"])
    )
    for case in vectors["handovers"]:
        digest = handover_digest(
            case["epoch"],
            next_epoch=case["nextEpoch"],
            next_set_hash=unhex(case["nextSetHash"]),
            domain=domain,
        )
        assert digest == unhex(case["digest"])
        for signed in case["signatures"]:
            signer = recover_address(digest, unhex(signed["signature"]))
            assert signer == parse_address(signed["signer"])
    assert vectors["handovers"]


def test_a_checkpoint_of_another_network_contract_or_chain_has_another_digest() -> None:
    checkpoint = Checkpoint(1, 0, 2, 3, bytes(32), bytes(32), 0, bytes(32), 0, bytes(32))
    domains = [
        SettlementDomain(1, bytes(20), bytes(32)),
        SettlementDomain(2, bytes(20), bytes(32)),
        SettlementDomain(1, b"\1" * 20, bytes(32)),
        SettlementDomain(1, bytes(20), b"\1" * 32),
    ]
    assert len({checkpoint_digest(checkpoint, domain) for domain in domains}) == 4


def test_validator_sets() -> None:
    for case in load("validator_sets"):
        validators = tuple(
            Validator(parse_address(v["address"]), bytes(33), b"", "", "", int(v["power"]), 1)
            for v in case["validators"]
        )
        words = validator_set_words(ValidatorSet(0, validators, bytes(32)))
        assert [unhex(word) for word in case["words"]] == list(words)
        assert validator_set_hash(case["epoch"], words) == unhex(case["hash"])


def test_the_bitmap_has_a_bit_for_each_signer() -> None:
    assert signer_bitmap(()) == 0
    assert signer_bitmap((0, 2, 255)) == 1 | 4 | 1 << 255


@pytest.mark.parametrize(
    "signature",
    [b"", bytes(64), bytes(65), bytes(64) + b"\x1d", bytes(32) + b"\x80" + bytes(31) + b"\x1b"],
)
def test_a_signature_that_has_no_compact_form_is_refused(signature: bytes) -> None:
    with pytest.raises(Malformed):
        compact_signature(signature)
