"""Every method against a real exchange, real storage and real signed transactions, from outside.

Blocks are made by hand here, so that what a block holds is known; everything else is as in a node:
admission, execution, database, RPC over a socket.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data
from trio_websocket import WebSocketConnection, open_websocket_url

from omninode import __version__
from omninode.consensus.core import Core
from omninode.consensus.timing import Timing
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    VoteKind,
    body_root,
    genesis_header,
    vote_digest,
)
from omninode.crypto import ZERO_HASH, SigningKey, checksum_address
from omninode.dex.actions import (
    Action,
    ApproveAgent,
    Batch,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    Transfer,
)
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisValidator,
)
from omninode.dex.transaction import Transaction, order_id, sign_agent, sign_wallet
from omninode.node.admission import Admission
from omninode.node.admission_ports import AdmissionPorts
from omninode.node.admission_state import ExchangeAdmission
from omninode.node.config import MetricsSection, RpcSection
from omninode.node.execution import Execution
from omninode.node.mempool import BlockLimits, Mempool, PoolLimits
from omninode.node.metrics import Metrics
from omninode.node.net.peers import PeerInfo
from omninode.node.net.settings import Plane
from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.errors import CODES
from omninode.node.rpc.metrics_server import MetricsServer
from omninode.node.rpc.ports import NodeParts
from omninode.node.rpc.service import RpcService
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.history import History
from omninode.storage.journal import Journal
from omninode.storage.records import CommittedBlock

NOW = 1_700_000_000_000
DEADLINE_S = 30
MARKET = "BTC-USDC"
VALIDATOR = SigningKey(b"\x99" * 32)
ALICE = SigningKey(b"\x01" * 32)
BOB = SigningKey(b"\x02" * 32)
AGENT = SigningKey(b"\x03" * 32)
STRANGER = SigningKey(b"\x04" * 32)

GENESIS = Genesis(
    chain_id="test-rpc",
    settlement_chain_id=31337,
    genesis_time_ms=NOW,
    fees=FeeShares(
        treasury=checksum_address(b"\xe0" * 20), development=checksum_address(b"\xe1" * 20)
    ),
    validators=(
        GenesisValidator(
            moniker="val-0",
            address=checksum_address(VALIDATOR.address),
            public_key="0x" + VALIDATOR.public_key.hex(),
            peer_id="12D3KooWTest",
            power=10,
        ),
    ),
    assets=(GenesisAsset(name="USDC", decimals=6), GenesisAsset(name="BTC", decimals=8)),
    markets=(GenesisMarket(name=MARKET, base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),),
    balances=tuple(
        GenesisBalance(address=checksum_address(key.address), asset=asset, amount=amount)
        for key in (ALICE, BOB)
        for asset, amount in (("USDC", "1000000"), ("BTC", "10"))
    ),
)
DOMAIN = Domain(GENESIS.settlement_chain_id, GENESIS.hash)
LIMITS = BlockLimits(bytes_max=1_000_000, count_max=1_000, per_signer_max=1_000)


@dataclass
class Condition:
    node_id: str = "12D3KooWTest"
    moniker: str = "val-0"
    validator_index: int | None = 0
    why_halted: str | None = None
    catching_up: bool = False

    def peers(self) -> Sequence[PeerInfo]:
        peer = PeerInfo(
            id="12D3KooWOther",
            moniker="val-1",
            addresses=("/ip4/127.0.0.1/tcp/1",),
            direction="outbound",
            connected_since_ms=NOW,
            rtt_ms=0.84,
            score=0,
            is_validator=True,
            is_persistent=True,
            planes=(Plane.VOTE,),
            last_error="",
            banned_until_ms=0,
        )
        return [peer]

    def is_catching_up(self) -> bool:
        return self.catching_up

    def halted(self) -> str | None:
        return self.why_halted


@dataclass
class World:
    """A node without peers and consensus: blocks are made by `block`."""

    database: Database
    journal: Journal
    chain: ChainStore
    exchange: Exchange
    genesis_header: Header
    now_ms: int = NOW
    condition: Condition = field(default_factory=Condition)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.last = self.genesis_header
        self.settings = RpcSection(port=0, requests_per_second=100_000, requests_burst=100_000)
        self.admission = Admission(
            Mempool(PoolLimits(10_000, 10_000_000, 5_000), nonce_window_ms=30_000),
            AdmissionPorts(
                state=ExchangeAdmission(self.exchange),
                journal=self.journal,
                is_final=lambda i: self.chain.transaction(i) is not None,
                broadcast=lambda frame: None,
                now_ms=lambda: self.now_ms,
            ),
            rules=GENESIS,
            domain=DOMAIN,
            limits=LIMITS,
            nonce_window_ms=30_000,
        )
        self.execution = Execution(
            self.exchange, self.chain, on_executed=self._on_executed, on_stored=self._on_stored
        )

    async def start(self, nursery: trio.Nursery, **settings: Any) -> None:
        core = Core(
            genesis=self.genesis_header,
            validators=GENESIS.validator_set,
            me=None,
            signer=None,
            timing=Timing(50, 50, 2000),
        )
        parts = NodeParts(
            genesis_header=self.genesis_header,
            exchange=self.exchange,
            chain=self.chain,
            history=History(self.database, self.chain),
            door=self.admission,
            consensus=core,
            condition=self.condition,
        )
        self.rpc = RpcService(
            parts,
            settings=self.settings.model_copy(update=settings),
            idle_block_interval_ms=2000,
            observer=self.metrics,
        )
        await nursery.start(self.execution.run)
        await nursery.start(self.admission.run)
        [(_, self.port)] = await nursery.start(self.rpc.run)
        self.url = f"http://127.0.0.1:{self.port}/"
        self.ws_url = f"ws://127.0.0.1:{self.port}/"

    def _on_executed(self, committed: CommittedBlock, bodies: Sequence[Transaction]) -> None:
        time_ms = committed.block.header.time_ms
        self.admission.executed(bodies, committed.outcome.results, chain_time_ms=time_ms)

    def _on_stored(self, committed: CommittedBlock) -> None:
        self.metrics.block_stored(committed)
        self.rpc.stored(committed)

    async def block(self, *, certified: bool = True, after_ms: int = 10) -> int:
        """Put everything that waits into one block; return its height once it is stored."""
        self.now_ms += after_ms
        ids = self.admission.select(())
        bodies = [body for i in ids if (body := self.admission.body(i)) is not None]
        parent = self.last
        header = msgspec.structs.replace(
            parent,
            view=parent.view + 1,
            height=parent.height + 1,
            parent_hash=parent.hash,
            parent_view=parent.view,
            time_ms=max(self.now_ms, parent.time_ms + 1),
            body_root=body_root(ids),
        )
        block = Block(header, ids)
        self.last = header
        self.execution.execute(block, bodies, certify(block) if certified else None)
        while (head := self.chain.head()) is None or head.height < header.height:
            await trio.sleep(0.001)
        return header.height

    def nonce(self) -> int:
        self.now_ms += 1
        return self.now_ms

    def sign(self, key: SigningKey, action: Action) -> Transaction:
        return sign_wallet(key, action, nonce=self.nonce(), domain=DOMAIN)


def certify(block: Block) -> Certificate:
    digest = vote_digest(
        GENESIS.hash, VoteKind.FINALIZE, epoch=0, view=block.header.view, block_hash=block.hash
    )
    return Certificate(
        VoteKind.FINALIZE, 0, block.header.view, block.hash, (0,), (VALIDATOR.sign(digest),)
    )


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[World]:
    with Database.open(folder / "db") as database, trio.fail_after(DEADLINE_S):
        journal = Journal(database)
        journal.load()
        chain = ChainStore.open(database, journal, genesis_hash=GENESIS.hash)
        exchange = Exchange.genesis(GENESIS)
        header = genesis_header(
            GENESIS.hash,
            time_ms=NOW,
            app_hash=exchange.app_hash,
            valset_hash=GENESIS.validator_set.hash,
        )
        await chain.begin(header, exchange.app_hash, exchange.records())
        world = World(database, journal, chain, exchange, header)
        async with trio.open_nursery() as nursery:
            await world.start(nursery, **settings)
            yield world
            nursery.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as it:
        yield it


class Client:
    """Calls methods and holds every result to its described shape."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def call(self, name: str, **params: Any) -> Any:
        reply = (await self.reply(name, params)).json()
        assert "error" not in reply, reply
        check_shape(name, reply["result"])
        return reply["result"]

    async def refusal(self, name: str, **params: Any) -> str:
        reply = (await self.reply(name, params)).json()
        error = reply["error"]
        reason: str = error["data"]["reason"]
        assert error["code"] == CODES[reason]
        assert error["data"]["hint"]
        known = {*METHODS[name].errors, "invalid_params", "halted"}
        assert reason in known, f"{name} does not tell that it may refuse with {reason}"
        return reason

    async def reply(self, name: str, params: object) -> httpx.Response:
        request = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
        return await self.http.post("/", json=request)

    async def send(self, transaction: Transaction) -> str:
        sent = await self.call("omni_sendTransaction", tx="0x" + transaction.raw.hex())
        assert sent == {"hash": "0x" + transaction.hash.hex(), "state": "received"}
        text: str = sent["hash"]
        return text


