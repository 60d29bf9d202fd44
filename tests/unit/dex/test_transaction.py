"""Transactions: one encoding, one hash, one signer; and what the door can refuse without state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.crypto import GROUP_ORDER, SigningKey
from omninode.dex.action_json import action_from_json, action_to_json
from omninode.dex.actions import (
    Action,
    AttestDeposits,
    Batch,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    ReplaceOrder,
    RevokeAgent,
    SignCheckpoint,
    Transfer,
    Withdraw,
)
from omninode.dex.bridge.deposits import Deposit
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import (
    SCHEME_AGENT,
    SCHEME_VALIDATOR,
    SCHEME_WALLET,
    TRANSACTION_BYTES_MAX,
    Transaction,
    agent_digest,
    attestation_digest,
    check_stateless,
    decode_transaction,
    encode_unsigned,
    order_id,
    recover_signer,
    sign_agent,
    sign_validator,
    sign_wallet,
)
from omninode.encoding import encode
from omninode.errors import BrokenInvariant, Malformed, Rejected

VECTORS = Path(__file__).parents[2] / "vectors" / "transactions.json"
KEY = SigningKey(b"\x01" * 32)
AGENT = SigningKey(b"\x02" * 32)
DOMAIN = Domain(31337, b"g" * 32)
NOW = 1_700_000_000_000


def limit(market: str = "BTC-USDC", size: str = "0.5", price: str = "78000.25") -> PlaceOrder:
    return PlaceOrder(0, market, "buy", "limit", size, price, "gtc", False, 0, "")


def wallet(action: Action) -> Transaction:
    return sign_wallet(KEY, action, nonce=NOW, domain=DOMAIN)


class Grid(NamedTuple):
    price_decimals: int = 2
    tick: int = 25
    size_decimals: int = 8
    lot: int = 50_000_000


class TestRules:
    __test__ = False

    def market_rules(self, name: str) -> Grid | None:
        return Grid() if name == "BTC-USDC" else None

    def asset_decimals(self, name: str) -> int | None:
        return {"USDC": 6, "ETH": 18}.get(name)

    def asset_token(self, name: str) -> bytes | None:
        return b"t" * 20 if name == "USDC" else None

    @property
    def settlement_contract(self) -> bytes | None:
        return b"c" * 20


class RulesWithoutSettlement(TestRules):
    @property
    def settlement_contract(self) -> bytes | None:
        return None


RULES = TestRules()


@pytest.mark.parametrize("scheme", [SCHEME_WALLET, SCHEME_AGENT])
def test_a_signed_transaction_survives_the_wire(scheme: int) -> None:
    if scheme == SCHEME_WALLET:
        sent = wallet(limit())
    else:
        sent = sign_agent(AGENT, limit(), account=KEY.address, nonce=NOW, domain=DOMAIN)
    received = decode_transaction(sent.raw)
    assert received == sent
    assert received.hash == sent.hash
    assert not received.is_verified
    with pytest.raises(BrokenInvariant):
        _ = received.signer
    assert recover_signer(received, DOMAIN) == sent.signer
    assert received.signer == (KEY if scheme == SCHEME_WALLET else AGENT).address


def test_the_signature_is_last() -> None:
    sent = wallet(limit())
    unsigned = encode_unsigned(SCHEME_WALLET, account=KEY.address, nonce=NOW, action=limit())
    assert sent.unsigned == unsigned
    assert sent.raw == unsigned + b"\xc4\x41" + sent.signature


def test_signatures_of_another_network_account_or_field_do_not_count() -> None:
    sent = wallet(limit())
    with pytest.raises(Rejected, match="not by") as caught:
        recover_signer(decode_transaction(sent.raw), Domain(31337, b"h" * 32))
    assert caught.value.reason == "bad_signature"
    for change in (
        {"account": AGENT.address},
        {"nonce": NOW + 1},
        {"action": limit(size="1")},
        {"signature": wallet(limit(size="1")).signature},
    ):
        fields = {name: getattr(sent, name) for name in sent.__struct_fields__}
        with pytest.raises(Rejected):
            recover_signer(Transaction(**{**fields, **change}), DOMAIN)


def test_a_session_key_can_not_pass_as_the_wallet_nor_a_wallet_signature_as_a_session_keys() -> (
    None
):
    by_agent = sign_agent(AGENT, limit(), account=KEY.address, nonce=NOW, domain=DOMAIN)
    fields = {name: getattr(by_agent, name) for name in by_agent.__struct_fields__}
    with pytest.raises(Rejected):
        recover_signer(Transaction(**{**fields, "scheme": SCHEME_WALLET}), DOMAIN)
    by_wallet = wallet(limit())
    fields = {name: getattr(by_wallet, name) for name in by_wallet.__struct_fields__}
    try:
        signer = recover_signer(Transaction(**{**fields, "scheme": SCHEME_AGENT}), DOMAIN)
    except Rejected:
        return
    assert signer != KEY.address


def test_the_wallet_key_signs_typed_data_only() -> None:
    sent = sign_agent(KEY, limit(), account=KEY.address, nonce=NOW, domain=DOMAIN)
    with pytest.raises(Rejected, match="typed data"):
        recover_signer(decode_transaction(sent.raw), DOMAIN)


def _high_s(signature: bytes) -> bytes:
    s = GROUP_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


@pytest.mark.parametrize(
    "spoil",
    [
        _high_s,
        lambda s: s[:64] + bytes((s[64] - 27,)),
        lambda s: s[:64] + bytes((s[64] + 2,)),
        lambda s: s[:64] + bytes((55 - s[64],)),
        lambda s: s[:64] + b"\x00",
        lambda s: bytes(32) + s[32:],
        lambda s: s[:32] + bytes(32) + s[64:],
        lambda _: bytes(64) + b"\x1b",
        lambda s: b"\xff" * 32 + s[32:],
    ],
    ids=["high-s", "v-0", "v-29", "v-other", "v-nul", "r-0", "s-0", "zeros", "r-large"],
)
def test_other_forms_of_a_signature_are_refused(spoil: Any) -> None:
    sent = wallet(limit())
    fields = {name: getattr(sent, name) for name in sent.__struct_fields__}
    spoilt = Transaction(**{**fields, "signature": spoil(sent.signature)})
    with pytest.raises(Rejected) as caught:
        recover_signer(decode_transaction(spoilt.raw), DOMAIN)
    assert caught.value.reason == "bad_signature"


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0},
        {"version": 2},
        {"scheme": 2},
        {"scheme": 3},
        {"action": SignCheckpoint(1, bytes(65))},
        {"action": AttestDeposits(bytes(32), 1, bytes(32), ())},
        {"scheme": -1},
        {"scheme": True},
        {"account": b"a" * 19},
        {"account": "a" * 20},
        {"nonce": -1},
        {"nonce": 2**53},
        {"nonce": 1.5},
        {"action": None},
        {"action": []},
        {"signature": b"s" * 64},
        {"signature": b"s" * 66},
        {"more": 1},
    ],
)
def test_ill_formed_transactions_do_not_decode(fields: dict[str, Any]) -> None:
    sent = wallet(limit())
    good = {name: getattr(sent, name) for name in sent.__struct_fields__}
    with pytest.raises(Malformed):
        decode_transaction(encode([*{**good, **fields}.values()]))


def test_other_encodings_of_the_same_values_do_not_decode() -> None:
    raw = wallet(limit()).raw
    assert raw[:1] == b"\x96"
    for other in (
        b"\xdc\x00\x06" + raw[1:],
        raw[:1] + b"\xcc\x01" + raw[2:],
        raw + b"\x00",
        raw[:-1],
        b"",
        b"\x96",
        b"\xdd\xff\xff\xff\xff" + raw[1:],
        b"\x91" * 100_000,
    ):
        with pytest.raises(Malformed):
            decode_transaction(other)


def test_the_largest_batch_fits_and_anything_longer_is_refused() -> None:
    item = ReplaceOrder(999, "A" * 32, b"i" * 32, "", "1" * 39, "1" * 39)
    raw = wallet(Batch((), (item,) * 100, ())).raw
    assert decode_transaction(raw).raw == raw
    with pytest.raises(Malformed, match="bytes, at most"):
        decode_transaction(raw + bytes(TRANSACTION_BYTES_MAX))


@given(data=st.binary(max_size=200))
def test_rubbish_is_malformed_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_transaction(data)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_flipped_bit_never_passes(position: int, bit: int) -> None:
    raw = bytearray(wallet(limit()).raw)
    raw[position % len(raw)] ^= 1 << bit
    try:
        signer = recover_signer(decode_transaction(bytes(raw)), DOMAIN)
    except (Malformed, Rejected):
        return
    # The flipped scheme: now some unknown session key signed, which has no authority.
    assert raw[2] == SCHEME_AGENT
    assert signer != KEY.address


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (limit(market="XOM-USDC"), "unknown_market"),
        (limit(price="78000.26"), "off_tick"),
        (limit(price="78000.251"), "off_tick"),
        (limit(size="0.4"), "off_lot"),
        (limit(size="0.500000001"), "off_lot"),
        (limit(size=str(2**127)), "malformed"),
        (limit(price=str(2**127)), "malformed"),
        (PlaceOrder(0, "B", "buy", "market", "1", "", "ioc", False, 1, ""), "unknown_market"),
        (ReplaceOrder(0, "BTC-USDC", b"", "a", "0.5", "0.3"), "off_tick"),
        (ReplaceOrder(0, "NO", b"", "a", "0.5", "0.25"), "unknown_market"),
        (CancelAll(0, "NO"), "unknown_market"),
        (Transfer(0, b"t" * 20, 0, "EUR", "1"), "unknown_asset"),
        (Transfer(0, b"t" * 20, 0, "USDC", "0.0000001"), "off_grid"),
        (Transfer(0, b"t" * 20, 0, "USDC", str(2**127)), "malformed"),
        (Transfer(3, KEY.address, 3, "USDC", "1"), "same_account"),
        (Withdraw(0, "EUR", "1", b"r" * 20), "unknown_asset"),
        (Withdraw(0, "ETH", "1", b"r" * 20), "not_withdrawable"),
        (Withdraw(0, "USDC", "0.0000001", b"r" * 20), "off_grid"),
        (Withdraw(0, "USDC", str(2**127), b"r" * 20), "malformed"),
        (Withdraw(0, "USDC", "1", bytes(20)), "invalid_recipient"),
        (Withdraw(0, "USDC", "1", b"c" * 20), "invalid_recipient"),
        (Withdraw(0, "USDC", "1", b"t" * 20), "invalid_recipient"),
        (Batch((), (), (limit(), limit(price="0.1"))), "off_tick"),
        (Batch((), (ReplaceOrder(0, "BTC-USDC", b"", "a", "0.1", "1"),), ()), "off_lot"),
    ],
)
def test_the_door_names_what_no_state_could_allow(action: Action, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_stateless(wallet(action), RULES)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "action",
    [
        limit(),
        PlaceOrder(0, "BTC-USDC", "sell", "market", "0.5", "", "fok", False, 1, ""),
        ReplaceOrder(0, "BTC-USDC", b"", "a", "0.5", "0.25"),
        CancelAll(0, ""),
        CancelAll(0, "BTC-USDC"),
        CancelOrder(0, b"", "a"),
        Transfer(3, KEY.address, 4, "USDC", "0.000001"),
        Withdraw(3, "USDC", "0.000001", KEY.address),
        RevokeAgent(b"a" * 20),
        Batch((CancelOrder(0, b"", "a"),), (), (limit(),)),
    ],
)
def test_the_door_lets_the_rest_in(action: Action) -> None:
    check_stateless(wallet(action), RULES)


def attest(count: int = 3, deposits: int = 2) -> AttestDeposits:
    deposit = Deposit(b"t" * 20, b"a" * 20, 0, bytes(15) + b"\1")
    return AttestDeposits(b"p" * 32, count, b"h" * 32, (deposit,) * deposits)


VALIDATOR_WORDS: list[Action] = [attest(), SignCheckpoint(1, bytes(65))]


@pytest.mark.parametrize("action", VALIDATOR_WORDS, ids=lambda action: type(action).__name__)
def test_what_validators_say_comes_by_their_scheme_alone(action: Action) -> None:
    sent = sign_validator(KEY, action, nonce=NOW, domain=DOMAIN)
    received = decode_transaction(sent.raw)
    assert (received, received.scheme) == (sent, SCHEME_VALIDATOR)
    assert recover_signer(received, DOMAIN) == KEY.address
    check_stateless(received, RULES)
    with pytest.raises(Rejected) as caught:
        check_stateless(received, RulesWithoutSettlement())
    assert caught.value.reason == "no_settlement"
    with pytest.raises(Rejected, match="vote key"):
        recover_signer(decode_transaction(sent.raw), Domain(31337, b"h" * 32))
    fields = {name: getattr(sent, name) for name in sent.__struct_fields__}
    for change in ({"scheme": SCHEME_WALLET}, {"scheme": SCHEME_AGENT}, {"action": limit()}):
        with pytest.raises(Malformed, match="does not carry"):
            decode_transaction(encode([*{**fields, **change}.values()]))


def test_a_session_keys_signature_is_no_attestation() -> None:
    """The two digests differ though both bind the same bytes."""
    unsigned = encode_unsigned(SCHEME_VALIDATOR, account=KEY.address, nonce=NOW, action=attest())
    assert agent_digest(unsigned, DOMAIN) != attestation_digest(unsigned, DOMAIN)


def test_the_largest_attestation_fits() -> None:
    action = attest(count=2**53 - 1, deposits=64)
    raw = sign_validator(KEY, action, nonce=NOW, domain=DOMAIN).raw
    assert len(raw) < TRANSACTION_BYTES_MAX // 4
    assert decode_transaction(raw).raw == raw


@pytest.mark.parametrize(
    "action",
    [
        [10, bytes(32), 1, bytes(32), [[b"t" * 20, b"a" * 20, 0, bytes(16)]] * 2],
        [10, bytes(32), 0, bytes(32), []],
        [10, bytes(32), 1, b"\1" * 32, []],
        [10, bytes(32), 99, bytes(32), [[b"t" * 20, b"a" * 20, 0, bytes(16)]] * 65],
        [10, bytes(31), 1, bytes(32), []],
        [10, bytes(32), 1, bytes(32), [[b"t" * 20, b"a" * 20, 65_536, bytes(16)]]],
        [10, bytes(32), 1, bytes(32), [[b"t" * 20, b"a" * 20, 0, bytes(15)]]],
        [11, 0, bytes(65)],
        [11, 1, bytes(64)],
    ],
)
def test_ill_formed_words_of_validators_do_not_decode(action: Any) -> None:
    with pytest.raises(Malformed):
        decode_transaction(encode([1, SCHEME_VALIDATOR, KEY.address, NOW, action, bytes(65)]))


def test_withdrawals_need_a_settlement() -> None:
    with pytest.raises(Rejected) as caught:
        check_stateless(wallet(Withdraw(0, "USDC", "1", b"r" * 20)), RulesWithoutSettlement())
    assert caught.value.reason == "no_settlement"


def test_order_ids_differ_by_transaction_and_index() -> None:
    ids = {order_id(hash_, index) for hash_ in (b"a" * 32, b"b" * 32) for index in range(3)}
    assert len(ids) == 6


VALIDATOR_CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())["validators"]


@pytest.mark.parametrize("case", VALIDATOR_CASES, ids=lambda case: case["name"])
def test_golden_vectors_of_validators(case: dict[str, Any]) -> None:
    document = json.loads(VECTORS.read_text())
    domain = Domain(document["chain_id"], bytes.fromhex(document["genesis_hash"][2:]))
    key = SigningKey(bytes.fromhex(document["wallet_secret"][2:]))
    read = decode_transaction(bytes.fromhex(case["raw"][2:]))
    assert read.hash.hex() == case["hash"][2:]
    assert recover_signer(read, domain) == key.address
    assert action_to_json(read.account, read.nonce, read.action) == case["action"]
    assert sign_validator(key, read.action, nonce=read.nonce, domain=domain).raw == read.raw


VECTOR_CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())["cases"]


@pytest.mark.parametrize("case", VECTOR_CASES, ids=lambda case: case["name"])
def test_golden_vectors(case: dict[str, Any]) -> None:
    document = json.loads(VECTORS.read_text())
    domain = Domain(document["chain_id"], bytes.fromhex(document["genesis_hash"][2:]))
    account, nonce, action = action_from_json(case["action"])
    key = SigningKey(bytes.fromhex(document["wallet_secret"][2:]))
    agent = SigningKey(bytes.fromhex(document["agent_secret"][2:]))
    assert account == key.address
    for name, sent in (
        ("wallet", sign_wallet(key, action, nonce=nonce, domain=domain)),
        ("agent", sign_agent(agent, action, account=account, nonce=nonce, domain=domain)),
    ):
        expected = case[name]
        assert "0x" + sent.raw.hex() == expected["raw"]
        assert "0x" + sent.hash.hex() == expected["hash"]
        assert "0x" + order_id(sent.hash, 1).hex() == expected["order_id_1"]
        received = decode_transaction(bytes.fromhex(expected["raw"][2:]))
        assert recover_signer(received, domain) == sent.signer
