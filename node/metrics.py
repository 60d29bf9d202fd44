"""What a node counts and measures, for Prometheus: `omninode_<subsystem>_<name>_<unit>`.

One registry per node and none per process, so that tests and simulations can hold several. Counters
are told; what other parts know already is read when somebody asks (`watch`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from omninode import __version__
from omninode.contracts.ports import Call
from omninode.contracts.service import OUTCOMES, SettlementService
from omninode.contracts.status import SettlementState
from omninode.dex.events import OrderRejected, Trade
from omninode.storage.records import CommittedBlock

_CALL_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_BLOCK_BUCKETS: Final = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZE_BUCKETS: Final = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    """The measures of one node.

    Attributes:
        registry: What `GET /metrics` shows.
    """

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        Info("omninode_build", "Version of the program", registry=registry).info(
            {"version": __version__}
        )
        self._height = Gauge(
            "omninode_consensus_height", "Height of the newest stored block", registry=registry
        )
        self._interval = Histogram(
            "omninode_consensus_block_interval_seconds",
            "Time between a block and its parent, in block time",
            buckets=_BLOCK_BUCKETS,
            registry=registry,
        )
        self._block_size = Histogram(
            "omninode_consensus_block_transactions",
            "Transactions in a block",
            buckets=_SIZE_BUCKETS,
            registry=registry,
        )
        self._transactions = Counter(
            "omninode_dex_transactions",
            "Final transactions by outcome",
            ["code"],
            registry=registry,
        )
        self._trades = Counter("omninode_dex_trades", "Trades", ["market"], registry=registry)
        self._rejections = Counter(
            "omninode_dex_orders_rejected",
            "Refused orders by reason",
            ["reason"],
            registry=registry,
        )
        self._calls = Counter(
            "omninode_rpc_requests", "Calls by outcome", ["method", "reason"], registry=registry
        )
        self._call_time = Histogram(
            "omninode_rpc_request_duration_seconds",
            "Time from reading a call to its response",
            ["method"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._slow = Counter(
            "omninode_rpc_slow_clients_closed",
            "WebSockets closed because the client did not read",
            registry=registry,
        )
        self._endpoint_calls = Counter(
            "omninode_settlement_endpoint_calls",
            "Calls of endpoints of the settlement chain by outcome",
            ["endpoint", "method", "outcome"],
            registry=registry,
        )
        self._newest_ms = 0

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show a value that another part knows.

        Args:
            name: Its full name, with the unit last.
            about: What it is.
            read: Returns it; called whenever the metrics are asked for.
        """
        Gauge(name, about, registry=self.registry).set_function(read)

    def block_stored(self, committed: CommittedBlock) -> None:
        """Count a stored block."""
        header, outcome = committed.block.header, committed.outcome
        self._height.set(header.height)
        if self._newest_ms:
            self._interval.observe((header.time_ms - self._newest_ms) / 1000)
        self._newest_ms = header.time_ms
        self._block_size.observe(len(outcome.results))
        for result in outcome.results:
            self._transactions.labels(result.code).inc()
        for event in outcome.events:
            if isinstance(event, Trade):
                self._trades.labels(event.market).inc()
            elif isinstance(event, OrderRejected):
                self._rejections.labels(event.reason).inc()

    def called(self, method: str, *, reason: str, seconds: float) -> None:
        """Count a call of the RPC interface."""
        self._calls.labels(method, reason).inc()
        self._call_time.labels(method).observe(seconds)

    def endpoint_called(self, call: Call) -> None:
        """Count a call of an endpoint of the settlement chain."""
        self._endpoint_calls.labels(call.endpoint, call.method, call.outcome).inc()

    def watch_settlement(self, service: SettlementService) -> None:
        """Show how the node fares with the settlement chain."""
        states = Gauge(
            "omninode_settlement_state",
            "1 for the state the settlement part is in, 0 for the others",
            ["state"],
            registry=self.registry,
        )
        for word in get_args(SettlementState):
            states.labels(word).set_function(partial(_is_in_state, service, word))
        for name, about in (
            ("chain_height", "Newest block of the settlement chain"),
            ("confirmed_height", "Newest confirmed block of the settlement chain"),
            ("deposits", "Confirmed deposits"),
            ("checkpoint", "Newest checkpoint on the settlement chain"),
        ):
            self.watch(f"omninode_settlement_{name}", about, partial(_status_of, service, name))
        self.watch(
            "omninode_settlement_certified_checkpoint",
            "Newest certified checkpoint",
            lambda: service.certified_checkpoint() or 0,
        )
        ended = Gauge(
            "omninode_settlement_transactions",
            "Transactions of this node's gas account by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            ended.labels(outcome).set_function(partial(service.sent, outcome))

    def slow_client_closed(self) -> None:
        """Count a WebSocket that was closed because its client does not read."""
        self._slow.inc()


def _is_in_state(service: SettlementService, state: str) -> float:
    return float(service.status().state == state)


def _status_of(service: SettlementService, name: str) -> float:
    return float(getattr(service.status(), name) or 0)