def check_shape(name: str, result: object) -> None:
    """Check that a result has all described members, of the described types."""
    msgspec.convert(result, METHODS[name].result, strict=True)
    described = getattr(METHODS[name].result, "__annotations__", None)
    if described is not None:
        assert isinstance(result, dict)
        assert set(result) == set(described)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http:
        yield Client(http)


def limit_order(side: Any, size: str, price: str, **fields: Any) -> PlaceOrder:
    base = PlaceOrder(0, MARKET, side, "limit", size, price, "gtc", False, 0, "")
    return msgspec.structs.replace(base, **fields)


def address(key: SigningKey) -> str:
    return checksum_address(key.address)


def order_text(transaction: Transaction, index: int = 0) -> str:
    return "0x" + order_id(transaction.hash, index).hex()


# --- The node ----------------------------------------------------------------------------------


async def test_status(world: World, client: Client) -> None:
    status = await client.call("omni_status")
    head = world.chain.head()
    assert head is not None
    assert status == {
        "chain_id": "test-rpc",
        "genesis_hash": "0x" + GENESIS.hash.hex(),
        "version": __version__,
        "node_id": "12D3KooWTest",
        "moniker": "val-0",
        "height": 0,
        "block_hash": "0x" + world.genesis_header.hash.hex(),
        "app_hash": "0x" + world.exchange.app_hash.hex(),
        "block_time_ms": NOW,
        "catching_up": False,
        "halted": None,
        "peers": 1,
        "validator": {
            "address": address(VALIDATOR),
            "power": 10,
            "score": "1",
            "jailed": False,
        },
    }
    await world.block()
    later = await client.call("omni_status")
    assert later["height"] == 1
    assert later["app_hash"] == "0x" + world.exchange.app_hash.hex() != status["app_hash"]
    world.condition.validator_index = None
    assert (await client.call("omni_status"))["validator"] is None


