"""EIP-712: our digest is the one every wallet computes, for every action."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from omninode.crypto import SigningKey, keccak256, recover_address
from omninode.dex.action_json import action_from_json, action_to_json
from omninode.dex.actions import (
    Action,
    ApproveAgent,
    Batch,
    CancelAll,
    CancelOrder,
    CommitSealed,
    PlaceOrder,
    ReplaceOrder,
    RevealSealed,
    RevokeAgent,
    Transfer,
    Withdraw,
)
from omninode.dex.eip712 import Domain, typed_data, wallet_digest
from omninode.dex.transaction import decode_transaction, sign_agent
from omninode.encoding import decode, encode

KEY = SigningKey(b"\x05" * 32)
VECTORS = Path(__file__).parents[2] / "vectors"

addresses = st.binary(min_size=20, max_size=20)
subaccounts = st.integers(0, 999)
timestamps = st.integers(0, 2**53 - 1)
names = st.from_regex(r"\A[A-Z0-9][A-Z0-9.\-]{0,31}\Z")
client_ids = st.from_regex(r"\A[A-Za-z0-9_.:\-]{1,36}\Z")
amounts = st.from_regex(r"\A([1-9][0-9]{0,20}(\.[0-9]{0,10}[1-9])?|0\.[0-9]{0,10}[1-9])\Z")
order_names = st.one_of(
    st.tuples(st.binary(min_size=32, max_size=32), st.just("")),
    st.tuples(st.just(b""), client_ids),
)
sides = st.sampled_from(("buy", "sell"))
hashes = st.binary(min_size=32, max_size=32)

limit_orders = st.builds(
    lambda tif_post, **fields: PlaceOrder(
        order_type="limit", tif=tif_post[0], post_only=tif_post[1], slippage_ppm=0, **fields
    ),
    tif_post=st.sampled_from([("gtc", False), ("gtc", True), ("ioc", False), ("fok", False)]),
    subaccount=subaccounts,
    market=names,
    side=sides,
    size=amounts,
    price=amounts,
    client_id=client_ids | st.just(""),
)
market_orders = st.builds(
    PlaceOrder,
    subaccount=subaccounts,
    market=names,
    side=sides,
    order_type=st.just("market"),
    size=amounts,
    price=st.just(""),
    tif=st.sampled_from(("ioc", "fok")),
    post_only=st.just(False),
    slippage_ppm=st.integers(1, 1_000_000),
    client_id=client_ids | st.just(""),
)
orders = limit_orders | market_orders
cancels = st.builds(
    lambda subaccount, name: CancelOrder(subaccount, *name), subaccounts, order_names
)
replaces = st.builds(
    lambda subaccount, market, name, size, price: ReplaceOrder(
        subaccount, market, *name, size, price
    ),
    subaccounts,
    names,
    order_names,
    amounts,
    amounts,
)
permissions = st.sets(st.sampled_from(("trade", "cancel", "transfer")), min_size=1).map(
    lambda words: tuple(word for word in ("trade", "cancel", "transfer") if word in words)
)
batches = (
    st.tuples(
        st.lists(cancels, max_size=3), st.lists(replaces, max_size=3), st.lists(orders, max_size=3)
    )
    .filter(any)
    .map(lambda lists: Batch(*map(tuple, lists)))
)
actions: st.SearchStrategy[Action] = st.one_of(
    orders,
    cancels,
    st.builds(CancelAll, subaccounts, names | st.just("")),
    replaces,
    st.builds(Transfer, subaccounts, addresses, subaccounts, names, amounts),
    st.builds(
        ApproveAgent,
        addresses,
        st.from_regex(r"\A[!-~]([ -~]{0,30}[!-~])?\Z") | st.just(""),
        permissions,
        timestamps,
    ),
    st.builds(RevokeAgent, addresses),
    st.builds(Withdraw, subaccounts, names, amounts, addresses),
    batches,
    st.builds(CommitSealed, subaccounts, names, amounts, hashes),
    st.builds(
        RevealSealed,
        hashes,
        orders.filter(lambda order: not order.post_only and order.tif != "fok"),
        hashes,
    ),
)
domains = st.builds(Domain, st.integers(1, 2**53 - 1), st.binary(min_size=32, max_size=32))


def library_digest(document: dict[str, Any]) -> bytes:
    """What eth_account makes of the document after a trip through JSON."""
    message: SignableMessage = encode_typed_data(full_message=json.loads(json.dumps(document)))
    return keccak256(b"\x19" + message.version + message.header + message.body)


@settings(max_examples=200)
@given(action=actions, account=addresses, nonce=timestamps, domain=domains)
def test_digest_is_that_of_eth_account(
    action: Action, account: bytes, nonce: int, domain: Domain
) -> None:
    assert decode(encode(action), Action, size_max=100_000) == action  # type: ignore[arg-type]
    document = typed_data(action, account=account, nonce=nonce, domain=domain)
    assert library_digest(document) == wallet_digest(
        action, account=account, nonce=nonce, domain=domain
    )


@settings(max_examples=200)
@given(action=actions, account=addresses, nonce=timestamps)
def test_json_form_and_wire_form_say_the_same(action: Action, account: bytes, nonce: int) -> None:
    document = json.loads(json.dumps(action_to_json(account, nonce, action)))
    assert action_from_json(document) == (account, nonce, action)
    sent = sign_agent(KEY, action, account=account, nonce=nonce, domain=Domain(1, bytes(32)))
    received = decode_transaction(sent.raw)
    assert received == sent
    assert (received.account, received.nonce, received.action) == (account, nonce, action)


@settings(max_examples=300)
@given(first=actions, second=actions, account=addresses, domain=domains)
def test_different_actions_have_different_digests(
    first: Action, second: Action, account: bytes, domain: Domain
) -> None:
    digests = {
        wallet_digest(action, account=account, nonce=1, domain=domain) for action in (first, second)
    }
    assert len(digests) == (1 if first == second else 2)


def test_the_digest_binds_account_nonce_and_network() -> None:
    action = RevokeAgent(b"a" * 20)
    here = Domain(31337, b"g" * 32)
    digests = {
        wallet_digest(action, account=b"1" * 20, nonce=1, domain=here),
        wallet_digest(action, account=b"2" * 20, nonce=1, domain=here),
        wallet_digest(action, account=b"1" * 20, nonce=2, domain=here),
        wallet_digest(action, account=b"1" * 20, nonce=1, domain=Domain(1, b"g" * 32)),
        wallet_digest(action, account=b"1" * 20, nonce=1, domain=Domain(31337, b"h" * 32)),
    }
    assert len(digests) == 5


def test_a_wallet_shows_the_human_fields() -> None:
    order = PlaceOrder(
        0, "BTC-USDC", "buy", "limit", "0.1", "78000", "gtc", False, 0, client_id="mine"
    )
    document = typed_data(order, account=b"\x11" * 20, nonce=7, domain=Domain(1, b"g" * 32))
    assert document["primaryType"] == "PlaceOrder"
    assert document["message"] == {
        "account": "0x1111111111111111111111111111111111111111",
        "nonce": 7,
        "subaccount": 0,
        "market": "BTC-USDC",
        "side": "buy",
        "order_type": "limit",
        "size": "0.1",
        "price": "78000",
        "tif": "gtc",
        "post_only": False,
        "slippage_ppm": 0,
        "client_id": "mine",
    }


@given(action=actions, secret=st.binary(min_size=32, max_size=32).filter(any))
@settings(max_examples=20)
def test_what_eth_account_signs_is_recovered(action: Action, secret: bytes) -> None:
    key = SigningKey(b"\x01" + secret[1:])
    domain = Domain(31337, b"g" * 32)
    document = typed_data(action, account=key.address, nonce=1, domain=domain)
    signed = Account.sign_message(encode_typed_data(full_message=document), key.secret)
    digest = wallet_digest(action, account=key.address, nonce=1, domain=domain)
    assert recover_address(digest, bytes(signed.signature)) == key.address
    assert key.sign(digest) == bytes(signed.signature)


def _hyperliquid_digest(case: dict[str, Any], source: str) -> tuple[bytes, bytes]:
    """Return action hash and EIP-712 digest, made with the functions that our own digests use."""
    packed = encode(case["action"])
    assert packed.hex() == case["msgpack_hex"]
    vault = b"\x01" + bytes.fromhex(case["vault"][2:]) if case["vault"] else b"\x00"
    action_hash = keccak256(packed + case["nonce"].to_bytes(8, "big") + vault)
    domain = keccak256(
        keccak256(
            b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
        )
        + keccak256(b"Exchange")
        + keccak256(b"1")
        + (1337).to_bytes(32, "big")
        + bytes(32)
    )
    agent_type = keccak256(b"Agent(string source,bytes32 connectionId)")
    message = keccak256(agent_type + keccak256(source.encode()) + action_hash)
    return action_hash, keccak256(b"\x19\x01" + domain + message)


@pytest.mark.parametrize("network", ["mainnet", "testnet"])
def test_hyperliquid_signatures(network: str) -> None:
    document = json.loads((VECTORS / "hyperliquid_signing.json").read_text())
    key = SigningKey(
        bytes.fromhex("0123456789012345678901234567890123456789012345678901234567890123")
    )
    for case in document["cases"]:
        action_hash, digest = _hyperliquid_digest(case, {"mainnet": "a", "testnet": "b"}[network])
        assert "0x" + action_hash.hex() == case["action_hash"]
        signature = key.sign(digest)
        assert {
            "r": hex(int.from_bytes(signature[:32], "big")),
            "s": hex(int.from_bytes(signature[32:64], "big")),
            "v": signature[64],
        } == case[network]
        assert recover_address(digest, signature) == key.address
    assert len(document["cases"]) == 6
