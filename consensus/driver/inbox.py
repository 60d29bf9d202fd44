"""Messages from peers: bounded, decoded, verified, and only then fed to the core.

Rules
    I1. A frame is one canonical message of bounded size; anything else is the peer's fault.
    I2. Only validators speak here, each for itself: votes, proposals and memory name their sender.
    I3. Signatures are checked once, and not at all where the core has no use for the message.
    I4. Each sender has a budget of work; beyond it its frames wait. Nobody's frames keep the other
        tasks waiting for long.
    I5. An answer that was not asked for is not looked at.
    I6. What is of another epoch than ours is not verified. Who is behind us gets the proof of how
        its epoch ended, now and then; who is ahead makes us look for newer blocks (P6). Whoever
        shows such a proof need not be a validator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.driver.budget import Budget
from omninode.consensus.driver.limits import (
    EPOCH_HINTS_BURST,
    EPOCH_HINTS_PER_SECOND,
    PENDING_MESSAGE_BYTES_MAX,
    VOTE_FRAME_BYTES_MAX,
    WORK_BURST,
    WORK_PER_SECOND,
    WORK_SLICE,
)
from omninode.consensus.epoch_proof import EpochProof, check_epoch_proof
from omninode.consensus.limits import MEMORY_VOTES_MAX
from omninode.consensus.messages import epoch_in
from omninode.consensus.types import Certificate, Proposal, ValidatorSet, Vote
from omninode.consensus.verification import (
    FORGERY_PENALTY,
    check_beacon,
    check_certificate,
    check_proposal_shape,
    check_vote,
)
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault

if TYPE_CHECKING:
    from omninode.consensus.driver.service import ConsensusService, Ports


_MESSAGE: Any = msg.Message
"""A union is no `type` for the type checker, but is one for the decoder."""

_BYTES_PER_UNIT = 8 << 10
"""Decoding and hashing this much takes about as long as checking a signature."""

_UNITS_OF_QUESTION = 8
"""What answering a question takes."""

_UNITS_OF_BEACON = 20
"""Checking a BLS signature takes more than a millisecond."""


class Inbox:
    """Handles frames of the vote plane."""

    def __init__(self, service: ConsensusService, ports: Ports, genesis_hash: bytes) -> None:
        self._service = service
        self._core = service.core
        self._pool = ports.pool
        self._ledger = ports.ledger
        self._peers = ports.peers
        self._genesis_hash = genesis_hash
        self._index_of_peer: dict[str, int] = {}
        self._earlier_peers: frozenset[str] = frozenset()
        self._work = Budget(per_second=WORK_PER_SECOND, burst=WORK_BURST)
        self._hints = Budget(per_second=EPOCH_HINTS_PER_SECOND, burst=EPOCH_HINTS_BURST)
        self._since_pause = 0
        self._asked_for_memory: set[int] = set()
        self.begin_epoch()

    @property
    def _validators(self) -> ValidatorSet:
        return self._core.validators

    def begin_epoch(self) -> None:
        """Take the set that the core has now for who speaks."""
        self._earlier_peers = frozenset(self._index_of_peer)
        self._index_of_peer = {
            v.peer_id: index for index, v in enumerate(self._validators.validators)
        }
        self._asked_for_memory.clear()

    def asking_for_memory(self, validator: int | None) -> None:
        """We ask a validator, or all of them, what they remember of us (I5)."""
        everybody = range(len(self._validators.validators))
        self._asked_for_memory.update(everybody if validator is None else (validator,))

    async def receive(self, peer: str, frame: bytes) -> None:
        """Take one frame of a peer (I1, I2).

        Raises:
            PeerFault: The frame breaks a rule.
        """
        if not self._is_known(peer):
            raise PeerFault("not_a_validator", "only validators speak on the vote plane")
        if not self._service.is_running:
            return
        try:
            message: msg.Message = decode(frame, _MESSAGE, size_max=VOTE_FRAME_BYTES_MAX)
        except Malformed as error:
            raise PeerFault("malformed", str(error)) from None
        units = 1 + len(frame) // _BYTES_PER_UNIT
        try:
            units += self._sort(peer, message)
        finally:
            await self._pay(peer, units)
        if isinstance(message, msg.PendingMessage):
            await self._pool.receive(peer, message.transactions)

    async def _pay(self, peer: str, units: int) -> None:
        """Book work on a peer; wait when it has caused too much, or others too little (I4)."""
        wait_s = self._work.spend(peer, units)
        self._since_pause += units
        if wait_s or self._since_pause >= WORK_SLICE:
            self._since_pause = 0
            await trio.sleep(wait_s)

    def _is_known(self, peer: str) -> bool:
        """Whether a peer is a validator of our epoch, or of one beside it, as far as we know."""
        if peer in self._index_of_peer or peer in self._earlier_peers:
            return True
        following = self._core.following
        return following is not None and any(
            peer == v.peer_id for v in following.validators.validators
        )

    def _sort(self, peer: str, message: msg.Message) -> int:
        """Take a message of our epoch; lead who is in another one (I6)."""
        epoch = epoch_in(message)
        if isinstance(message, msg.EpochMessage):
            return self._epoch_proof(message.proof)
        if epoch is not None and epoch != self._core.epoch:
            self._of_another_epoch(peer, epoch)
            return 0
        sender = self._index_of_peer.get(peer)
        return 0 if sender is None else self._dispatch(sender, message)

    def _of_another_epoch(self, peer: str, epoch: int) -> None:
        if self._hints.is_empty(peer):
            return
        self._hints.spend(peer, 1)
        if epoch > self._core.epoch:
            self._service.sync.request(peer)
            return
        proof = self._ledger.epoch_proof(epoch)
        if proof is not None:
            self._peers.send(peer, encode(msg.EpochMessage(proof)))

    def _epoch_proof(self, proof: EpochProof) -> int:
        """Take the end of our epoch from whoever shows it; returns the work it took."""
        if proof.epoch != self._core.epoch or self._core.is_epoch_over:
            return 0
        check_epoch_proof(proof, self._validators, self._genesis_hash)
        self._service.feed(into.EpochProven(proof))
        return len(proof.certificate.signers) + len(proof.fillers)

    def _dispatch(self, sender: int, message: msg.Message) -> int:
        """Take one message; returns the work it took beyond decoding, as far as it is unpaid."""
        match message:
            case msg.VoteMessage(vote):
                return self._vote(sender, vote)
            case msg.CertificateMessage(certificate):
                if self._core.wants_certificate(certificate):
                    check_certificate(certificate, self._validators, self._genesis_hash)
                    self._service.feed(into.PeerCertificate(sender, certificate))
                    return self._unpaid(certificate)
            case msg.ProposalMessage(proposal):
                return self._proposal(sender, proposal)
            case msg.NeedMessage(from_view, to_view):
                self._service.feed(into.PeerAsksCertificates(sender, from_view, to_view))
                return _UNITS_OF_QUESTION
            case msg.MemoryRequest():
                self._service.feed(into.PeerAsksMemory(sender))
                return _UNITS_OF_QUESTION
            case msg.MemoryAnswer():
                self._memory(sender, message)
            case msg.PendingMessage(transactions):
                if sum(map(len, transactions)) > PENDING_MESSAGE_BYTES_MAX:
                    raise PeerFault("too_much", "more pending transactions than a message may hold")
        return 0

    def _vote(self, sender: int, vote: Vote) -> int:
        if vote.validator != sender:
            raise PeerFault("foreign_vote", "a validator sends its own votes")
        if not self._core.wants_vote(vote):
            return 0
        check_vote(vote, self._validators, self._genesis_hash)
        self._service.feed(into.PeerVote(sender, vote))
        return 1

    def _unpaid(self, certificate: Certificate) -> int:
        """Return what checking a certificate cost that brought nothing new.

        What the core keeps comes once, and a node that is behind must not have to wait for it.
        """
        return len(certificate.signers) if self._core.wants_certificate(certificate) else 0

    def _proposal(self, sender: int, proposal: Proposal) -> int:
        header = proposal.block.header
        if header.genesis_hash != self._genesis_hash:
            raise PeerFault("other_network", "a block of another network")
        if header.proposer != sender or self._core.leader_of(header.view) != sender:
            raise PeerFault("not_the_leader", "a leader sends its own proposals", penalty=50)
        check_proposal_shape(proposal)
        if not self._core.wants_proposal(proposal):
            return 0
        check_vote(proposal.vote, self._validators, self._genesis_hash)
        check_beacon(header, self._validators)
        units = self._check_late_votes(proposal)
        parent = proposal.parent_certificate
        if parent is not None and self._core.wants_certificate(parent):
            check_certificate(parent, self._validators, self._genesis_hash)
        self._service.feed(into.PeerProposal(sender, proposal))
        if header.beacon_proof:
            units += _UNITS_OF_BEACON
        return units + 1 + (0 if parent is None else self._unpaid(parent))

    def _check_late_votes(self, proposal: Proposal) -> int:
        """Check the votes that justify what a block shows; returns how many were new to us."""
        units = 0
        for vote in proposal.late_votes:
            if not self._core.knows_vote(vote):
                check_vote(vote, self._validators, self._genesis_hash)
                units += 1
        return units

    def _memory(self, sender: int, answer: msg.MemoryAnswer) -> None:
        """Check what a peer remembers of us: each vote must bear our own signature (P7, I5)."""
        if len(answer.votes) > MEMORY_VOTES_MAX:
            raise PeerFault("too_much", "more remembered votes than there can be")
        if sender not in self._asked_for_memory:
            return
        self._asked_for_memory.discard(sender)
        for vote in answer.votes:
            if vote.validator != self._core.me:
                raise PeerFault("bad_memory", "a vote of somebody else", penalty=FORGERY_PENALTY)
            check_vote(vote, self._validators, self._genesis_hash)
        self._service.feed(into.PeerMemory(sender, answer.view, answer.votes))
