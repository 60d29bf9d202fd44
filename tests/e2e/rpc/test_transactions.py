"""Sending transactions, and learning what became of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from omninode.dex.actions import (
    ApproveAgent,
    Batch,
    Transfer,
)
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import sign_agent, sign_wallet
from rpc_world import (
    AGENT,
    ALICE,
    BOB,
    DOMAIN,
    GENESIS,
    MARKET,
    NOW,
    STRANGER,
    Client,
    World,
    address,
    limit_order,
    order_text,
)


async def test_an_order_goes_from_received_to_open_to_filled(world: World, client: Client) -> None:
    sell = world.sign(ALICE, limit_order("sell", "0.5", "70000", client_id="mine"))
    text = await client.send(sell)
    assert (await client.call("omni_getTransaction", hash=text))["state"] == "received"
    received = await client.call("omni_getOrder", order_id=order_text(sell))
    assert (received["state"], received["price"]) == ("received", "70000")

    height = await world.block()
    shown = await client.call("omni_getTransaction", hash=text.upper().replace("0X", "0x"))
    assert (shown["state"], shown["code"], shown["height"]) == ("final", "ok", height)
    assert shown["items"][0]["order_id"] == order_text(sell)
    assert shown["action"]["client_id"] == "mine"
    order = await client.call("omni_getOrder", order_id=order_text(sell))
    assert order == {
        "order_id": order_text(sell),
        "client_id": "mine",
        "market": MARKET,
        "side": "sell",
        "type": "limit",
        "tif": "gtc",
        "state": "open",
        "reason": "",
        "price": "70000",
        "size": "0.5",
        "filled": "0",
        "remaining": "0.5",
        "average_price": None,
        "fees": "0",
        "height": height,
        "children": [],
    }
    by_name = await client.call("omni_getOrder", address=address(ALICE), client_id="mine")
    assert by_name == order

    await client.send(world.sign(BOB, limit_order("buy", "0.5", "70000")))
    await world.block()
    closed = await client.call("omni_getOrder", order_id=order_text(sell))
    assert (closed["state"], closed["filled"], closed["average_price"]) == (
        "filled",
        "0.5",
        "70000",
    )


async def test_send_and_wait_answers_with_the_committed_result(
    world: World, client: Client
) -> None:
    maker = world.sign(ALICE, limit_order("sell", "1", "100"))
    await client.send(maker)
    await world.block()
    taker = world.sign(BOB, limit_order("buy", "0.25", "100"))
    results: list[Any] = []

    async def send() -> None:
        results.append(await client.call("omni_sendTransactionSync", tx="0x" + taker.raw.hex()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while not world.admission.select(()):
            await trio.sleep(0.001)
        assert results == []
        height = await world.block()
    [result] = results
    assert (result["state"], result["height"], result["code"]) == ("final", height, "ok")
    assert result["items"][0]["status"] == "filled"
    [fill] = result["fills"]
    assert (fill["liquidity"], fill["size"], fill["price"]) == ("taker", "0.25", "100")
    assert {event["event"] for event in result["events"]} == {"order", "trade"}
    # Asked again, the same transaction gives the same answer at once.
    assert await client.call("omni_sendTransactionSync", tx="0x" + taker.raw.hex()) == result


async def test_a_transaction_that_does_not_become_final_times_out_and_stays_received(
    world: World, client: Client
) -> None:
    order = world.sign(ALICE, limit_order("sell", "1", "100"))
    tx = "0x" + order.raw.hex()
    assert await client.refusal("omni_sendTransactionSync", tx=tx, timeout_ms=50) == "timeout"
    text = "0x" + order.hash.hex()
    assert (await client.call("omni_getTransaction", hash=text))["state"] == "received"
    await world.block()
    assert (await client.call("omni_getTransaction", hash=text))["state"] == "final"


async def test_what_was_never_included_is_expired_once_its_window_has_passed(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = world.sign(ALICE, limit_order("sell", "1", "100"))
    text = await client.send(order)
    monkeypatch.setattr(world.admission, "select", lambda excluded: ())
    await world.block(after_ms=29_000)
    assert (await client.call("omni_getTransaction", hash=text))["state"] == "received"
    await world.block(after_ms=2_000)
    assert (await client.call("omni_getTransaction", hash=text))["state"] == "expired"


async def test_a_rejected_order_is_final_and_says_why(world: World, client: Client) -> None:
    order = world.sign(ALICE, limit_order("sell", "11", "100"))
    text = await client.send(order)
    await world.block()
    shown = await client.call("omni_getTransaction", hash=text)
    assert (shown["state"], shown["code"], shown["reason"]) == (
        "final",
        "rejected",
        "insufficient_balance",
    )
    rejected = await client.call("omni_getOrder", order_id=order_text(order))
    assert (rejected["state"], rejected["reason"]) == ("rejected", "insufficient_balance")


async def test_a_transaction_refused_at_the_door_names_why(world: World, client: Client) -> None:
    good = limit_order("buy", "0.1", "78000")
    other = Domain(GENESIS.settlement_chain_id, b"\x01" * 32)
    signed = world.sign(ALICE, good)
    r, s, v = signed.signature[:32], signed.signature[32:64], signed.signature[64]
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = r + (order - int.from_bytes(s, "big")).to_bytes(32, "big") + bytes([55 - v])
    cases: list[tuple[str, bytes]] = [
        ("unknown_market", world.sign(ALICE, limit_order("buy", "1", "1", market="X-Y")).raw),
        ("off_tick", world.sign(ALICE, limit_order("buy", "0.1", "78000.001")).raw),
        ("off_lot", world.sign(ALICE, limit_order("buy", "0.000000001", "78000")).raw),
        ("insufficient_balance", world.sign(STRANGER, good).raw),
        ("bad_signature", signed.raw[:-65] + high_s),
        (
            "bad_signature",
            sign_wallet(ALICE, good, nonce=world.nonce(), domain=other).raw,
        ),
        (
            "nonce_out_of_window",
            sign_wallet(ALICE, good, nonce=world.now_ms + 31_000, domain=DOMAIN).raw,
        ),
        ("malformed", signed.raw + b"\x00"),
        ("malformed", b"\x00"),
    ]
    for reason, raw in cases:
        assert await client.refusal("omni_sendTransaction", tx="0x" + raw.hex()) == reason
    assert world.admission.select(()) == ()
    await client.send(signed)
    await world.block()
    again = sign_wallet(
        ALICE, limit_order("sell", "0.1", "79000"), nonce=signed.nonce, domain=DOMAIN
    )
    assert await client.refusal("omni_sendTransaction", tx="0x" + again.raw.hex()) == "nonce_used"
    # The same transaction again is no error, and is told to be final.
    sent = await client.call("omni_sendTransaction", tx="0x" + signed.raw.hex())
    assert sent == {"hash": "0x" + signed.hash.hex(), "state": "final"}


@pytest.mark.parametrize(
    "number",
    ["0", "-1", "NaN", "1e400", "1" * 10_000, "1.0", "+1", "01", "1_0", "\u0661", "", "0x1"],
)
async def test_odd_numbers_in_an_action_are_malformed(client: Client, number: str) -> None:
    action = {
        "type": "place_order",
        "account": address(ALICE),
        "nonce": NOW,
        "market": MARKET,
        "side": "buy",
        "size": number,
        "price": "1",
    }
    assert await client.refusal("omni_getTypedData", action=action) == "malformed"


async def test_typed_data_is_what_a_wallet_signs(world: World, client: Client) -> None:
    action = {
        "type": "place_order",
        "account": address(ALICE),
        "nonce": world.nonce(),
        "market": MARKET,
        "side": "sell",
        "size": "0.1",
        "price": "90000",
    }
    document = await client.call("omni_getTypedData", action=action)
    unsigned = document.pop("unsigned")
    wallet = EthAccount.from_key(ALICE.secret)
    signature = wallet.sign_message(encode_typed_data(full_message=document)).signature
    tx = unsigned + "c441" + signature.hex().removeprefix("0x")
    sent = await client.call("omni_sendTransaction", tx=tx)
    await world.block()
    assert (await client.call("omni_getTransaction", hash=sent["hash"]))["code"] == "ok"


async def test_session_keys_batches_transfers_and_their_events(
    world: World, client: Client
) -> None:
    approve = world.sign(
        ALICE, ApproveAgent(AGENT.address, "bot", ("trade", "cancel"), NOW + 3_600_000)
    )
    transfer = world.sign(ALICE, Transfer(0, BOB.address, 3, "USDC", "12.5"))
    for transaction in (approve, transfer):
        await client.send(transaction)
    await world.block()
    result = await client.call("omni_sendTransactionSync", tx="0x" + transfer.raw.hex())
    assert result["events"] == [
        {
            "event": "transfer",
            "from": address(ALICE) + "/0",
            "to": address(BOB) + "/3",
            "asset": "USDC",
            "amount": "12.5",
        }
    ]
    result = await client.call("omni_sendTransactionSync", tx="0x" + approve.raw.hex())
    assert [event["event"] for event in result["events"]] == ["agent"]
    account = await client.call("omni_getAccount", address=address(ALICE))
    assert [agent["name"] for agent in account["agents"]] == ["bot"]

    orders = tuple(limit_order("buy", "0.1", str(100 + n), client_id=f"b{n}") for n in range(3))
    batch = sign_agent(
        AGENT,
        Batch((), (), orders),
        account=ALICE.address,
        nonce=world.nonce(),
        domain=DOMAIN,
    )
    await client.send(batch)
    received = await client.call("omni_getOrder", order_id=order_text(batch, 2))
    assert (received["state"], received["client_id"]) == ("received", "b2")
    await world.block()
    shown = await client.call("omni_getTransaction", hash="0x" + batch.hash.hex())
    assert [item["status"] for item in shown["items"]] == ["open"] * 3
    assert (await client.call("omni_getOrder", order_id=order_text(batch, 2)))["price"] == "102"


async def test_limits_tell_what_may_still_be_sent(world: World, client: Client) -> None:
    await client.send(world.sign(ALICE, limit_order("buy", "0.1", "100")))
    await world.block()
    limits = await client.call("omni_getLimits", address=address(ALICE))
    assert limits["open_orders"] == 1
    assert limits["open_orders_left"] == limits["open_orders_max"] - 1
    assert limits["nonce_min"] < world.now_ms < limits["nonce_max"]
