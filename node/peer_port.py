"""Gives consensus its view of the network: the other validators, by peer id."""

from __future__ import annotations

from collections.abc import Iterable

from omninode.errors import PeerFault
from omninode.node.net.requests import RequestFailed
from omninode.node.net.service import Network
from omninode.node.net.settings import Plane


class ValidatorPeers:
    """Implements `consensus.ports.Peers` with the network's vote plane and requests."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def send(self, peer: str, frame: bytes) -> bool:
        """Queue a frame on a validator's vote stream; false if there is none or it is full."""
        return self._network.send(peer, Plane.VOTE, frame)

    def broadcast(self, frame: bytes) -> int:
        """Queue a frame to every connected validator; returns to how many."""
        return self._network.broadcast(Plane.VOTE, frame)

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        """Ask one peer.

        Raises:
            PeerFault: It gave no answer; without a penalty, since that may be nobody's fault.
        """
        try:
            return await self._network.request(peer, protocol, payload, timeout_ms=timeout_ms)
        except RequestFailed as error:
            raise PeerFault(error.reason, str(error), penalty=0) from None

    def connected(self) -> Iterable[str]:
        """Return the peer ids of the connected validators; where there are none, everybody's.

        A node behind nodes that only follow asks those: what they serve proves itself.
        """
        peers, validators = self._network.connected_peers(), self._network.validator_peers
        return [peer for peer in peers if peer in validators] or peers

    def penalize(self, peer: str, reason: str, penalty: int) -> None:
        """Lower a peer's score."""
        self._network.penalize(peer, PeerFault(reason, penalty=penalty))
