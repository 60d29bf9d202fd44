"""A network of consensus services in one process, on virtual time.

Everything of a node runs but its sockets: core, driver, vote log and signer guard, admission,
exchange, database. Frames and requests travel over `Hub`, which delays, cuts and bends them.

Time is virtual and moves only when nobody is at work, threads included: `Clock.run` makes trio's
mock clock jump to the next deadline.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import trio
import trio.testing

from omninode.consensus.core import Core
from omninode.consensus.driver.limits import REPLY_BYTES_MAX
from omninode.consensus.driver.questions import (
    BLOCK_PROTOCOL,
    BLOCKS_PROTOCOL,
    TRANSACTIONS_PROTOCOL,
)
from omninode.consensus.driver.service import BodyLimits, ConsensusService, Halted, Ports
from omninode.consensus.guard import SignerGuard
from omninode.consensus.timing import Timing
from omninode.consensus.types import ValidatorSet
from omninode.consensus.vote_log import VoteLog
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.actions import PlaceOrder
from omninode.dex.eip712 import Domain
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisValidator,
    check_genesis,
)
from omninode.dex.transaction import Transaction, sign_wallet
from omninode.errors import Malformed, PeerFault
from omninode.node.admission import Admission
from omninode.node.admission_ports import AdmissionPorts
from omninode.node.admission_state import ExchangeAdmission
from omninode.node.chain_state import ChainState
from omninode.node.execution import Execution
from omninode.node.home import Home
from omninode.node.mempool import BlockLimits, Mempool, PoolLimits
from omninode.storage.database import Database
from omninode.storage.records import CommittedBlock

START_MS = 1_700_000_000_000
DELTA_MS = 50
IDLE_MS = 2_000
WAIT_S = 60

TRADERS = tuple(SigningKey(keccak256(b"trader%d" % n)) for n in range(8))
VOTE_KEYS = tuple(SigningKey(keccak256(b"vote%d" % n)) for n in range(8))

_to_thread = trio.to_thread.run_sync


def make_genesis(validators: int = 4, **changes: Any) -> Genesis:
    """Build a genesis with equal validators and eight rich traders."""
    sections: dict[str, Any] = {
        "chain_id": "driver",
        "settlement_chain_id": 31337,
        "genesis_time_ms": START_MS,
        "fees": FeeShares(
            treasury=checksum_address(b"\xe0" * 20), development=checksum_address(b"\xe1" * 20)
        ),
        "validators": tuple(
            GenesisValidator(
                moniker=f"node{n}",
                address=checksum_address(VOTE_KEYS[n].address),
                public_key="0x" + VOTE_KEYS[n].public_key.hex(),
                peer_id=f"peer{n}",
                power=100,
            )
            for n in range(validators)
        ),
        "assets": (GenesisAsset(name="USDC", decimals=6), GenesisAsset(name="BTC", decimals=8)),
        "markets": (
            GenesisMarket(name="BTC-USDC", base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
        ),
        "balances": tuple(
            GenesisBalance(address=checksum_address(key.address), asset="USDC", amount="1000000")
            for key in TRADERS
        ),
    }
    genesis = Genesis(**(sections | changes))
    check_genesis(genesis)
    return genesis


class Clock:
    """Virtual time that waits for threads.

    Attributes:
        busy: Pieces of work under way.
        stuck: How many of them a test holds back: they do not keep time from passing.
    """

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._clock = clock
        self._start_s = clock.current_time()
        self.busy = 0
        self.stuck = 0

    def now_ms(self) -> int:
        return START_MS + round((self._clock.current_time() - self._start_s) * 1_000)

    async def to_thread(self, *args: Any, **options: Any) -> Any:
        """Stand in for `trio.to_thread.run_sync`, so that work in threads is seen."""
        return await self.at_work(_to_thread(*args, **options))

    async def at_work(self, work: Awaitable[Any]) -> Any:
        """Await something during which no time passes."""
        self.busy += 1
        try:
            return await work
        finally:
            self.busy -= 1

    def watched(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return an asynchronous function during whose calls no time passes."""

        async def call(*args: Any, **options: Any) -> Any:
            return await self.at_work(work(*args, **options))

        return call

    async def run(self) -> NoReturn:
        """Jump to the next deadline whenever nobody has anything to do."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            ahead_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
            if self.busy > self.stuck or not 0 < ahead_s < float("inf"):
                await _to_thread(time.sleep, 0.0003)
            else:
                self._clock.jump(ahead_s)


async def until(condition: Callable[[], Any], *, within_s: float = WAIT_S) -> Any:
    """Return a condition's first true value; fail when none comes in (virtual) time."""
    with trio.fail_after(within_s):
        while not (value := condition()):
            await trio.sleep(0.005)
    return value