async def test_peers_validators_consensus_and_genesis(client: Client) -> None:
    peers = await client.call("omni_getPeers")
    assert peers["peers"][0]["peer_id"] == "12D3KooWOther"
    assert peers["peers"][0]["connected"] is True
    validators = await client.call("omni_getValidators")
    assert validators["total_power"] == 10
    assert validators["validators"][0]["address"] == address(VALIDATOR)
    consensus = await client.call("omni_getConsensusState")
    assert consensus["leader"] == address(VALIDATOR)
    assert consensus["quorum"] == 7
    assert consensus["votes"] == [
        {"address": address(VALIDATOR), "moniker": "val-0", "power": 10, "votes": []}
    ]
    genesis = await client.call("omni_getGenesis")
    assert genesis["genesis_hash"] == "0x" + GENESIS.hash.hex()
    assert msgspec.convert(genesis["genesis"], Genesis, strict=True).hash == GENESIS.hash


async def test_health_follows_the_node_s_condition(world: World, client: Client) -> None:
    assert (await client.http.get("/health")).status_code == 200
    world.condition.catching_up = True
    answer = await client.http.get("/health")
    assert answer.status_code == 503
    assert [p["reason"] for p in answer.json()["problems"]] == ["catching_up"]


async def test_a_halted_node_serves_no_state_and_says_why(world: World, client: Client) -> None:
    world.condition.why_halted = "the app hash of height 7 differs"
    for name in ("omni_getMarkets", "omni_getValidators", "rpc.discover", "omni_getGenesis"):
        reply = (await client.reply(name, {})).json()
        assert ("error" in reply) == METHODS[name].reads_state, name
    assert await client.refusal("omni_getAccount", address=address(ALICE)) == "halted"
    assert (await client.call("omni_status"))["halted"] == "the app hash of height 7 differs"
    answer = await client.http.get("/health")
    assert answer.status_code == 503
    assert "height 7" in answer.json()["problems"][0]["message"]


