"""Money in and out as the interface tells it: deposits, withdrawals, proofs, checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from web3 import Web3

import rpc_world
from omninode.contracts.artifacts import load_artifact
from omninode.dex.actions import AttestDeposits, SignCheckpoint, Withdraw
from omninode.dex.bridge.deposits import Deposit, next_deposit_hash
from omninode.dex.bridge.evm import checkpoint_digest
from omninode.dex.bridge.merkle import verify
from omninode.dex.transaction import Transaction, sign_validator
from omninode.encoding import amount_to_bytes
from omninode.node.re_execution import replay_chain
from rpc_chain import Side
from rpc_world import (
    ALICE,
    BOB,
    BTC_TOKEN,
    CHECKPOINT_INTERVAL_MS,
    CONTRACT,
    DEADLINE_S,
    DOMAIN,
    GENESIS,
    USDC_TOKEN,
    VALIDATOR,
    Client,
    World,
    address,
)

RECIPIENT, STRANGER = b"\xd0" * 20, b"\x77" * 20


class Chain:
    """What happens on the settlement chain, as the one validator tells the exchange."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.count, self.hash = 0, GENESIS.hash

    def _signed(self, action: Any) -> Transaction:
        return sign_validator(VALIDATOR, action, nonce=self.world.nonce(), domain=DOMAIN)

    async def deposit(self, token: bytes, account: bytes, amount: int, subaccount: int = 0) -> int:
        made = Deposit(token, account, subaccount, amount_to_bytes(amount))
        parent, self.hash = self.hash, next_deposit_hash(self.hash, self.count, made)
        self.count += 1
        attestation = AttestDeposits(parent, self.count, self.hash, (made,))
        return await self.world.block(self._signed(attestation))

    async def checkpoint(self) -> int:
        """Make a checkpoint and sign it; return its height."""
        height = await self.world.block(after_ms=CHECKPOINT_INTERVAL_MS)
        checkpoints = self.world.exchange.state.bridge.checkpoints
        pending = checkpoints.pending[checkpoints.number]
        signature = VALIDATOR.sign(pending.digest)
        await self.world.block(self._signed(SignCheckpoint(checkpoints.number, signature)))
        return height


@pytest.fixture
def side() -> Side:
    return Side("http://127.0.0.1:1/")


@pytest.fixture
async def world(tmp_path: Path, side: Side) -> AsyncIterator[World]:
    async with rpc_world.running(tmp_path, settlement=side) as it:
        yield it


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http:
        yield Client(http)


@pytest.fixture
def chain(world: World) -> Chain:
    return Chain(world)


def signer_of(digest: str, signature: str) -> str:
    """Recover an EIP-2098 signature with a library of the EVM's world."""
    data = bytes.fromhex(signature[2:])
    assert len(data) == 64
    full = data[:32] + bytes((data[32] & 0x7F,)) + data[33:] + bytes((27 + (data[32] >> 7),))
    signer: str = Account._recover_hash(digest, signature=full)
    return signer


async def withdraw(world: World, client: Client, amount: str, asset: str = "USDC") -> str:
    sent = await client.send(world.sign(ALICE, Withdraw(0, asset, amount, RECIPIENT)))
    await world.block()
    return sent


async def test_deposits_of_an_account(world: World, client: Client, chain: Chain) -> None:
    height = await chain.deposit(USDC_TOKEN, ALICE.address, 1_500_000, 3)
    await chain.deposit(BTC_TOKEN, BOB.address, 7)
    await chain.deposit(b"\xee" * 20, ALICE.address, 9)
    last = await chain.deposit(BTC_TOKEN, ALICE.address, 1)
    found = await client.call("omni_getDeposits", address=address(ALICE))
    assert (found["credited_count"], found["address"], found["next"]) == (4, address(ALICE), None)
    assert [row["index"] for row in found["deposits"]] == [3, 2, 0]
    newest, ignored, first = found["deposits"]
    assert first == {
        "index": 0,
        "address": address(ALICE) + "/3",
        "asset": "USDC",
        "token": GENESIS.assets[0].token,
        "amount": "1.5",
        "height": height,
        "time_ms": first["time_ms"],
        "state": "credited",
    }
    assert (newest["asset"], newest["amount"], newest["height"]) == ("BTC", "0.00000001", last)
    assert (ignored["state"], ignored["asset"], ignored["amount"]) == ("ignored", None, "9")
    page = await client.call("omni_getDeposits", address=address(ALICE), limit=2)
    assert page["deposits"] == [newest, ignored]
    page = await client.call("omni_getDeposits", address=address(ALICE), before=page["next"])
    assert (page["deposits"], page["next"]) == ([first], None)
    account = await client.call("omni_getAccount", address=address(ALICE) + "/3")
    assert account["subaccounts"][0]["balances"][0]["total"] == "1.5"


