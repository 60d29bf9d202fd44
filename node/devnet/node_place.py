"""One validator of a devnet: its place, its home and its ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omninode.node.devnet.limits import PORTS_PER_NODE
from omninode.node.home import Home


@dataclass(frozen=True, slots=True)
class DevnetNode:
    """One validator: its place, its home and its ports."""

    index: int
    home: Home
    base_port: int

    @property
    def moniker(self) -> str:
        """Its name."""
        return f"node{self.index}"

    @property
    def p2p_port(self) -> int:
        """The port for peers."""
        return self.base_port + PORTS_PER_NODE * self.index

    @property
    def rpc_url(self) -> str:
        """Where it answers JSON-RPC over HTTP."""
        return f"http://127.0.0.1:{self.p2p_port + 1}"

    @property
    def websocket_url(self) -> str:
        """Where it answers JSON-RPC over WebSocket."""
        return f"ws://127.0.0.1:{self.p2p_port + 1}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads."""
        return f"http://127.0.0.1:{self.p2p_port + 2}/metrics"

    @property
    def log_file(self) -> Path:
        """Where its log goes."""
        return self.home.path / "omninode.log"