async def test_metrics_have_a_port_of_their_own(world: World, client: Client) -> None:
    await client.call("omni_status")
    await world.block()
    world.metrics.watch("omninode_rpc_connections", "Open connections", lambda: 3.0)
    server = MetricsServer(world.metrics.registry, settings=MetricsSection(port=0))
    async with trio.open_nursery() as nursery, httpx.AsyncClient() as http:
        [(_, port)] = await nursery.start(server.run)
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        assert "omninode_consensus_height 1.0" in lines
        assert 'omninode_rpc_requests_total{method="omni_status",reason="ok"} 1.0' in lines
        assert "omninode_rpc_connections 3.0" in lines
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 404
        assert (await http.post(f"http://127.0.0.1:{port}/metrics")).status_code == 405
        nursery.cancel_scope.cancel()
    answer = await client.http.get("/metrics")
    assert answer.status_code == 404


# --- Transactions ------------------------------------------------------------------------------


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
    # The same transaction again is no error.
    await client.send(signed)


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


# --- Reading ------------------------------------------------------------------------------------


async def trade_a_little(world: World, client: Client) -> None:
    """Make three blocks with an order book of five levels and four trades."""
    for n in range(5):
        await client.send(world.sign(ALICE, limit_order("sell", "1", str(100 + n))))
    await world.block(certified=False)
    for _ in range(3):
        await client.send(world.sign(BOB, limit_order("buy", "0.25", "100")))
    await world.block()
    await client.send(world.sign(BOB, limit_order("buy", "0.5", "101")))
    await world.block()


async def test_markets_books_trades_and_tickers(world: World, client: Client) -> None:
    await trade_a_little(world, client)
    [market] = (await client.call("omni_getMarkets"))["markets"]
    assert (market["market"], market["tick"], market["best_ask"]) == (MARKET, "0.01", "101")
    book = await client.call("omni_getOrderBook", market=MARKET, depth=2)
    assert book["asks"] == [["101", "0.75"], ["102", "1"]]
    assert (book["bids"], book["height"]) == ([], 3)
    trades = await client.call("omni_getTrades", market=MARKET, limit=2)
    assert [trade["trade_id"] for trade in trades["trades"]] == [5, 4]
    more = await client.call("omni_getTrades", market=MARKET, limit=10, before=trades["next"])
    assert [trade["trade_id"] for trade in more["trades"]] == [3, 2, 1]
    assert more["next"] is None
    [ticker] = (await client.call("omni_getTickers"))["tickers"]
    assert (ticker["last_price"], ticker["best_ask"], ticker["trades"]) == ("101", "101", 5)


