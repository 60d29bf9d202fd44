"""A Byzantine validator that signs whatever it sees, proposes twice and sends nonsense."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from omninode.consensus import messages as msg
from omninode.consensus.types import Block, Proposal, VoteKind, body_root
from omninode.consensus.validity import is_sealed
from omninode.crypto import ZERO_HASH
from omninode.node.simulation.disk import Committed
from omninode.node.simulation.node import Node
from omninode.node.simulation.signing import signed_vote

if TYPE_CHECKING:
    from omninode.node.simulation.simulator import Simulator


class Liars:
    """What liars do besides running a core; they forge nobody else's signature."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._rng = simulator.rng

    def lie(self, node: Node, message: object) -> None:
        """Sign everything for the block at hand, and propose twice."""
        rng = self._rng
        if isinstance(message, msg.VoteMessage):
            view, block_hash = message.vote.view, message.vote.block_hash
        elif isinstance(message, msg.ProposalMessage):
            header = message.proposal.block.header
            view, block_hash = header.view, header.hash
        else:
            return
        epoch = node.core.epoch
        for kind in VoteKind:
            if rng.random() < 0.5 and (kind is VoteKind.NULLIFY or block_hash != ZERO_HASH):
                target = ZERO_HASH if kind is VoteKind.NULLIFY else block_hash
                self._deliver_some(
                    node,
                    msg.VoteMessage(signed_vote(kind, view, target, by=node.index, epoch=epoch)),
                )
        if rng.random() < 0.3:
            self._deliver_some(node, self._nonsense(node, view))
        for led in (view, view + 1):
            if node.core.leader_of(led) == node.index and rng.random() < 0.5:
                self._propose_twice(node, led)

    def _nonsense(self, node: Node, view: int) -> object:
        """Well-formed messages that nobody honest would send now."""
        rng = self._rng
        near = max(view + rng.randrange(-3, 4), 0)
        far = rng.randrange(2**62)
        epoch = node.core.epoch
        vote = partial(signed_vote, by=node.index, epoch=epoch)
        return rng.choice(
            [
                msg.NeedMessage(near, far, epoch),
                msg.NeedMessage(far, near, epoch),
                msg.MemoryRequest(epoch),
                msg.MemoryAnswer(far, (), epoch),
                msg.VoteMessage(vote(VoteKind.NULLIFY, far, ZERO_HASH)),
                msg.VoteMessage(vote(VoteKind.NULLIFY, near, ZERO_HASH)),
                msg.VoteMessage(vote(VoteKind.FINALIZE, near, rng.randbytes(32))),
            ]
        )

    def _deliver_some(self, node: Node, message: object) -> None:
        for peer in self._simulator.nodes:
            if peer.index != node.index and self._rng.random() < 0.6:
                self._simulator.deliver(node, peer, message)

    def _propose_twice(self, node: Node, view: int) -> None:
        state = node.core._state
        parent = state.parent()
        if parent is None or view <= parent.view:
            return
        for offset_ms in range(2):
            if self._rng.random() < 0.5:
                parent = state.chain.final
            record = state.views.find(parent.view)
            certificate = None if record is None else record.notarizations.get(parent.hash)
            ids = self._unwelcome(node, offset_ms)
            fills = is_sealed(parent, state.epoch)
            seal = parent.seal if fills else state.seal_due(parent.executed_height)
            header = msgspec.structs.replace(
                parent,
                epoch=state.epoch,
                valset_hash=state.validators.hash,
                view=view,
                height=parent.height + 1,
                parent_hash=parent.hash,
                parent_view=parent.view,
                time_ms=max(self._simulator.now_ms, parent.time_ms + 1) + offset_ms,
                proposer=node.index,
                body_root=body_root(ids),
                votes_seen_root=ZERO_HASH,
                seal=seal,
            )
            block = Block(header, ids)
            node.bodies[block.hash] = block
            vote = signed_vote(
                VoteKind.NOTARIZE, view, block.hash, by=node.index, epoch=state.epoch
            )
            self._deliver_some(node, msg.ProposalMessage(Proposal(block, vote, certificate)))

    def _unwelcome(self, node: Node, number: int) -> tuple[bytes, ...]:
        """Return ids that nobody can find, or of transactions that were executed before."""
        chance = self._rng.random()
        if chance < 0.2:
            return (bytes((number,)) * 32,)
        if chance > 0.7:
            return ()
        blocks = (committed.block for committed in reversed(node.disk.chain[-8:]))
        return next((b.transaction_ids for b in blocks if b.transaction_ids), ())

    def falsify(self, run: Sequence[Committed]) -> list[Committed]:
        """Return a run of final blocks in which one block may be another one, or missing."""
        chance, false = self._rng.random(), list(run)
        if len(run) > 1 and chance < 0.6:
            place = self._rng.randrange(len(run) - 1)
            block = run[place].block
            header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
            false[place] = dataclasses.replace(run[place], block=Block(header, ()))
            if chance < 0.2:
                del false[place]
        return false