async def test_lists_of_one_subaccount(world: World, client: Client, chain: Chain) -> None:
    for index, subaccount in enumerate((0, 5, 1, 5, 1, 1)):
        await chain.deposit(USDC_TOKEN, ALICE.address, index + 1, subaccount)
    await chain.deposit(b"\xee" * 20, ALICE.address, 9)
    for subaccount in (0, 5, 0, 1):
        amount = "0.000001"
        await client.send(world.sign(ALICE, Withdraw(subaccount, "USDC", amount, RECIPIENT)))
        await world.block()
    whole = {
        "omni_getDeposits": {None: [6, 5, 4, 3, 2, 1, 0], 0: [0], 1: [5, 4, 2], 5: [3, 1], 7: []},
        "omni_getWithdrawals": {None: [3, 2, 1, 0], 0: [2, 0], 1: [3], 5: [1], 7: []},
    }
    for name, number in (("omni_getDeposits", "index"), ("omni_getWithdrawals", "id")):
        for subaccount, expected in whole[name].items():
            text = address(ALICE) if subaccount is None else f"{address(ALICE)}/{subaccount}"
            for limit in (1, 2, 100):
                found, before = [], None
                while True:
                    page = await client.call(name, address=text, limit=limit, before=before)
                    rows = page[name.removeprefix("omni_get").lower()]
                    found += [row[number] for row in rows]
                    assert subaccount is None or {row["address"] for row in rows} <= {text}
                    before = page["next"]
                    if before is None:
                        break
                assert found == expected


async def test_the_way_of_a_withdrawal(
    world: World, client: Client, chain: Chain, side: Side
) -> None:
    sent = await withdraw(world, client, "2.25")
    await withdraw(world, client, "1", "BTC")

    async def states() -> list[str]:
        found = await client.call("omni_getWithdrawals", address=address(ALICE))
        assert [row["id"] for row in found["withdrawals"]] == [1, 0]
        return [row["state"] for row in found["withdrawals"]]

    assert await states() == ["requested", "requested"]
    assert await client.refusal("omni_getWithdrawalProof", id=0) == "not_checkpointed"
    await chain.checkpoint()
    assert await states() == ["checkpointed", "checkpointed"]
    assert await client.refusal("omni_getWithdrawalProof", id=0) == "not_checkpointed"
    side.checkpoint = 1
    assert await states() == ["claimable", "claimable"]
    proof = await client.call("omni_getWithdrawalProof", id=0)
    assert (proof["amount"], proof["amount_units"], proof["asset"]) == ("2.25", "2250000", "USDC")
    assert proof["checkpoint"]["number"] == 1
    side.claimed = {0}
    assert await states() == ["claimable", "claimed"]

    found = await client.call("omni_getWithdrawals", address=address(ALICE), before=1, limit=1)
    assert found["next"] == 0
    [row] = found["withdrawals"]
    assert row == {
        "id": 0,
        "address": address(ALICE) + "/0",
        "asset": "USDC",
        "token": GENESIS.assets[0].token,
        "amount": "2.25",
        "recipient": Web3.to_checksum_address(RECIPIENT),
        "height": 1,
        "time_ms": row["time_ms"],
        "transaction": sent,
        "state": "claimed",
    }
    shown = await client.call("omni_getTransaction", hash=sent)
    assert shown["action"]["type"] == "withdraw"


async def test_a_withdrawal_tells_its_index_when_it_is_final(world: World, client: Client) -> None:
    signed = world.sign(ALICE, Withdraw(0, "USDC", "5", RECIPIENT))
    await client.send(signed)
    await client.send(world.sign(BOB, Withdraw(0, "USDC", "6", RECIPIENT)))
    await world.block()
    tx = "0x" + signed.raw.hex()
    final = await client.call("omni_sendTransactionSync", tx=tx)
    [event] = final["events"]
    assert (event["event"], event["amount"], event["transaction"]) == (
        "withdrawal",
        "5",
        final["hash"],
    )