async def test_account_open_orders_and_fills(world: World, client: Client) -> None:
    await trade_a_little(world, client)
    account = await client.call("omni_getAccount", address=address(BOB).lower())
    assert account["address"] == address(BOB)
    balances = {b["asset"]: b for b in account["subaccounts"][0]["balances"]}
    assert balances["BTC"]["total"] == "11.25"
    only = await client.call("omni_getAccount", address=address(BOB) + "/7")
    assert only["subaccounts"] == []
    orders = await client.call("omni_getOpenOrders", address=address(ALICE))
    assert [order["price"] for order in orders["orders"]] == ["101", "102", "103", "104"]
    none = await client.call("omni_getOpenOrders", address=address(ALICE) + "/1", market=MARKET)
    assert none["orders"] == []

    pages: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.call(
            "omni_getFills", address=address(BOB), limit=2, **({"before": cursor} if cursor else {})
        )
        pages += page["fills"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [fill["trade_id"] for fill in pages] == [5, 4, 3, 2, 1]
    assert {fill["liquidity"] for fill in pages} == {"taker"}
    assert (await client.call("omni_getFills", address=address(STRANGER)))["fills"] == []


async def test_transactions_of_an_account_in_pages(world: World, client: Client) -> None:
    await trade_a_little(world, client)
    first = await client.call("omni_getTransactions", address=address(BOB), limit=3)
    assert [row["height"] for row in first["transactions"]] == [3, 2, 2]
    second = await client.call(
        "omni_getTransactions", address=address(BOB), limit=3, before=first["next"]
    )
    assert len(second["transactions"]) == 1
    assert second["next"] is None
    hashes = {row["hash"] for row in first["transactions"] + second["transactions"]}
    assert len(hashes) == 4


async def test_blocks_with_transactions_events_and_certificate(
    world: World, client: Client
) -> None:
    await trade_a_little(world, client)
    block = await client.call("omni_getBlock", height=2)
    assert len(block["transactions"]) == 3
    assert {event["event"] for event in block["events"]} == {"order", "trade"}
    assert block["certificate"]["height"] == 2
    assert block["certificate"]["signers"] == [address(VALIDATOR)]
    # The first block was stored without a certificate of its own: the next one covers it.
    blocks = (await client.call("omni_getBlocks", **{"from": 0, "to": 3}))["blocks"]
    assert [b["height"] for b in blocks] == [0, 1, 2, 3]
    assert blocks[1]["certificate"]["height"] == 2
    assert blocks[2] == block
    assert [b["header"]["parent_hash"] for b in blocks[1:]] == [b["hash"] for b in blocks[:-1]]
    assert blocks[3]["app_hash"] == "0x" + world.exchange.app_hash.hex()
    assert blocks[0]["certificate"] is None
    assert blocks[0]["header"]["parent_hash"] == "0x" + ZERO_HASH.hex()


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("omni_getBlock", {"height": 1}, "unknown_block"),
        ("omni_getBlock", {"height": -1}, "invalid_params"),
        ("omni_getBlock", {"height": 2**64}, "invalid_params"),
        ("omni_getBlock", {"height": "0"}, "invalid_params"),
        ("omni_getBlock", {}, "invalid_params"),
        ("omni_getBlocks", {"from": 1, "to": 0}, "invalid_params"),
        ("omni_getBlocks", {"from": 0, "to": 100}, "invalid_params"),
        ("omni_getBlocks", {"from": 0, "to": 1}, "unknown_block"),
        ("omni_getOrderBook", {"market": "X-Y"}, "unknown_market"),
        ("omni_getOrderBook", {"market": MARKET, "depth": 0}, "invalid_params"),
        ("omni_getOrderBook", {"market": MARKET, "depth": 1001}, "invalid_params"),
        ("omni_getTrades", {"market": "X-Y"}, "unknown_market"),
        ("omni_getTrades", {"market": MARKET, "limit": 0}, "invalid_params"),
        ("omni_getTrades", {"market": MARKET, "limit": 1001}, "invalid_params"),
        ("omni_getTrades", {"market": MARKET, "before": -1}, "invalid_params"),
        ("omni_getFills", {"address": "0x00"}, "invalid_params"),
        ("omni_getFills", {"address": address(BOB), "before": "1"}, "invalid_params"),
        ("omni_getFills", {"address": address(BOB), "before": "1:2:2"}, "invalid_params"),
        ("omni_getFills", {"address": address(BOB), "before": "9" * 40}, "invalid_params"),
        ("omni_getTransactions", {"address": address(BOB), "before": "a:b"}, "invalid_params"),
        ("omni_getTransactions", {"address": address(BOB), "limit": 1001}, "invalid_params"),
        ("omni_getAccount", {"address": "bob"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB) + "/01"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB) + "/1000"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB) + "/"}, "invalid_params"),
        ("omni_getAccount", {"address": address(BOB).swapcase()}, "invalid_params"),
        ("omni_getOpenOrders", {"address": address(BOB), "market": "X-Y"}, "unknown_market"),
        ("omni_getOrder", {}, "invalid_params"),
        ("omni_getOrder", {"order_id": "0x" + "00" * 32}, "unknown_order"),
        ("omni_getOrder", {"order_id": "0x" + "00" * 31}, "invalid_params"),
        ("omni_getOrder", {"order_id": "0x" + "0g" * 32}, "invalid_params"),
        ("omni_getOrder", {"address": address(BOB), "client_id": "x"}, "unknown_order"),
        ("omni_getOrder", {"address": address(BOB)}, "invalid_params"),
        ("omni_getTransaction", {"hash": "0x" + "00" * 32}, "unknown_transaction"),
        ("omni_getTransaction", {"hash": "00" * 32}, "invalid_params"),
        ("omni_sendTransaction", {"tx": "0x"}, "invalid_params"),
        ("omni_sendTransaction", {"tx": "0x0"}, "invalid_params"),
        ("omni_sendTransaction", {"tx": "0x" + "00" * 40_000}, "invalid_params"),
        ("omni_sendTransactionSync", {"tx": "0x00", "timeout_ms": 30_001}, "invalid_params"),
        ("omni_sendTransactionSync", {"tx": "0x00", "timeout_ms": 0}, "invalid_params"),
        ("omni_getTypedData", {"action": {}}, "malformed"),
        ("omni_getTypedData", {"action": []}, "invalid_params"),
        ("omni_subscribe", {"channel": "blocks"}, "websocket_required"),
        ("omni_unsubscribe", {"subscription": "0x1"}, "websocket_required"),
    ],
)
async def test_refusals_of_reads(
    client: Client, name: str, params: dict[str, Any], reason: str
) -> None:
    assert await client.refusal(name, **params) == reason


