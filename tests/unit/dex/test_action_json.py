"""The JSON form of actions: strict, and every refusal names its key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_account.messages import encode_typed_data

from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.action_json import action_from_json, action_to_json, typed_data_from_json
from omninode.dex.actions import (
    BATCH_ITEMS_MAX,
    AttestDeposits,
    Batch,
    PlaceOrder,
    SignCheckpoint,
)
from omninode.dex.bridge.deposits import Deposit
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import decode_transaction, recover_signer
from omninode.errors import UserError

KEY = SigningKey(b"\x07" * 32)
DOMAIN = Domain(31337, b"g" * 32)
HEAD = {"account": "0x" + KEY.address.hex(), "nonce": 1_700_000_000_000}
ITEM = {"market": "BTC-USDC", "side": "buy", "size": "0.1", "price": "78000"}
ORDER = {"type": "place_order", **HEAD, **ITEM}
OTHER = "0x" + "11" * 20
ORDER_ID = "0x" + "ab" * 32

DOCUMENTS: list[dict[str, Any]] = [
    ORDER,
    {**ORDER, "post_only": True, "client_id": "a-1", "subaccount": 3},
    {
        "type": "place_order",
        **HEAD,
        "market": "A-B",
        "side": "sell",
        "order_type": "market",
        "size": "1",
    },
    {"type": "cancel_order", **HEAD, "order_id": ORDER_ID},
    {"type": "cancel_order", **HEAD, "client_id": "x"},
    {"type": "cancel_all", **HEAD},
    {"type": "cancel_all", **HEAD, "market": "BTC-USDC"},
    {"type": "replace_order", **HEAD, "market": "A-B", "client_id": "x", "size": "1", "price": "2"},
    {"type": "transfer", **HEAD, "to": OTHER, "asset": "USDC", "amount": "2.5"},
    {
        "type": "approve_agent",
        **HEAD,
        "agent": OTHER,
        "permissions": ["cancel", "trade"],
        "expires_ms": 9,
    },
    {"type": "revoke_agent", **HEAD, "agent": OTHER},
    {"type": "withdraw", **HEAD, "asset": "USDC", "amount": "2.5", "recipient": OTHER},
    {"type": "batch", **HEAD, "cancels": [{"client_id": "x"}], "orders": [ITEM, ITEM]},
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d["type"])
def test_a_document_comes_back_with_all_its_keys(document: dict[str, Any]) -> None:
    request = action_from_json(json.loads(json.dumps(document)))
    full = action_to_json(*request)
    assert action_from_json(json.loads(json.dumps(full))) == request
    assert full.keys() >= document.keys()
    given = {key: value for key, value in document.items() if isinstance(value, bool | int)}
    assert given.items() <= full.items()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d["type"])
def test_a_client_builds_the_transaction_by_concatenation(document: dict[str, Any]) -> None:
    answer = json.loads(json.dumps(typed_data_from_json(document, DOMAIN)))
    message = encode_typed_data(full_message=answer)
    digest = keccak256(b"\x19" + message.version + message.header + message.body)
    raw = bytes.fromhex(answer["unsigned"][2:] + "c441" + KEY.sign(digest).hex())
    transaction = decode_transaction(raw)
    assert recover_signer(transaction, DOMAIN) == KEY.address
    request = action_from_json(document)
    assert (transaction.account, transaction.nonce, transaction.action) == request


def test_a_market_order_gets_the_default_bound() -> None:
    action = action_from_json(DOCUMENTS[2]).action
    assert isinstance(action, PlaceOrder)
    assert (action.tif, action.slippage_ppm, action.price) == ("ioc", 50_000, "")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": "1e400"}, "size: "),
        ({"size": "9" * 10_000}, "size: "),
        ({"size": 0.1}, "size: "),
        ({"size": "NaN"}, "size: "),
        ({"size": "0"}, "size: "),
        ({"size": "-1"}, "size: "),
        ({"size": "１"}, "size: "),  # noqa: RUF001
        ({"price": None}, "price: "),
        ({"price": "1.10"}, "price: "),
        ({"side": "Buy"}, "side: expected buy or sell; got 'Buy'"),
        ({"tif": "gtd"}, "tif: "),
        ({"market": "btc"}, "market: "),
        ({"market": []}, "market: "),
        ({"subaccount": -1}, "subaccount: "),
        ({"subaccount": True}, "subaccount: "),
        ({"post_only": "yes"}, "post_only: "),
        ({"client_id": "a b"}, "client_id: "),
        ({"account": "0x12"}, "account: "),
        ({"account": 5}, "account: "),
        ({"account": "0x" + "1" * 39 + "１"}, "account: "),  # noqa: RUF001
        ({"nonce": "1"}, "nonce: "),
        ({"nonce": True}, "nonce: "),
        ({"nonce": -1}, "nonce: "),
        ({"nonce": 10**5_000}, "nonce: .*a huge integer"),
        ({"nonce": 1.0}, "nonce: "),
        ({"sise": "1", "prise": "2"}, "unknown: prise, sise; known are type, account"),
        ({"type": "place"}, "type: expected one of place_order, "),
        ({"type": []}, "type: "),
        ({"type": None}, "type: "),
        ({"tif": "ioc", "post_only": True}, "post_only needs tif gtc"),
        ({"price": ""}, "a limit order needs a price"),
    ],
)
def test_a_refusal_names_the_key(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)\A{named}") as caught:
        action_from_json({**ORDER, **change})
    assert caught.value.reason == "malformed"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("document", [None, [], "place_order", 1, True, {}, {"type": {}}])
def test_what_is_no_action_is_refused(document: object) -> None:
    with pytest.raises(UserError):
        action_from_json(document)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d["type"])
def test_missing_keys_are_named_together(document: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        action_from_json({"type": document["type"]})
    assert str(caught.value).startswith("missing: account, nonce")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"orders": [{**ITEM, "size": "0"}]}, "orders\\[0\\]\\.size: "),
        ({"orders": [ITEM, {**ITEM, "sise": 1}]}, "unknown: orders\\[1\\]\\.sise"),
        ({"orders": [{**ITEM, "nonce": 1}]}, "unknown: orders\\[0\\]\\.nonce"),
        ({"replaces": [{}]}, "missing: replaces\\[0\\]\\.market, "),
        ({"cancels": [{}]}, "cancels\\[0\\]: name the order"),
        ({"cancels": [{"order_id": "0x12"}]}, "cancels\\[0\\]\\.order_id: "),
        ({"cancels": [{"order_id": ORDER_ID[2:]}]}, "cancels\\[0\\]\\.order_id: "),
        ({"cancels": ["x"]}, "cancels\\[0\\]: expected an object"),
        ({"cancels": {}}, "cancels: expected a list"),
        ({"orders": None}, "orders: expected a list"),
        ({}, "a batch has 1 to 100 items, not 0"),
        ({"orders": [ITEM] * (BATCH_ITEMS_MAX + 1)}, "a batch has 1 to 100 items, not 101"),
    ],
)
def test_a_batch_names_the_item(batch: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        action_from_json({"type": "batch", **HEAD, **batch})


def test_a_batch_of_the_largest_size_is_read() -> None:
    action = action_from_json({"type": "batch", **HEAD, "orders": [ITEM] * BATCH_ITEMS_MAX}).action
    assert isinstance(action, Batch)
    assert len(action.orders) == BATCH_ITEMS_MAX


@pytest.mark.parametrize(
    "words", [["withdraw"], ["trade", "trade"], "trade", [], [["trade"]], [None]]
)
def test_permissions_are_a_set_of_known_words(words: object) -> None:
    document = {**DOCUMENTS[9], "permissions": words}
    with pytest.raises(UserError, match="permissions: "):
        action_from_json(document)


def test_permissions_are_signed_in_one_order() -> None:
    one = action_from_json({**DOCUMENTS[9], "permissions": ["transfer", "trade"]})
    two = action_from_json({**DOCUMENTS[9], "permissions": ["trade", "transfer"]})
    assert one == two


def test_what_validators_say_is_shown_and_not_read() -> None:
    deposit = Deposit(b"\x11" * 20, b"\x22" * 20, 7, (2**100).to_bytes(16, "big"))
    attestation = AttestDeposits(bytes(32), 9, b"h" * 32, (deposit,))
    shown = action_to_json(KEY.address, 5, attestation)
    assert json.loads(json.dumps(shown)) == {
        "type": "attest_deposits",
        "account": checksum_address(KEY.address),
        "nonce": 5,
        "parent": "0x" + "00" * 32,
        "count": 9,
        "hash": "0x" + "68" * 32,
        "deposits": [
            {
                "token": "0x" + "11" * 20,
                "account": "0x" + "22" * 20,
                "subaccount": 7,
                "units": str(2**100),
            }
        ],
    }
    signed = action_to_json(KEY.address, 5, SignCheckpoint(3, bytes(65)))
    assert (signed["type"], signed["number"]) == ("sign_checkpoint", 3)
    assert signed["signature"] == "0x" + "00" * 65
    for document in (shown, signed):
        with pytest.raises(UserError, match="type: expected one of"):
            action_from_json(document)