async def test_a_proof_is_what_the_contract_takes(
    world: World, client: Client, chain: Chain, side: Side
) -> None:
    """Decode the call with the compiled contract's own ABI, and verify the proof."""
    for number in range(11):
        await withdraw(world, client, f"{number + 1}.5")
        if number == 6:
            await chain.checkpoint()
    await chain.checkpoint()
    contract = Web3().eth.contract(abi=load_artifact("Settlement").abi)
    for newest, covered in ((1, 7), (2, 11)):
        side.checkpoint = newest
        stored = world.exchange.state.bridge.checkpoints.certified
        assert stored is not None
        for index in range(covered):
            proof = await client.call("omni_getWithdrawalProof", id=index)
            function, given = contract.decode_function_input(proof["calldata"])
            assert function.fn_name == "withdraw"
            assert given["index"] == proof["id"] == proof["index"] == index
            assert proof["amount"] == f"{index + 1}.5"
            assert given["amount"] == int(Decimal(proof["amount"]) * 10**6)
            assert given["amount"] == int(proof["amount_units"])
            assert given["token"] == proof["token"]
            assert given["recipient"] == proof["recipient"]
            assert ["0x" + node.hex() for node in given["proof"]] == proof["proof"]
            struct = next(value for value in given.values() if isinstance(value, dict))
            shown = {
                name: "0x" + value.hex() if isinstance(value, bytes) else value
                for name, value in struct.items()
            }
            assert shown == proof["checkpoint"]
            root = struct["withdrawalRoot"]
            assert verify(bytes.fromhex(proof["leaf"][2:]), list(given["proof"]), root)
        # What a newer checkpoint covers is not claimable before the contract has that one.
        if covered < 11:
            assert await client.refusal("omni_getWithdrawalProof", id=covered) == "not_checkpointed"
    assert (proof["contract"], proof["chain_id"]) == (Web3.to_checksum_address(CONTRACT), 31337)


async def test_checkpoints(world: World, client: Client, chain: Chain, side: Side) -> None:
    assert await client.refusal("omni_getCheckpoint") == "unknown_checkpoint"
    await chain.deposit(USDC_TOKEN, ALICE.address, 1)
    await withdraw(world, client, "1")
    heights = [await chain.checkpoint() for _ in range(3)]
    newest = await client.call("omni_getCheckpoint")
    assert (newest["number"], newest["height"], newest["submitted"]) == (3, heights[2], False)
    assert newest == await client.call("omni_getCheckpoint", height=10**6)
    found = [
        (await client.call("omni_getCheckpoint", height=height))["number"]
        for height in (heights[0], heights[1] - 1, heights[1], heights[2] - 1, heights[2])
    ]
    assert found == [1, 1, 2, 2, 3]
    assert await client.refusal("omni_getCheckpoint", height=heights[0] - 1) == "unknown_checkpoint"

    assert (newest["deposit_count"], newest["withdrawal_count"]) == (1, 1)
    assert newest["deposit_hash"] == "0x" + chain.hash.hex()
    [word] = newest["set"]
    assert bytes.fromhex(word[2:]) == VALIDATOR.address + (10).to_bytes(12, "big")
    assert newest["bitmap"] == "0x1"
    [signature] = newest["signatures"]
    assert signer_of(newest["digest"], signature) == address(VALIDATOR)
    certified = world.exchange.state.bridge.checkpoints.certified
    assert certified is not None
    domain = world.exchange.state.bridge.domain
    assert newest["digest"] == "0x" + checkpoint_digest(certified.checkpoint, domain).hex()

    side.checkpoint = 2
    submitted = [
        (await client.call("omni_getCheckpoint", height=height))["submitted"] for height in heights
    ]
    assert submitted == [True, True, False]
    side.state, side.checkpoint = "unreachable", None
    assert (await client.call("omni_getCheckpoint"))["submitted"] is None