async def test_every_method_is_described_and_methods_of_later_are_absent(client: Client) -> None:
    document = await client.call("rpc.discover")
    assert document["openrpc"].startswith("1.")
    names = [entry["name"] for entry in document["methods"]]
    assert names == list(METHODS)
    references = set(_references(document))
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    for entry in document["methods"]:
        assert entry["summary"]
        assert entry["description"]
    for name in ("omni_getCheckpoint", "omni_getDeposits", "chat_rooms", "eth_chainId"):
        reply = (await client.reply(name, {})).json()
        assert reply["error"]["code"] == -32601


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


async def test_a_batch_of_orders_in_one_request(world: World, client: Client) -> None:
    signed = [world.sign(ALICE, limit_order("buy", "0.01", str(50 + n))) for n in range(100)]
    batch = [
        {
            "jsonrpc": "2.0",
            "id": n,
            "method": "omni_sendTransaction",
            "params": ["0x" + t.raw.hex()],
        }
        for n, t in enumerate(signed)
    ]
    replies = (await client.http.post("/", json=batch)).json()
    assert [reply["id"] for reply in replies] == list(range(100))
    assert [reply["result"]["hash"] for reply in replies] == ["0x" + t.hash.hex() for t in signed]
    await world.block()
    book = await client.call("omni_getOrderBook", market=MARKET, depth=1000)
    assert len(book["bids"]) == 100


# --- Streams -----------------------------------------------------------------------------------


class Listener:
    """A WebSocket client that sorts what it hears by subscription."""

    def __init__(self, ws: WebSocketConnection) -> None:
        self.ws = ws
        self.heard: dict[str, list[dict[str, Any]]] = {}
        self._count = 0

    async def call(self, name: str, **params: Any) -> Any:
        self._count += 1
        request = {"jsonrpc": "2.0", "id": self._count, "method": name, "params": params}
        await self.ws.send_message(json.dumps(request))
        while True:
            message = await self._next()
            if message.get("id") == self._count:
                assert "error" not in message, message
                check_shape(name, message["result"])
                return message["result"]

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.ws.get_message())
        if "method" in message:
            assert message["method"] == "omni_subscription"
            event = message["params"]
            events = self.heard.setdefault(event["subscription"], [])
            events.append(event)
            assert event["sequence"] == len(events)
        return message

    async def hear(self, subscription: str, height: int) -> list[dict[str, Any]]:
        """Return what a subscription brought, once it has brought a block."""
        while not any(e["height"] >= height for e in self.heard.get(subscription, [])):
            await self._next()
        return self.heard[subscription]


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[Listener]:
    async with open_websocket_url(world.ws_url) as ws:
        yield Listener(ws)


