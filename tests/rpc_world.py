"""A node without peers and consensus, and a client that holds every answer to its described shape.

Blocks are made by hand, so that what a block holds is known; everything else is as in a node:
admission, execution, database, RPC over a socket. `conftest.py` loads this module by its path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

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
from omninode.crypto import SigningKey, checksum_address
from omninode.dex.actions import (
    Action,
    PlaceOrder,
)
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisSettlement,
    GenesisValidator,
)
from omninode.dex.transaction import Transaction, order_id, sign_wallet
from omninode.node.admission import Admission
from omninode.node.admission_ports import AdmissionPorts
from omninode.node.admission_state import ExchangeAdmission
from omninode.node.config import RpcSection
from omninode.node.execution import Execution
from omninode.node.mempool import BlockLimits, Mempool, PoolLimits
from omninode.node.metrics import Metrics
from omninode.node.net.peers import PeerInfo
from omninode.node.net.settings import Plane
from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.errors import CODES
from omninode.node.rpc.ports import NodeParts, Settlement
from omninode.node.rpc.service import RpcService
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.epochs import Epochs
from omninode.storage.history import History
from omninode.storage.journal import Journal
from omninode.storage.records import CommittedBlock
from omninode.storage.snapshot import Snapshots

CHECKPOINT_INTERVAL_MS = 60_000
CONTRACT, USDC_TOKEN, BTC_TOKEN = b"\xc0" * 20, b"\xc1" * 20, b"\xc2" * 20
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
    settlement=GenesisSettlement(
        contract=checksum_address(CONTRACT),
        start_block=1,
        checkpoint_interval_ms=CHECKPOINT_INTERVAL_MS,
    ),
    assets=(
        GenesisAsset(name="USDC", decimals=6, token=checksum_address(USDC_TOKEN)),
        GenesisAsset(name="BTC", decimals=8, token=checksum_address(BTC_TOKEN)),
    ),
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
    settlement: Settlement | None = None

    def __post_init__(self) -> None:
        head = self.chain.head()
        assert head is not None
        self.last = head.header
        self.now_ms = self.last.time_ms
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
            self.exchange,
            self.chain,
            epochs=Epochs(self.database, self.chain, Snapshots(Path("no snapshots"))),
            on_executed=self._on_executed,
            on_stored=self._on_stored,
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
            settlement=self.settlement,
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

    async def block(self, *more: Transaction, certified: bool = True, after_ms: int = 10) -> int:
        """Put everything that waits, and more, into one block; return its height once stored."""
        self.now_ms += after_ms
        waiting = self.admission.select(())
        bodies = [body for i in waiting if (body := self.admission.body(i)) is not None]
        bodies += more
        ids = tuple(body.hash for body in bodies)
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
async def running(
    folder: Path, *, settlement: Settlement | None = None, **settings: Any
) -> AsyncIterator[World]:
    with Database.open(folder / "db") as database, trio.fail_after(DEADLINE_S):
        journal = Journal(database)
        journal.load()
        chain = ChainStore.open(database, journal, genesis_hash=GENESIS.hash)
        first = Exchange.genesis(GENESIS)
        header = genesis_header(
            GENESIS.hash,
            time_ms=NOW,
            app_hash=first.app_hash,
            valset_hash=GENESIS.validator_set.hash,
        )
        if chain.head() is None:
            await chain.begin(header, first.app_hash, first.records())
        exchange = Exchange.load(GENESIS, chain.state_records())
        world = World(database, journal, chain, exchange, header, settlement=settlement)
        async with trio.open_nursery() as nursery:
            await world.start(nursery, **settings)
            yield world
            nursery.cancel_scope.cancel()


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


def limit_order(side: Any, size: str, price: str, **fields: Any) -> PlaceOrder:
    base = PlaceOrder(0, MARKET, side, "limit", size, price, "gtc", False, 0, "")
    return msgspec.structs.replace(base, **fields)


def address(key: SigningKey) -> str:
    return checksum_address(key.address)


def order_text(transaction: Transaction, index: int = 0) -> str:
    return "0x" + order_id(transaction.hash, index).hex()