async def test_refusals(world: World, client: Client, chain: Chain, side: Side) -> None:
    assert await client.refusal("omni_getWithdrawalProof", id=0) == "unknown_withdrawal"
    await withdraw(world, client, "1")
    side.state, side.detail = "unreachable", "no endpoint answers"
    assert await client.refusal("omni_getWithdrawalProof", id=0) == "settlement_unreachable"
    side.state = "off"
    assert await client.refusal("omni_getWithdrawalProof", id=0) == "settlement_off"
    side.state, side.checkpoint = "following", 5
    assert await client.refusal("omni_getWithdrawalProof", id=0) == "catching_up"
    for id_ in (-1, "0", 1.5, 2**60):
        assert await client.refusal("omni_getWithdrawalProof", id=id_) == "invalid_params"
    assert await client.refusal("omni_getDeposits", address=address(ALICE), limit=1001) == (
        "invalid_params"
    )
    tx = world.sign(ALICE, Withdraw(0, "USDC", "1", CONTRACT)).raw
    assert await client.refusal("omni_sendTransaction", tx="0x" + tx.hex()) == "invalid_recipient"


async def test_the_supply_is_what_came_in_less_what_went_out(
    world: World, client: Client, chain: Chain
) -> None:
    await chain.deposit(USDC_TOKEN, STRANGER, 1_250_000)
    await withdraw(world, client, "0.5")
    await withdraw(world, client, "2", "BTC")
    supply = await client.call("omni_getSupply")
    assert (supply["height"], supply["block_time_ms"]) == (3, world.exchange.time_ms)
    assert supply["deposits"] == {"count": 1, "hash": "0x" + chain.hash.hex()}
    assert supply["withdrawals"] == {"count": 2}
    assert supply["assets"] == [
        {
            "asset": "USDC",
            "token": GENESIS.assets[0].token,
            "decimals": 6,
            "exchange": "2000000.75",
            "genesis": "2000000",
            "credited": "1.25",
            "withdrawn": "0.5",
        },
        {
            "asset": "BTC",
            "token": GENESIS.assets[1].token,
            "decimals": 8,
            "exchange": "18",
            "genesis": "20",
            "credited": "0",
            "withdrawn": "2",
        },
    ]


async def test_status_and_genesis_show_the_settlement(
    world: World, client: Client, chain: Chain, side: Side
) -> None:
    side.contract, side.detail, side.deposits = Web3.to_checksum_address(CONTRACT), "all well", 4
    shown = (await client.call("omni_status"))["settlement"]
    assert shown == {
        "state": "following",
        "detail": "all well",
        "chain_id": 31337,
        "contract": side.contract,
        "chain_height": 12,
        "confirmed_height": 10,
        "deposits": 4,
        "checkpoint": None,
        "certified": None,
        "deposit_disagreement": None,
    }
    await chain.checkpoint()
    side.checkpoint = 1
    shown = (await client.call("omni_status"))["settlement"]
    assert (shown["checkpoint"], shown["certified"]) == (1, 1)
    genesis = (await client.call("omni_getGenesis"))["genesis"]
    assert genesis["settlement"]["contract"] == side.contract
    assert [asset["token"] for asset in genesis["assets"]] == [a.token for a in GENESIS.assets]


async def test_everything_is_there_after_a_restart(tmp_path: Path, side: Side) -> None:
    async def ask(world: World) -> list[Any]:
        async with httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http:
            client = Client(http)
            return [
                await client.call("omni_getDeposits", address=address(ALICE)),
                await client.call("omni_getWithdrawals", address=address(ALICE)),
                await client.call("omni_getCheckpoint"),
                await client.call("omni_getWithdrawalProof", id=2),
                await client.call("omni_getSupply"),
            ]

    side.checkpoint = 1
    async with rpc_world.running(tmp_path, settlement=side) as world:
        chain = Chain(world)
        await chain.deposit(USDC_TOKEN, ALICE.address, 5)
        async with httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http:
            for _ in range(5):
                await withdraw(world, Client(http), "1")
        await chain.checkpoint()
        before = await ask(world)
    async with rpc_world.running(tmp_path, settlement=side) as world:
        assert await ask(world) == before
        async with httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http:
            await withdraw(world, Client(http), "1")
            found = await Client(http).call("omni_getWithdrawals", address=address(ALICE))
            assert [row["id"] for row in found["withdrawals"]] == [5, 4, 3, 2, 1, 0]
        replayed = replay_chain(world.chain, GENESIS)
        assert (replayed.mismatch, replayed.transactions) == (None, 8)
