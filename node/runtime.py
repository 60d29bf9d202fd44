"""The root: constructs the node's parts and runs them in one nursery tree.

```
database ─ exchange ─ execution          outermost: what is on disk outlives everything above it
  └─ network                             peers
       └─ admission, consensus           the protocol
            └─ settlement                the EVM chain
            └─ rpc, metrics              the outside, first to stop
```

Parts start from the outside in and stop from the inside out. A part that returns or raises ends the
node: the error says who is to blame (`errors.py`), and whatever was executed is on disk before the
process ends.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from typing import Final, NoReturn

import structlog
import trio

from omninode.consensus.core import Core
from omninode.consensus.driver.limits import (
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    SYNC_REPLY_BYTES_MAX,
)
from omninode.consensus.driver.questions import (
    BLOCK_PROTOCOL,
    BLOCKS_PROTOCOL,
    TRANSACTIONS_PROTOCOL,
)
from omninode.consensus.driver.service import BodyLimits, ConsensusService, Halted, Ports
from omninode.consensus.timing import Timing
from omninode.consensus.types import ValidatorSet
from omninode.consensus.vote_log import VoteLog, measure_sync_ms
from omninode.contracts.statements import Statements
from omninode.dex.eip712 import Domain
from omninode.dex.genesis import Genesis, parse_genesis
from omninode.dex.transaction import Transaction
from omninode.errors import BrokenInvariant
from omninode.node.admission import Admission
from omninode.node.admission_ports import AdmissionPorts
from omninode.node.admission_state import ExchangeAdmission
from omninode.node.chain_state import ChainState
from omninode.node.client import local_url
from omninode.node.clock import wall_clock_ms
from omninode.node.condition import NodeCondition
from omninode.node.config import NodeConfig
from omninode.node.divergence import PARTS_PROTOCOL, PARTS_REPLY_BYTES_MAX, DivergenceFinder
from omninode.node.duties.challenges import AUDIT_PROTOCOL, ProbeServer
from omninode.node.duties.limits import PROBE_BYTES_MAX, PROBE_REPLY_BYTES_MAX
from omninode.node.duties.service import Duties
from omninode.node.execution import Execution
from omninode.node.heads import HeadNews
from omninode.node.home import Home
from omninode.node.keys.node_keys import NodeKeys
from omninode.node.limits import POOL_BYTES_MAX, POOL_PER_SIGNER_MAX, POOL_TRANSACTIONS_MAX
from omninode.node.mempool import BlockLimits, Mempool, PoolLimits
from omninode.node.metrics import Metrics
from omninode.node.net.private_network import load_network_key
from omninode.node.net.service import Network
from omninode.node.net.settings import NetworkSettings, Plane
from omninode.node.peer_port import ValidatorPeers
from omninode.node.rpc.metrics_server import MetricsServer
from omninode.node.rpc.ports import NodeParts
from omninode.node.rpc.service import RpcService
from omninode.node.settlement import open_settlement
from omninode.node.state_sync.serving import SnapshotServer
from omninode.node.state_sync.startup import is_wanted, take_snapshot
from omninode.node.state_sync.startup import register as serve_snapshots
from omninode.storage.history import History
from omninode.storage.pruning import Pruner
from omninode.storage.records import CommittedBlock
from omninode.storage.snapshot import Snapshots

log = structlog.get_logger("node")

SYNC_WARNING_MS: Final = 20.0
"""A disk that needs longer for one small sync makes every vote late; the operator is told."""

STOP_DEADLINE_S: Final = 10.0
PRUNE_INTERVAL_S: Final = 5.0
TRANSACTIONS_TOPIC: Final = "transactions/1"
"""Where nodes outside the validator mesh hand in what their users sent."""


class Node:
    """All parts of one node, constructed but not running. Made by `open_node`."""

    def __init__(
        self, config: NodeConfig, home: Home, keys: NodeKeys, genesis: Genesis, state: ChainState
    ) -> None:
        self.config = config
        self.genesis = genesis
        self.state = state
        self.vote_log, self._records = VoteLog.open(
            home.write_ahead_log, None if keys.validator is None else home.signer_guard
        )
        self.network = Network(
            _network_settings(config, home, genesis, state.validators),
            keys.identity,
            log=structlog.get_logger("p2p"),
        )
        self.execution = Execution(
            state.exchange,
            state.chain,
            epochs=state.epochs,
            on_executed=self._on_executed,
            on_stored=self._on_stored,
        )
        self.admission = self._build_admission()
        self.core = self._build_core(keys)
        self.consensus = self._build_consensus(keys)
        self.condition = NodeCondition(
            self.network,
            self.consensus,
            moniker=config.node.moniker,
        )
        self.divergence = DivergenceFinder(
            self.network, state.chain, genesis_app_hash=state.genesis.app_hash
        )
        self._halt_seen = trio.Event()
        self.metrics = Metrics()
        self.statements = self._build_statements(keys)
        self.settlement = open_settlement(
            config.settlement,
            state,
            keys,
            statements=self.statements,
            condition=self.condition,
            metrics=self.metrics,
        )
        self.rpc = self._build_rpc()
        self.heads = HeadNews(
            self.network,
            own_index=lambda: self.core.me,
            own_height=lambda: self.execution.height,
            fetch=partial(self.consensus.sync.request, None),
        )
        self._rpc_url = ""
        self.duties = self._build_duties(keys)
        self._watch_parts()
        self._wire_network()
        serve_snapshots(self.network, SnapshotServer(state.chain, Snapshots(home.snapshots)))

    def _build_admission(self) -> Admission:
        consensus = self.genesis.consensus
        self.pool = Mempool(
            PoolLimits(POOL_TRANSACTIONS_MAX, POOL_BYTES_MAX, POOL_PER_SIGNER_MAX),
            nonce_window_ms=consensus.nonce_window_ms,
        )
        return Admission(
            self.pool,
            AdmissionPorts(
                state=ExchangeAdmission(self.state.exchange),
                journal=self.state.journal,
                is_final=lambda i: self.state.chain.transaction(i) is not None,
                broadcast=self._broadcast_transactions,
                now_ms=wall_clock_ms,
            ),
            rules=self.genesis,
            domain=Domain(self.genesis.settlement_chain_id, self.genesis.hash),
            limits=BlockLimits(
                consensus.block_bytes_max,
                consensus.block_transactions_max,
                self.genesis.limits.max_transactions_per_account_per_block,
            ),
            nonce_window_ms=consensus.nonce_window_ms,
        )

    def _build_core(self, keys: NodeKeys) -> Core:
        settings = self.config.consensus
        validators, key = self.state.validators, keys.validator
        return Core(
            genesis=self.state.genesis,
            validators=validators,
            me=None if key is None else validators.index_of(key.address),
            signer=None if key is None else key.sign,
            timing=Timing(
                settings.delta_ms,
                settings.min_block_interval_ms,
                settings.idle_block_interval_ms,
            ),
            finalized=self.state.finalized_tip(),
            vote_floor_view=self.vote_log.floor_view(validators.epoch),
            beacon=keys.beacon,
            following=self.state.following,
        )

    def _build_consensus(self, keys: NodeKeys) -> ConsensusService:
        return ConsensusService(
            self.core,
            genesis_hash=self.genesis.hash,
            ports=Ports(
                pool=self.admission,
                ledger=self.execution,
                peers=ValidatorPeers(self.network),
                vote_log=self.vote_log,
                clock=wall_clock_ms,
            ),
            limits=BodyLimits(
                self.genesis.consensus.block_bytes_max,
                self.genesis.consensus.block_transactions_max,
            ),
            delta_ms=self.config.consensus.delta_ms,
            on_halt=self._on_halt,
            on_epoch=self._on_epoch,
            address=None if keys.validator is None else keys.validator.address,
        )

    def _build_statements(self, keys: NodeKeys) -> Statements | None:
        if keys.validator is None:
            return None
        return Statements(
            keys.validator,
            door=self.admission,
            exchange=self.state.exchange,
            now_ms=wall_clock_ms,
        )

    def _build_duties(self, keys: NodeKeys) -> Duties | None:
        if keys.validator is None or self.statements is None:
            return None
        me = keys.validator.address
        self.network.on_request(
            AUDIT_PROTOCOL,
            ProbeServer(me, rpc_url=lambda: self._rpc_url).serve,
            max_request_bytes=PROBE_BYTES_MAX,
            max_response_bytes=PROBE_REPLY_BYTES_MAX,
        )
        return Duties(
            self.state.exchange,
            me=me,
            statements=self.statements,
            evidence=self.consensus.evidence,
            network=self.network,
            may_speak=lambda: (
                self.condition.halted() is None and not self.condition.is_catching_up()
            ),
            now_ms=wall_clock_ms,
        )

    def _build_rpc(self) -> RpcService:
        state = self.state
        return RpcService(
            NodeParts(
                genesis_header=state.genesis,
                exchange=state.exchange,
                chain=state.chain,
                history=History(state.database, state.chain),
                door=self.admission,
                consensus=self.core,
                condition=self.condition,
                settlement=self.settlement,
            ),
            settings=self.config.rpc,
            idle_block_interval_ms=self.config.consensus.idle_block_interval_ms,
            observer=self.metrics,
        )

    def _watch_parts(self) -> None:
        """Show what the parts know already in the metrics."""
        self.rpc.show_in(self.metrics)
        watch = self.metrics.watch
        watch("omninode_consensus_view", "Current view", lambda: self.core.view)
        watch("omninode_consensus_epoch", "Current epoch", lambda: self.core.epoch)
        watch(
            "omninode_consensus_executed_height",
            "Height of the newest executed block",
            lambda: self.execution.height,
        )
        watch(
            "omninode_consensus_contradictory_votes",
            "Pairs of contradictory votes seen",
            lambda: len(self.consensus.evidence),
        )
        watch("omninode_p2p_peers", "Connected peers", lambda: len(self.network.connected_peers()))
        watch("omninode_mempool_transactions", "Pending transactions", lambda: len(self.pool))
        watch("omninode_mempool_bytes", "Their signed bytes", lambda: self.pool.size_bytes)

    def _wire_network(self) -> None:
        network, bodies, sync = self.network, self.consensus.bodies, self.consensus.sync
        network.on_frame(Plane.VOTE, self.consensus.inbox.receive)
        network.on_frame(Plane.DATA, self.admission.receive_frame)
        network.on_connect(self.consensus.peer_connected)
        for protocol, handler, request_max, response_max in (
            (BLOCK_PROTOCOL, bodies.serve_block, 64, REPLY_BYTES_MAX),
            (TRANSACTIONS_PROTOCOL, bodies.serve_transactions, REQUEST_BYTES_MAX, REPLY_BYTES_MAX),
            (BLOCKS_PROTOCOL, sync.serve, 64, SYNC_REPLY_BYTES_MAX),
            (PARTS_PROTOCOL, self.divergence.serve, 64, PARTS_REPLY_BYTES_MAX),
        ):
            network.on_request(
                protocol, handler, max_request_bytes=request_max, max_response_bytes=response_max
            )
        network.subscribe(TRANSACTIONS_TOPIC, self.admission.receive_frame)

    def _broadcast_transactions(self, frame: bytes) -> object:
        """Hand transactions on: validators over their direct streams, everybody else by gossip."""
        if self.core.me is not None:
            return self.network.broadcast(Plane.DATA, frame)
        return self.network.publish(TRANSACTIONS_TOPIC, frame)

    def _on_executed(self, committed: CommittedBlock, bodies: Sequence[Transaction]) -> None:
        self.admission.executed(
            bodies, committed.outcome.results, chain_time_ms=committed.block.header.time_ms
        )

    def _on_stored(self, committed: CommittedBlock) -> None:
        """A block is durable: what rests on it may be told (L2 of `execution`)."""
        self.metrics.block_stored(committed)
        self.rpc.stored(committed)
        self.heads.stored(committed.block.header)
        if self.settlement is not None:
            self.settlement.changed()
        if self.duties is not None:
            self.duties.changed()

    def _on_epoch(self, validators: ValidatorSet) -> None:
        """Another set is in force: who speaks for it may use the vote plane."""
        self.network.set_validator_peers(frozenset(v.peer_id for v in validators.validators))

    def _on_halt(self, halted: Halted) -> None:
        self.condition.halt(halted)
        self._halt_seen.set()

    async def _explain_halt(self) -> None:
        """Find out where the state left the network's, and say so (PROTOCOL.md P5)."""
        await self._halt_seen.wait()
        halted = self.consensus.halted
        if halted is None:
            raise BrokenInvariant("halted without a reason")
        found = await self.divergence.find(halted)
        if found is not None:
            self.condition.diverged(found)
        log.error(
            "halted",
            why=self.condition.halted(),
            expected=halted.expected.hex(),
            ours=halted.ours.hex(),
            hint="stop the node, `omninode reset`, start it: it fetches the chain from its peers",
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; then store what was executed."""
        await self._replay()
        gc.collect()
        gc.freeze()
        try:
            async with trio.open_nursery() as outer:
                await outer.start(self.execution.run)
                outer.start_soon(self._prune)
                outer.start_soon(self._explain_halt)
                await outer.start(self.network.run)
                await outer.start(self.admission.run)
                for transaction in await self.admission.restore(self.state.journal.load()):
                    self.rpc.receipts.acknowledged(transaction)
                await outer.start(self.consensus.run)
                if self.settlement is not None:
                    await outer.start(self.settlement.run)
                self._rpc_url = local_url(*(await outer.start(self.rpc.run))[0])
                if self.duties is not None:
                    await outer.start(self.duties.run)
                await outer.start(
                    MetricsServer(self.metrics.registry, settings=self.config.metrics).run
                )
                log.info("node_running", height=self.execution.height, validator=self.core.me)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(STOP_DEADLINE_S):
                await self.execution.finish()

    async def _replay(self) -> None:
        """Give consensus back what the write-ahead log holds (P7)."""
        if self.vote_log.torn_bytes:
            log.warning("write_ahead_log_tail_torn", bytes=self.vote_log.torn_bytes)
        records, self._records = self._records, []
        await self.consensus.replay(records)

    async def _prune(self) -> NoReturn:
        """Drop old blocks and log segments, a bounded piece at a time."""
        pruner = Pruner(self.state.database, self.state.chain)
        while True:
            await trio.sleep(PRUNE_INTERVAL_S)
            head = self.state.chain.head()
            if head is None:
                continue
            retain_ms = self.config.storage.retain_blocks_ms
            if retain_ms:
                before_ms = wall_clock_ms() - retain_ms
                while await pruner.step(before_ms=before_ms):
                    pass
            prune_log = partial(
                self.vote_log.prune,
                final_epoch=self.core.epoch,
                final_view=self.core.final_header.view,
                committed_height=head.height,
            )
            await trio.to_thread.run_sync(prune_log)

    def close(self) -> None:
        """Close the log and the database."""
        self.vote_log.close()
        self.state.database.close()


def _network_settings(
    config: NodeConfig, home: Home, genesis: Genesis, validators: ValidatorSet
) -> NetworkSettings:
    psk_file = config.p2p.psk_file
    return NetworkSettings(
        listen=tuple(config.p2p.listen),
        network_tag=genesis.hash.hex(),
        moniker=config.node.moniker,
        persistent_peers=tuple(config.p2p.peers),
        bootstrap=tuple(config.p2p.bootstrap),
        outbound_peers=config.p2p.outbound_peers,
        book_path=home.address_book,
        private_key=load_network_key(home.path / psk_file) if psk_file else None,
        validator_peers=frozenset(v.peer_id for v in validators.validators),
        connections_max=config.p2p.connections_max,
        connections_per_ip_max=config.p2p.connections_per_ip_max,
    )


async def run_node(config: NodeConfig, home: Home, keys: NodeKeys) -> None:
    """Run a node until cancelled.

    Args:
        config: The resolved configuration.
        home: Where its files are; locked by the caller.
        keys: Its unlocked keys.

    Raises:
        ConfigError: A file or setting does not fit.
        StorageFault: The disk failed or is full.
        BrokenInvariant: A defect of ours.
    """
    genesis = parse_genesis(home.genesis.read_bytes(), source=str(home.genesis))
    if is_wanted(home, genesis, now_ms=wall_clock_ms()):
        settings = _network_settings(config, home, genesis, genesis.validator_set)
        network = Network(settings, keys.identity, log=structlog.get_logger("p2p"))
        await take_snapshot(network, home, genesis)
    state = await ChainState.open(home, genesis)
    sync_ms = await trio.to_thread.run_sync(measure_sync_ms, home.data)
    if sync_ms > SYNC_WARNING_MS:
        log.warning(
            "slow_disk", sync_ms=round(sync_ms, 1), hint="every vote waits for two of these"
        )
    node = Node(config, home, keys, genesis, state)
    try:
        await node.run()
    finally:
        node.close()