async def test_streams_of_blocks_trades_orders_and_fills(world: World, client: Client) -> None:
    first = world.sign(ALICE, limit_order("sell", "1", "100", client_id="first"))
    await client.send(first)
    await world.block()
    async with listening(world) as listener:
        blocks = await listener.call("omni_subscribe", channel="blocks")
        trades = await listener.call("omni_subscribe", channel="trades", market=MARKET)
        orders = await listener.call("omni_subscribe", channel="orders", address=address(ALICE))
        fills = await listener.call("omni_subscribe", channel="fills", address=address(BOB))
        ticker = await listener.call("omni_subscribe", channel="ticker", market=MARKET)
        assert blocks["height"] == trades["height"] == orders["height"] == 1
        assert [order["client_id"] for order in orders["snapshot"]] == ["first"]
        assert ticker["snapshot"]["best_ask"] == "100"

        taker = world.sign(BOB, limit_order("buy", "0.25", "100"))
        await client.send(taker)
        height = await world.block()

        [block] = await listener.hear(blocks["subscription"], height)
        assert block["transactions"] == [
            {"hash": "0x" + taker.hash.hex(), "code": "ok", "reason": ""}
        ]
        shown = await client.call("omni_getBlock", height=height)
        assert (block["hash"], block["app_hash"]) == (shown["hash"], shown["app_hash"])
        [trade] = await listener.hear(trades["subscription"], height)
        assert [t["price"] for t in trade["trades"]] == ["100"]
        listed = await client.call("omni_getTrades", market=MARKET)
        assert trade["trades"] == listed["trades"]
        [update] = await listener.hear(orders["subscription"], height)
        [order] = update["orders"]
        assert (order["state"], order["filled"]) == ("partially_filled", "0.25")
        [fill] = await listener.hear(fills["subscription"], height)
        assert fill["fills"] == (await client.call("omni_getFills", address=address(BOB)))["fills"]
        [tick] = await listener.hear(ticker["subscription"], height)
        assert tick["last_price"] == "100"

        assert await listener.call("omni_unsubscribe", subscription=trades["subscription"]) is True
        await client.send(world.sign(BOB, limit_order("buy", "0.25", "100")))
        height = await world.block()
        await listener.hear(blocks["subscription"], height)
        assert len(listener.heard[trades["subscription"]]) == 1


async def test_snapshot_and_updates_of_a_book_fit_together(
    world: World, client: Client, rng: random.Random
) -> None:
    """Apply every update to the snapshot: after each block it is the book that is asked for."""
    for n in range(20):
        side = rng.choice(("buy", "sell"))
        price = str(100 + n if side == "sell" else 100 - n - 1)
        await client.send(world.sign(ALICE, limit_order(side, "0.01", price)))
    await world.block()
    async with listening(world) as listener:
        started = await listener.call("omni_subscribe", channel="book", market=MARKET)
        sides = {name: dict(map(tuple, started["snapshot"][name])) for name in ("bids", "asks")}
        for _ in range(12):
            for _ in range(rng.randrange(1, 6)):
                await client.send(random_action(world, rng))
            height = await world.block()
            book = await client.call("omni_getOrderBook", market=MARKET, depth=1000)
            if {name: dict(map(tuple, book[name])) for name in sides} != sides:
                *_, update = await listener.hear(started["subscription"], height)
                assert update["height"] == height
                for name, levels in sides.items():
                    for price, size in update[name]:
                        if size == "0":  # gone, or come and gone within one block
                            levels.pop(price, None)
                        else:
                            levels[price] = size
            assert {name: dict(map(tuple, book[name])) for name in sides} == sides


