"""The contract's events, calls and errors, against the compiled contract and what chance makes."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from evm_chain import (
    CONTRACT,
    GENESIS_HASH,
    STAKE_CHANGED,
    SimChain,
    Told,
    checkpointed,
    deposit_hash_of,
    deposit_of,
    deposited,
    rotated,
    stake_changed,
    withdrawn,
    word,
)
from omninode.contracts.abi import SettlementAbi
from omninode.contracts.artifacts import load_artifact
from omninode.contracts.events import Checkpointed, Deposited, Ledger, Rotated, Withdrawn, fold
from omninode.contracts.wire import Log
from omninode.crypto import SigningKey, keccak256
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.deposits import (
    ADD_STAKE,
    EXIT,
    REGISTER,
    UNJAIL,
    UNSTAKE,
    Cursor,
    StakeChange,
    next_deposit_hash,
)
from omninode.dex.bridge.handover import CertifiedHandover, Handover
from omninode.encoding import amount_to_bytes
from omninode.errors import Malformed

ABI = SettlementAbi(CONTRACT)


def log_of(told: Told) -> Log:
    chain = SimChain()
    return chain.extend(1, told).logs[0]


def test_events_are_decoded() -> None:
    assert ABI.decode_log(log_of(deposited(0))) == Deposited(0, deposit_of(0), deposit_hash_of(1))
    assert ABI.decode_log(log_of(checkpointed(7))) == Checkpointed(7)
    assert ABI.decode_log(log_of(withdrawn(9))) == Withdrawn(9)
    assert ABI.decode_log(log_of(rotated(3))) == Rotated(3)


@pytest.mark.parametrize(
    "change",
    [
        StakeChange(b"\x0a" * 20, REGISTER, amount_to_bytes(7), b"\1"),
        StakeChange(b"\x0a" * 20, REGISTER, amount_to_bytes(2**128 - 1), b"\xff" * 512),
        StakeChange(b"\x0a" * 20, ADD_STAKE, amount_to_bytes(7), b""),
        StakeChange(b"\x0a" * 20, UNSTAKE, amount_to_bytes(7), b""),
        StakeChange(b"\x0a" * 20, EXIT, bytes(16), b""),
        StakeChange(b"\x0a" * 20, UNJAIL, bytes(16), b""),
    ],
)
def test_entries_of_stake_are_decoded_and_stand_among_deposits(change: StakeChange) -> None:
    log = log_of(stake_changed(1, change))
    after = next_deposit_hash(deposit_hash_of(1), 1, change)
    assert ABI.decode_log(log) == Deposited(1, change, after)
    first = log_of(deposited(0))
    events = [(entry, ABI.decode_log(entry)) for entry in (first, log)]
    assert fold(Ledger(Cursor(0, GENESIS_HASH)), events) == Ledger(Cursor(2, after))
    with pytest.raises(Malformed):
        fold(Ledger(Cursor(0, GENESIS_HASH)), events[1:])


def stake_data(*values: object) -> bytes:
    return encode(["uint256", "bytes", "bytes32"], list(values))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (0, stake_data(7, b"", bytes(32))),
        (6, stake_data(0, b"", bytes(32))),
        (REGISTER, stake_data(7, b"", bytes(32))),
        (REGISTER, stake_data(0, b"\1", bytes(32))),
        (REGISTER, stake_data(7, b"\1" * 513, bytes(32))),
        (REGISTER, stake_data(2**128, b"\1", bytes(32))),
        (REGISTER, stake_data(7, b"\1", bytes(32)) + bytes(32)),
        (REGISTER, stake_data(7, b"\1", bytes(32))[:-1] + b"\1"),
        (REGISTER, stake_data(7, b"\1", bytes(32))[:-32]),
        (ADD_STAKE, stake_data(7, b"\1", bytes(32))),
        (EXIT, stake_data(7, b"", bytes(32))),
        (ADD_STAKE, word(7) + word(2**255) + word(0)),
    ],
)
def test_what_is_no_entry_of_stake(kind: int, data: bytes) -> None:
    topics = (STAKE_CHANGED, word(0), word(b"\x0a" * 20), word(kind))
    with pytest.raises(Malformed):
        ABI.decode_log(log_of((topics, data)))


def test_an_event_of_no_use_is_passed_over() -> None:
    proven = keccak256(b"StakeProven(address,uint256,uint64)"), word(b"\x0a" * 20)
    assert ABI.decode_log(log_of((proven, word(5) + word(1)))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"topics": ()},
        {"topics": (b"\1" * 32,)},
        {"topics": deposited(0)[0][:3]},
        {"topics": (*deposited(0)[0], b"\1" * 32)},
        {"topics": (deposited(0)[0][0], b"\xff" * 32, *deposited(0)[0][2:])},
        {"topics": (*deposited(0)[0][:2], b"\xff" * 32, deposited(0)[0][3])},
        {"data": b""},
        {"data": deposited(0)[1] + bytes(32)},
        {"data": word(2**16) + deposited(0)[1][32:]},
        {"data": word(1) + word(2**128) + bytes(32)},
    ],
)
def test_what_is_no_event_of_the_contract(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        ABI.decode_log(msgspec.structs.replace(log_of(deposited(0)), **change))


@given(
    st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    st.sampled_from([deposited(0)[0][0], checkpointed(1)[0][0], withdrawn(0)[0][0], STAKE_CHANGED]),
    st.binary(max_size=256),
)
def test_any_log_is_decoded_or_refused(topics: list[bytes], kind: bytes, data: bytes) -> None:
    for heads in ((kind, *topics[:3]), tuple(topics)):
        log = Log(1, b"\1" * 32, 0, b"\2" * 32, heads, data)
        with contextlib.suppress(Malformed):
            ABI.decode_log(log)


def test_deposits_must_continue_the_ledger() -> None:
    ledger = Ledger(Cursor(0, GENESIS_HASH))
    logs = [log_of(deposited(index)) for index in range(3)]
    events = [(log, ABI.decode_log(log)) for log in logs]
    after = fold(ledger, events)
    assert after == Ledger(Cursor(3, deposit_hash_of(3)))
    assert fold(fold(ledger, events[:1]), events[1:]) == after
    for wrong in (events[1:], events[::-1], [events[0], events[2]], [events[0], events[0]]):
        with pytest.raises(Malformed):
            fold(ledger, wrong)
    other = log_of(deposited(1, deposit_of(5)))
    with pytest.raises(Malformed):
        fold(after, [(other, ABI.decode_log(other))])


def test_numbers_of_checkpoints_only_rise() -> None:
    ledger = Ledger(Cursor(0, GENESIS_HASH))
    log = log_of(checkpointed(1))
    after = fold(ledger, [(log, Checkpointed(1)), (log, Withdrawn(3)), (log, Checkpointed(5))])
    assert after.checkpoint == 5
    with pytest.raises(Malformed):
        fold(after, [(log, Checkpointed(5))])


def test_epochs_only_rise() -> None:
    ledger = Ledger(Cursor(0, GENESIS_HASH))
    log = log_of(rotated(3))
    after = fold(ledger, [(log, Rotated(3)), (log, Rotated(7))])
    assert after.epoch == 7
    with pytest.raises(Malformed):
        fold(after, [(log, Rotated(7))])


def test_the_call_that_hands_over() -> None:
    keys = [SigningKey(bytes([1 + place]) * 32) for place in range(4)]
    words = tuple(key.address + word(10)[-12:] for key in keys)
    signatures = tuple((place, keys[place].sign(b"\7" * 32)) for place in (1, 2, 3))
    handover = Handover(2, words, 5, b"\5" * 32)
    data = ABI.rotate_validators(CertifiedHandover(handover, signatures))
    kinds = ["uint64", "bytes32", "bytes32[]", "uint256", "bytes"]
    assert data[:4] == keccak256(f"rotateValidators({','.join(kinds)})".encode())[:4]
    epoch, next_hash, validators, bitmap, packed = decode(kinds, data[4:])
    assert (epoch, next_hash, tuple(validators), bitmap) == (5, b"\5" * 32, words, 0b1110)
    assert len(packed) == 3 * 64


def test_the_call_that_brings_a_checkpoint() -> None:
    checkpoint = Checkpoint(7, 0, 70, 1_000, b"\1" * 32, b"\2" * 32, 3, b"\3" * 32, 4, b"\4" * 32)
    keys = [SigningKey(bytes([1 + place]) * 32) for place in range(4)]
    signatures = tuple((place, keys[place].sign(b"\7" * 32)) for place in (0, 2, 3))
    words = tuple(key.address + word(10)[-12:] for key in keys)
    data = ABI.submit_checkpoint(CertifiedCheckpoint(checkpoint, signatures), words)
    fields = "(uint64,uint64,uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32)"
    kinds = [fields, "bytes32[]", "uint256", "bytes"]
    assert data[:4] == keccak256(f"submitCheckpoint({','.join(kinds)})".encode())[:4]
    shown, validators, bitmap, packed = decode(kinds, data[4:])
    assert shown == msgspec.structs.astuple(checkpoint)
    assert tuple(validators) == words
    assert bitmap == 0b1101
    assert len(packed) == 3 * 64


def test_the_contracts_errors_have_names() -> None:
    def said(signature: bytes, data: bytes = b"") -> str:
        return "0x" + (keccak256(signature)[:4] + data).hex()

    assert ABI.error_name(said(b"StaleCheckpoint()")) == "StaleCheckpoint"
    quorum = encode(["uint256", "uint256"], [2, 4])
    assert ABI.error_name(said(b"NoQuorum(uint256,uint256)", quorum)) == "NoQuorum"
    for strange in (None, 5, "", "0x", "0x12", "0xzzzzzzzz", "StaleCheckpoint", said(b"Other()")):
        assert ABI.error_name(strange) is None


def test_the_code_is_compared() -> None:
    code = load_artifact("Settlement").deployed_bytecode
    assert ABI.is_code(code)
    assert not ABI.is_code(code[:-1])
    assert not ABI.is_code(bytes([code[0] ^ 1]) + code[1:])