class Hub:
    """What connects the nodes. Each pair of nodes has one ordered way in each direction.

    Attributes:
        delay_ms: Of a frame, of a question and of an answer.
        cut: Pairs between which nothing passes, neither way.
        bend_frame: Given sender, receiver and frame; returns the frame that arrives, or `None`.
        bend_answer: Given who was asked, the protocol and the answer; returns what arrives, or
            `None` for no answer.
        faults: What receivers held against senders: receiver, sender, reason.
        asked: Questions so far: asker, asked, protocol.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.delay_ms = 1
        self.cut: set[frozenset[str]] = set()
        self.bend_frame: Callable[[str, str, bytes], bytes | None] = lambda _a, _b, frame: frame
        self.bend_answer: Callable[[str, str, bytes], bytes | None] = lambda _p, _q, answer: answer
        self.faults: list[tuple[str, str, str]] = []
        self.asked: list[tuple[str, str, str]] = []
        self.nodes: dict[str, Node] = {}
        self._nursery = nursery
        self._ways: dict[tuple[str, str], trio.MemorySendChannel[tuple[float, bytes]]] = {}

    def is_open(self, one: str, other: str) -> bool:
        is_cut = frozenset((one, other)) in self.cut
        return one != other and not is_cut and {one, other} <= self.nodes.keys()

    def isolate(self, peer: str) -> None:
        """Cut a node off from all others."""
        self.cut |= {frozenset((peer, other)) for other in self.nodes if other != peer}

    def join(self, peer: str) -> None:
        """Undo `isolate`, and say so to both ends."""
        self.cut = {pair for pair in self.cut if peer not in pair}
        self.connected(peer)

    def connected(self, peer: str) -> None:
        for other in self.nodes:
            if self.is_open(peer, other):
                self.nodes[peer].consensus.peer_connected(other)
                self.nodes[other].consensus.peer_connected(peer)

    def send(self, sender: str, receiver: str, frame: bytes) -> bool:
        if not self.is_open(sender, receiver):
            return False
        if (sender, receiver) not in self._ways:
            send, receive = trio.open_memory_channel[tuple[float, bytes]](10_000)
            self._ways[sender, receiver] = send
            self._nursery.start_soon(self._carry, sender, receiver, receive)
        due = trio.current_time() + self.delay_ms / 1_000
        self._ways[sender, receiver].send_nowait((due, frame))
        return True

    async def _carry(
        self, sender: str, receiver: str, way: trio.MemoryReceiveChannel[tuple[float, bytes]]
    ) -> None:
        async for due, frame in way:
            await trio.sleep_until(due)
            bent = self.bend_frame(sender, receiver, frame)
            if bent is not None and self.is_open(sender, receiver):
                await self.deliver(sender, receiver, bent)

    async def deliver(self, sender: str, receiver: str, frame: bytes) -> None:
        try:
            await self.nodes[receiver].consensus.inbox.receive(sender, frame)
        except PeerFault as fault:
            self.faults.append((receiver, sender, fault.reason))

    async def request(
        self, asker: str, asked: str, protocol: str, payload: bytes, timeout_ms: int
    ) -> bytes:
        self.asked.append((asker, asked, protocol))
        if not self.is_open(asker, asked):
            raise PeerFault("not_connected", penalty=0)
        with trio.move_on_after(timeout_ms / 1_000):
            await trio.sleep(self.delay_ms / 1_000)
            if not self.is_open(asker, asked):
                raise PeerFault("disconnected", penalty=0)
            try:
                answer = await self.nodes[asked].handlers[protocol](asker, payload)
            except (PeerFault, Malformed) as fault:
                self.faults.append((asked, asker, str(fault)))
                raise PeerFault("refused", penalty=0) from None
            await trio.sleep(self.delay_ms / 1_000)
            bent = self.bend_answer(asked, protocol, answer)
            if bent is None:
                await trio.sleep_forever()
            elif self.is_open(asker, asked):
                assert len(bent) <= REPLY_BYTES_MAX
                return bent
        raise PeerFault("timeout", penalty=0)


class HubPeers:
    """`consensus.ports.Peers` of one node."""

    def __init__(self, hub: Hub, me: str, validators: ValidatorSet) -> None:
        self._hub = hub
        self._me = me
        self.use(validators)
        self.penalties: list[tuple[str, str, int]] = []

    def use(self, validators: ValidatorSet) -> None:
        """Take the set whose members have a vote plane."""
        self._validators = frozenset(v.peer_id for v in validators.validators)

    def send(self, peer: str, frame: bytes) -> bool:
        has_planes = {peer, self._me} <= self._validators
        return has_planes and self._hub.send(self._me, peer, frame)

    def broadcast(self, frame: bytes) -> int:
        return sum(self.send(peer, frame) for peer in self.connected())

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        return await self._hub.request(self._me, peer, protocol, payload, timeout_ms)

    def connected(self) -> list[str]:
        peers = [p for p in sorted(self._validators) if self._hub.is_open(self._me, p)]
        return peers or [p for p in sorted(self._hub.nodes) if self._hub.is_open(self._me, p)]

    def penalize(self, peer: str, reason: str, penalty: int) -> None:
        self.penalties.append((peer, reason, penalty))


class Node:
    """One node: validator `index`, or an observer if that is `None`."""

    def __init__(self, world: World, name: str, index: int | None) -> None:
        self.world = world
        self.name = name
        self.index = index
        self.home = Home(world.disk / name)
        self.has_crashed = False
        self.halts: list[Halted] = []
        self.stored: list[CommittedBlock] = []
        self.broadcasts: list[bytes] = []
        self.epochs: list[int] = []

    @property
    def height(self) -> int:
        return self.execution.height

    async def open(self) -> None:
        """Read the disk and build the node, as `node/runtime.py` does."""
        genesis, clock = self.world.genesis, self.world.clock
        self.home.path.mkdir(exist_ok=True)
        self.state = await ChainState.open(self.home, genesis)
        guard = self.home.signer_guard if self.index is not None else None
        if guard is not None and not guard.exists():
            SignerGuard.create(guard).close()
        self.vote_log, self.records = VoteLog.open(self.home.write_ahead_log, guard)
        self.execution = Execution(
            self.world.wrap_exchange(self),
            self.state.chain,
            epochs=self.state.epochs,
            on_executed=self._on_executed,
            on_stored=self.stored.append,
        )
        self.admission = self._admission()
        key = None if self.index is None else VOTE_KEYS[self.index]
        self.core = Core(
            genesis=self.state.genesis,
            validators=self.state.validators,
            me=None if key is None else self.state.validators.index_of(key.address),
            signer=None if key is None else key.sign,
            timing=Timing(DELTA_MS, self.world.interval_ms, IDLE_MS),
            finalized=self.state.finalized_tip(),
            vote_floor_view=self.vote_log.floor_view(self.state.validators.epoch),
            following=self.state.following,
        )
        self.peers = HubPeers(self.world.hub, self.name, self.state.validators)
        self.consensus = ConsensusService(
            self.core,
            genesis_hash=genesis.hash,
            ports=Ports(
                pool=self.admission,
                ledger=self.execution,
                peers=self.peers,
                vote_log=self.world.wrap_log(self.name, self.vote_log),
                clock=clock.now_ms,
            ),
            limits=BodyLimits(
                genesis.consensus.block_bytes_max, genesis.consensus.block_transactions_max
            ),
            delta_ms=DELTA_MS,
            on_halt=self.halts.append,
            on_epoch=self._on_epoch,
            address=None if key is None else key.address,
        )
        self.handlers = self.world.handlers_of(self)

    def _on_epoch(self, validators: ValidatorSet) -> None:
        self.peers.use(validators)
        self.epochs.append(validators.epoch)

    def _admission(self) -> Admission:
        genesis, state = self.world.genesis, self.state
        params = genesis.consensus
        return Admission(
            Mempool(PoolLimits(50_000, 16 << 20, 5_000), nonce_window_ms=params.nonce_window_ms),
            AdmissionPorts(
                state=ExchangeAdmission(state.exchange),
                journal=state.journal,
                is_final=lambda i: state.chain.transaction(i) is not None,
                broadcast=self._gossip,
                now_ms=self.world.clock.now_ms,
            ),
            rules=genesis,
            domain=self.world.domain,
            limits=BlockLimits(params.block_bytes_max, params.block_transactions_max, 1_000),
            nonce_window_ms=params.nonce_window_ms,
        )

    def _gossip(self, frame: bytes) -> None:
        """Hand transactions to the others, unless the test keeps them here."""
        self.broadcasts.append(frame)
        for other in self.world.hub.nodes.values():
            if other is not self and self.world.gossip(self, other):
                self.world.nursery.start_soon(self._give, other, frame)

    async def _give(self, other: Node, frame: bytes) -> None:
        await trio.sleep(self.world.hub.delay_ms / 1_000)
        if self.world.hub.is_open(self.name, other.name):
            await other.admission.receive_frame(self.name, frame)

    def _on_executed(self, committed: CommittedBlock, bodies: Sequence[Transaction]) -> None:
        self.admission.executed(
            bodies, committed.outcome.results, chain_time_ms=committed.block.header.time_ms
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled or crashed; the files are closed at the end."""
        await self.open()
        await self.consensus.replay(self.records)
        self.world.hub.nodes[self.name] = self
        try:
            async with trio.open_nursery() as self.nursery:
                await self.nursery.start(self.execution.run)
                await self.nursery.start(self.admission.run)
                await self.admission.restore(self.state.journal.load())
                await self.nursery.start(self.consensus.run)
                self.world.hub.connected(self.name)
                task_status.started()
        finally:
            self.world.hub.nodes.pop(self.name, None)
            if self.has_crashed:
                self._lose_what_is_buffered()
            else:
                with trio.CancelScope(shield=True):
                    await self.execution.finish()
            self.vote_log.close()
            self.state.database.close()

    async def stop(self) -> None:
        """Stop cleanly."""
        self.nursery.cancel_scope.cancel()
        await until(lambda: self.name not in self.world.hub.nodes)

    async def crash(self) -> None:
        """Stop as a killed process does: what is not on disk is lost."""
        self.has_crashed = True
        await self.stop()

    def _lose_what_is_buffered(self) -> None:
        wal, guard = self.vote_log._wal, self.vote_log._guard
        wal._buffer.clear()
        wal._buffered_bytes = 0
        if guard is not None:
            guard._dirty = False

    async def submit(self, transaction: Transaction) -> bytes:
        return await self.admission.submit(transaction.raw)

    def app_hash_at(self, height: int) -> bytes:
        parts = self.state.chain.parts(height)
        assert parts is not None, f"{self.name} has not stored {height}"
        return parts.app_hash