def random_action(world: World, rng: random.Random) -> Transaction:
    key = rng.choice((ALICE, BOB))
    if rng.random() < 0.05:
        return world.sign(key, CancelAll(0, MARKET))
    if rng.random() < 0.3:
        orders = list(world.exchange.state.open_orders.by_id.values())
        if orders:
            order = rng.choice(orders)
            owner = ALICE if order.account.owner.address == ALICE.address else BOB
            return world.sign(owner, CancelOrder(0, order.order_id, ""))
    side = rng.choice(("buy", "sell"))
    return world.sign(key, limit_order(side, "0.01", str(rng.randrange(80, 120))))


async def test_a_snapshot_ahead_of_storage_is_not_told_twice(world: World, client: Client) -> None:
    """A book read between execution and storage already holds the block that is told later."""
    async with listening(world) as listener:
        started = await listener.call("omni_subscribe", channel="book", market=MARKET)
        late: list[Any] = []
        stored = world.rpc.stored

        def hold(committed: CommittedBlock) -> None:
            late.append(committed)

        world.rpc.stored = hold  # type: ignore[method-assign]
        await client.send(world.sign(ALICE, limit_order("sell", "1", "100")))
        height = await world.block()
        ahead = await listener.call("omni_subscribe", channel="book", market=MARKET)
        assert (ahead["height"], ahead["snapshot"]["asks"]) == (height, [["100", "1"]])
        world.rpc.stored = stored  # type: ignore[method-assign]
        for committed in late:
            stored(committed)
        await client.send(world.sign(ALICE, limit_order("sell", "1", "101")))
        height = await world.block()
        [update] = await listener.hear(ahead["subscription"], height)
        assert update["asks"] == [["101", "1"]]
        assert len(await listener.hear(started["subscription"], height)) == 2


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"channel": "chat"},
        {"channel": "book"},
        {"channel": "blocks", "market": MARKET},
        {"channel": "orders", "market": MARKET},
        {"channel": "fills"},
        {"channel": "orders", "address": address(ALICE) + "/1"},
        {"channel": "orders", "address": "0x"},
    ],
)
async def test_a_wrong_subscription_is_invalid(world: World, params: dict[str, Any]) -> None:
    async with open_websocket_url(world.ws_url) as ws:
        request = {"jsonrpc": "2.0", "id": 1, "method": "omni_subscribe", "params": params}
        await ws.send_message(json.dumps(request))
        error = json.loads(await ws.get_message())["error"]
        assert error["code"] == -32602
        batched = [request, request]
        await ws.send_message(json.dumps(batched))
        assert {r["error"]["code"] for r in json.loads(await ws.get_message())} == {-32602}


async def test_a_subscription_ends_with_its_connection(world: World) -> None:
    async with listening(world) as listener:
        await listener.call("omni_subscribe", channel="blocks")
        assert world.rpc.feed.subscriptions() == {"blocks": 1}
    while world.rpc.feed.subscriptions():
        await trio.sleep(0.005)
    await world.block()


async def test_reads_hold_while_orders_pour_in(world: World, client: Client) -> None:
    """Many readers and writers at once: every answer is whole, and heights never go back."""
    heights: list[int] = []

    async def read() -> None:
        for _ in range(20):
            book = await client.call("omni_getOrderBook", market=MARKET)
            heights.append(book["height"])
            assert all(float(a[0]) > float(b[0]) for a in book["asks"] for b in book["bids"][:1])

    async def write(key: SigningKey, side: str, price: int) -> None:
        for n in range(20):
            await client.send(world.sign(key, limit_order(side, "0.01", str(price + n % 5))))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as work:
            for _ in range(3):
                work.start_soon(read)
            work.start_soon(write, ALICE, "sell", 102)
            work.start_soon(write, BOB, "buy", 99)
            nursery.start_soon(make_blocks, world)
        nursery.cancel_scope.cancel()
    assert max(heights) > 0


async def make_blocks(world: World) -> None:
    while True:
        await world.block()
