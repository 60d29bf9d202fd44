"""The RPC server: puts dispatcher, application and transport together and runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from omninode.node.config import RpcSection
from omninode.node.health import Health, judge_health
from omninode.node.metrics import Metrics
from omninode.node.rpc.app import RpcApp
from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.dispatch import CallObserver, Dispatcher
from omninode.node.rpc.endpoint import Endpoint
from omninode.node.rpc.feed import Feed
from omninode.node.rpc.forwarding import Forwarding
from omninode.node.rpc.limits import CONNECTIONS_PER_CLIENT_DIVISOR
from omninode.node.rpc.market_reads import ticker
from omninode.node.rpc.ports import NodeParts, Services
from omninode.node.rpc.receipts import Receipts
from omninode.node.rpc.registry import Method
from omninode.node.rpc.supply import SupplyReader
from omninode.node.rpc.transport import Address, HttpServer
from omninode.storage.records import CommittedBlock


class RpcServer:
    """JSON-RPC over HTTP and WebSocket on one port.

    Args:
        methods: What is served, by name.
        node: What the methods work on.
        settings: `[rpc]` of the configuration.
        health: The node's condition, as of now.
        halted: Why the state may not be served, or `None`.
        observer: Told about calls, for metrics.
    """

    def __init__(
        self,
        methods: Mapping[str, Method[Any]],
        *,
        node: object,
        settings: RpcSection,
        health: Callable[[], Health],
        halted: Callable[[], str | None],
        observer: CallObserver,
    ) -> None:
        self._fatal: Exception | None = None
        self._failed = trio.Event()
        dispatcher = Dispatcher(methods, halted=halted, observer=observer, on_fatal=self._fail)
        self.app = RpcApp(Endpoint(dispatcher, node=node, settings=settings), health=health)
        self._server = HttpServer(
            self.app,
            host=settings.host,
            port=settings.port,
            connections_max=settings.connections_max,
            connections_per_client_max=max(
                1, settings.connections_max // CONNECTIONS_PER_CLIENT_DIVISOR
            ),
            message_bytes_max=settings.body_bytes_max,
        )

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._server.connections

    def _fail(self, error: Exception) -> None:
        self._fatal = error
        self._failed.set()

    async def run(
        self, *, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports the bound addresses.

        Raises:
            ConfigError: The address can not be bound.
            StorageFault: A call met a fault that the node must stop for; so does `BrokenInvariant`.
        """
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(self._server.run)
            task_status.started(addresses)
            await self._failed.wait()
            nursery.cancel_scope.cancel()
        if self._fatal is not None:
            raise self._fatal


class RpcService:
    """The RPC interface of a node, with what it must be told: every stored block.

    Args:
        parts: The parts of the node that the methods work on.
        settings: `[rpc]` of the configuration.
        idle_block_interval_ms: How far apart blocks are when nobody trades.
        observer: Told about calls, for metrics.
    """

    def __init__(
        self,
        parts: NodeParts,
        *,
        settings: RpcSection,
        idle_block_interval_ms: int,
        observer: CallObserver,
    ) -> None:
        genesis, exchange = parts.exchange.rules, parts.exchange
        self._parts = parts
        self._idle_block_interval_ms = idle_block_interval_ms
        self._told_s = trio.current_time()
        self.feed = Feed(genesis, ticker=partial(ticker, exchange))
        self.receipts = Receipts(nonce_window_ms=genesis.consensus.nonce_window_ms)
        services = Services(
            parts=parts,
            feed=self.feed,
            receipts=self.receipts,
            forwarding=Forwarding(parts.settlement),
            supply=SupplyReader(exchange),
            list_max=settings.list_max,
        )
        self.server = RpcServer(
            METHODS,
            node=services,
            settings=settings,
            health=self.health,
            halted=parts.condition.halted,
            observer=observer,
        )

    def stored(self, committed: CommittedBlock) -> None:
        """Tell whoever waits or listens what a stored block brought; called once per block."""
        self._told_s = trio.current_time()
        self.receipts.stored(committed)
        self.feed.publish(committed)

    def show_in(self, metrics: Metrics) -> None:
        """Let the metrics show connections and subscriptions."""
        metrics.watch(
            "omninode_rpc_connections", "Open connections", lambda: self.server.connections
        )
        metrics.watch(
            "omninode_rpc_subscriptions",
            "Subscriptions of all WebSockets",
            lambda: sum(self.feed.subscriptions().values()),
        )

    def health(self) -> Health:
        """Judge the node's condition, as of now."""
        head, condition = self._parts.chain.head(), self._parts.condition
        return judge_health(
            height=0 if head is None else head.height,
            halted=condition.halted(),
            catching_up=condition.is_catching_up(),
            since_commit_ms=int((trio.current_time() - self._told_s) * 1000),
            idle_block_interval_ms=self._idle_block_interval_ms,
        )

    async def run(
        self, *, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports the bound addresses.

        Raises:
            ConfigError: The address can not be bound.
            StorageFault: A call met a fault that the node must stop for; so does `BrokenInvariant`.
        """
        await self.server.run(task_status=task_status)