class World:
    """Genesis, clock, hub and nodes of one test.

    Attributes:
        interval_ms: The shortest block interval.
        gossip: Whether transactions reach another node by themselves.
        wrap_log: Given a node's name and vote log, returns what consensus gets.
        wrap_exchange: Given a node, returns what executes its blocks.
    """

    def __init__(
        self, nursery: trio.Nursery, clock: Clock, disk: Path, genesis: Genesis | None = None
    ) -> None:
        self.nursery = nursery
        self.clock = clock
        self.disk = disk
        self.use_genesis(genesis or make_genesis())
        self.hub = Hub(nursery)
        self.interval_ms = 20
        self.gossip: Callable[[Node, Node], bool] = lambda _from, _to: True
        self.wrap_exchange: Callable[[Node], Any] = lambda node: node.state.exchange
        self.wrap_log: Callable[[str, VoteLog], Any] = lambda _name, log: log
        self._nonces: dict[bytes, int] = defaultdict(int)

    def use_genesis(self, genesis: Genesis) -> None:
        """Begin with another genesis; before any node is started."""
        self.genesis = genesis
        self.domain = Domain(genesis.settlement_chain_id, genesis.hash)

    def handlers_of(self, node: Node) -> dict[str, Any]:
        """Return a node's request handlers by protocol."""
        return {
            BLOCK_PROTOCOL: node.consensus.bodies.serve_block,
            TRANSACTIONS_PROTOCOL: node.consensus.bodies.serve_transactions,
            BLOCKS_PROTOCOL: node.consensus.sync.serve,
        }

    async def start(self, *indexes: int) -> list[Node]:
        """Start validators, all of genesis if none are named."""
        return [
            await self.start_node(f"peer{index}", index)
            for index in indexes or range(len(self.genesis.validators))
        ]

    async def start_armed(self, *indexes: int) -> list[Node]:
        """Start validators and wait until they vote."""
        nodes = await self.start(*indexes)
        await until(lambda: all(node.core.is_armed for node in nodes))
        return nodes

    async def start_node(self, name: str, index: int | None = None) -> Node:
        node = Node(self, name, index)
        await self.nursery.start(node.run)
        return node

    def order(self, trader: int = 0, price: str = "70000") -> Transaction:
        """Sign a new small order."""
        key = TRADERS[trader]
        nonce = max(self._nonces[key.address] + 1, self.clock.now_ms())
        self._nonces[key.address] = nonce
        action = PlaceOrder(0, "BTC-USDC", "buy", "limit", "0.0001", price, "gtc", False, 0, "")
        return sign_wallet(key, action, nonce=nonce, domain=self.domain)

    async def submit(self, node: Node, count: int = 1) -> list[bytes]:
        return [await node.submit(self.order(n % len(TRADERS))) for n in range(count)]

    async def grow(self, node: Node, blocks: int, *, others: Sequence[Node] = ()) -> None:
        """Make blocks with one transaction each, until nodes have so many more."""
        goal = node.height + blocks
        while min(n.height for n in (node, *others)) < goal:
            await node.submit(self.order(node.height % len(TRADERS)))
            await trio.sleep(self.interval_ms / 1_000)

    async def final(self, ids: Sequence[bytes], *nodes: Node) -> None:
        """Wait until these transactions have results at all nodes."""
        nodes = nodes or tuple(self.hub.nodes.values())

        missing = [(node, i) for node in nodes for i in ids]

        def is_final() -> bool:
            while missing and missing[-1][0].state.chain.transaction(missing[-1][1]) is not None:
                missing.pop()
            return not missing

        await until(is_final)

    def agree(self, *nodes: Node) -> int:
        """Check that the nodes have the same chain as far as they have one; returns how far."""
        nodes = nodes or tuple(self.hub.nodes.values())
        heads = [node.state.chain.head() for node in nodes]
        common = min(head.height for head in heads if head is not None)
        for height in range(1, common + 1):
            assert len({node.app_hash_at(height) for node in nodes}) == 1, f"fork at {height}"
        return common


@asynccontextmanager
async def open_world(
    disk: Path, monkeypatch: Any, clock: trio.testing.MockClock, genesis: Genesis | None = None
) -> AsyncIterator[World]:
    """Open a world whose time moves by itself."""
    assert trio.lowlevel.current_clock() is clock, "the test must take `mock_clock` itself"
    moving = Clock(clock)
    monkeypatch.setattr(trio.to_thread, "run_sync", moving.to_thread)
    monkeypatch.setattr(Database, "write", moving.watched(Database.write))
    async with trio.open_nursery() as nursery:
        world = World(nursery, moving, disk, genesis)
        nursery.start_soon(moving.run)
        yield world
        for node in list(world.hub.nodes.values()):
            await node.stop()
        nursery.cancel_scope.cancel()
