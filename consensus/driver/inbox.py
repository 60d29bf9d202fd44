"""Messages from peers: bounded, decoded, verified, and only then fed to the core.

Rules
    I1. A frame is one canonical message of bounded size; anything else is the peer's fault.
    I2. Only validators speak here, and a message about a vote names its sender.
    I3. Signatures are checked once, and not at all where the core has no use for the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.driver.limits import MEMORY_VOTES_MAX, VOTE_FRAME_BYTES_MAX
from omninode.consensus.types import Certificate, Proposal
from omninode.consensus.verification import (
    check_certificate,
    check_proposal_shape,
    check_vote,
)
from omninode.encoding import decode
from omninode.errors import Malformed, PeerFault

if TYPE_CHECKING:
    from omninode.consensus.driver.service import ConsensusService, Ports


_MESSAGE: Any = msg.Message
"""A union is no `type` for the type checker, but is one for the decoder."""


class Inbox:
    """Handles frames of the vote plane."""

    def __init__(self, service: ConsensusService, ports: Ports, genesis_hash: bytes) -> None:
        self._service = service
        self._core = service.core
        self._validators = service.validators
        self._pool = ports.pool
        self._genesis_hash = genesis_hash
        self._index_of_peer = {
            v.peer_id: index for index, v in enumerate(service.validators.validators)
        }

    async def receive(self, peer: str, frame: bytes) -> None:
        """Take one frame of a peer (I1, I2).

        Raises:
            PeerFault: The frame breaks a rule.
        """
        sender = self._index_of_peer.get(peer)
        if sender is None:
            raise PeerFault("not_a_validator", "only validators speak on the vote plane")
        try:
            message: msg.Message = decode(frame, _MESSAGE, size_max=VOTE_FRAME_BYTES_MAX)
        except Malformed as error:
            raise PeerFault("malformed", str(error)) from None
        await self._dispatch(peer, sender, message)

    async def _dispatch(self, peer: str, sender: int, message: msg.Message) -> None:
        match message:
            case msg.VoteMessage(vote):
                if vote.validator != sender:
                    raise PeerFault("foreign_vote", "a validator sends its own votes")
                if self._core.wants_vote(vote):
                    check_vote(vote, self._validators, self._genesis_hash)
                    self._service.feed(into.PeerVote(sender, vote))
            case msg.CertificateMessage(certificate):
                if self._core.wants_certificate(certificate):
                    self._check(certificate)
                    self._service.feed(into.PeerCertificate(sender, certificate))
            case msg.ProposalMessage(proposal):
                self._proposal(sender, proposal)
            case msg.NeedMessage(from_view, to_view):
                self._service.feed(into.PeerAsksCertificates(sender, from_view, to_view))
            case msg.MemoryRequest():
                self._service.feed(into.PeerAsksMemory(sender))
            case msg.MemoryAnswer():
                self._memory(sender, message)
            case msg.PendingMessage(transactions):
                await self._pool.receive(peer, transactions)

    def _check(self, certificate: Certificate) -> None:
        check_certificate(certificate, self._validators, self._genesis_hash)

    def _proposal(self, sender: int, proposal: Proposal) -> None:
        if proposal.block.header.genesis_hash != self._genesis_hash:
            raise PeerFault("other_network", "a block of another network")
        check_proposal_shape(proposal)
        if not self._core.wants_proposal(proposal):
            return
        check_vote(proposal.vote, self._validators, self._genesis_hash)
        parent = proposal.parent_certificate
        if parent is not None and self._core.wants_certificate(parent):
            self._check(parent)
        self._service.feed(into.PeerProposal(sender, proposal))

    def _memory(self, sender: int, answer: msg.MemoryAnswer) -> None:
        """Check what a peer remembers of us: each vote must bear our own signature (P7)."""
        if len(answer.votes) > MEMORY_VOTES_MAX:
            raise PeerFault("too_much", "more remembered votes than there can be")
        for vote in answer.votes:
            if vote.validator != self._core.me:
                raise PeerFault("bad_memory", "a vote of somebody else")
            check_vote(vote, self._validators, self._genesis_hash)
        self._service.feed(into.PeerMemory(sender, answer.view, answer.votes))
