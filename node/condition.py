"""How this node fares: what `omni_status`, `/health` and the metrics say of it."""

from __future__ import annotations

from collections.abc import Sequence

from omninode.consensus.driver.service import ConsensusService, Halted
from omninode.node.divergence import Divergence
from omninode.node.net.peers import PeerInfo
from omninode.node.net.service import Network


class NodeCondition:
    """Implements `rpc.ports.Condition` over the running parts.

    Args:
        network: The peers.
        consensus: The protocol.
        moniker: The node's name for people.
    """

    def __init__(
        self,
        network: Network,
        consensus: ConsensusService,
        *,
        moniker: str,
    ) -> None:
        self._network = network
        self._consensus = consensus
        self._moniker = moniker
        self._halted: Halted | None = None
        self._divergence: Divergence | None = None

    @property
    def node_id(self) -> str:
        """The node's libp2p identity."""
        return self._network.peer_id

    @property
    def moniker(self) -> str:
        """The node's name for people."""
        return self._moniker

    @property
    def validator_index(self) -> int | None:
        """The node's place in the validator set, if it has one."""
        return self._consensus.core.me

    def peers(self) -> Sequence[PeerInfo]:
        """Return the peers it knows."""
        return self._network.peers()

    def is_catching_up(self) -> bool:
        """Whether it is fetching blocks that the network already has."""
        return self._consensus.sync.is_behind

    def halt(self, halted: Halted) -> None:
        """Note that the node stopped for good."""
        self._halted = halted

    def diverged(self, divergence: Divergence) -> None:
        """Note where its state left the network's."""
        self._divergence = divergence

    def halted(self) -> str | None:
        """Return why it stopped for good, or nothing (PROTOCOL.md P5)."""
        if self._halted is None:
            return None
        if self._divergence is None:
            return f"state differs from the network's at height {self._halted.height}"
        modules = ", ".join(self._divergence.modules) or "its past"
        return f"state differs from the network's at height {self._divergence.height} in {modules}"
