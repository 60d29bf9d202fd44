"""The leader's side (PROTOCOL.md P2, P3): when to have a block built, what its header says.

Rules
    L1. A block with content follows its parent after the shortest interval; an empty one after the
        idle interval, or after Δ while ancestors are not final or execution lags.
    L2. While execution lags by more than `MAX_LAG` blocks, a block is empty.
    L3. A leader that has not executed what the parent names as executed can not propose yet.
    L4. A leader that has executed the epoch's cut seals the epoch; after that it fills, at once
        (P6).
    L5. A leader of whom the set has a beacon key signs the beacon's message with it. Who has lost
        that key does not lead: its turns pass as a silent leader's do (consensus.md §4.3).
    L6. A block shows what its leader knows of its ancestors' voters (`votes_seen.py`).
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from omninode.consensus import effects as out
from omninode.consensus.asking import Asking
from omninode.consensus.state import State
from omninode.consensus.types import (
    PROTOCOL_VERSION,
    Block,
    Certificate,
    Header,
    Proposal,
    Vote,
    VotesSeen,
    beacon_message,
    body_root,
    votes_seen_root,
)
from omninode.consensus.validity import is_sealed, lags
from omninode.consensus.votes_seen import gather, unproven
from omninode.crypto import ZERO_HASH


class BeaconSigner(Protocol):
    """A beacon key: one signature for one message (`omninode.bls.BeaconKey`)."""

    @property
    def public_key(self) -> bytes:
        """Its compressed public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign a message; 96 bytes."""
        ...


class Proposing:
    """Orders blocks from the shell and dresses them."""

    def __init__(self, state: State, asking: Asking, beacon: BeaconSigner | None) -> None:
        self._state = state
        self._asking = asking
        self._beacon: BeaconSigner | None = None
        self._can_lead = False
        if state.me is not None:
            key = state.validators.validators[state.me].beacon_key
            if key and beacon is not None and beacon.public_key == key:
                self._beacon = beacon
            self._can_lead = not key or self._beacon is not None  # L5
        self._order: out.BuildBlock | None = None
        self._announced: tuple[int, bytes | None] = (0, None)

    def announce_view(self) -> None:
        """Tell the shell the current view and its parent, whenever one of them is another."""
        state = self._state
        parent = state.parent()
        parent_hash = None if parent is None else parent.hash
        if self._announced != (state.view, parent_hash):
            self._announced = (state.view, parent_hash)
            self._order = None
            ancestors = () if parent is None else state.chain.unexecuted(parent.hash)
            state.out.append(out.ViewEntered(state.view, state.leader, ancestors))

    def order_block(self) -> None:
        """Have a block built if we lead and nothing of ours stands in the way (L1–L5)."""
        state = self._state
        if (
            state.leader != state.me
            or not state.armed
            or state.own is None
            or state.has_voted()
            or not self._can_lead
            or not state.own.may_sign_in(state.view)
        ):
            return
        parent = state.parent()
        if parent is None:
            self._asking.hidden_parent()
            return
        executed_height = state.executed.height
        if executed_height < parent.executed_height:  # L3
            return
        fills = is_sealed(parent, state.epoch)  # L4
        allowed = not fills and not lags(parent.height + 1, executed_height)  # L2
        timing = state.timing
        if fills:
            empty_after_ms = 0
        elif allowed and parent is state.chain.final:
            empty_after_ms = timing.idle_block_interval_ms
        else:
            empty_after_ms = timing.delta_ms
        order = out.BuildBlock(
            view=state.view,
            parent=parent,
            ancestors=state.chain.unexecuted(parent.hash),
            transactions_allowed=allowed,
            not_before_ms=parent.time_ms + timing.min_block_interval_ms,
            empty_at_ms=parent.time_ms + empty_after_ms,
        )
        if order != self._order:
            self._order = order
            state.out.append(order)

    def block_of(self, view: int, parent_hash: bytes, ids: tuple[bytes, ...]) -> Block | None:
        """Make the block that was ordered; `None` if another one is wanted by now.

        The same block is not ordered twice, whatever becomes of it.
        """
        state, order = self._state, self._order
        if order is None or (view, parent_hash) != (state.view, order.parent.hash):
            return None
        if state.has_voted():
            return None
        if not order.transactions_allowed:
            ids = ()
        parent = order.parent
        votes_seen = () if is_sealed(parent, state.epoch) else self._votes_seen(parent)
        header = Header(
            version=PROTOCOL_VERSION,
            genesis_hash=state.genesis.genesis_hash,
            epoch=state.epoch,
            view=view,
            height=parent.height + 1,
            parent_hash=parent_hash,
            parent_view=parent.view,
            time_ms=max(state.now_ms, parent.time_ms + 1),
            proposer=state.leader,
            body_root=body_root(ids),
            evidence_root=ZERO_HASH,
            votes_seen_root=votes_seen_root(votes_seen),
            parent_beacon=parent.beacon,
            beacon_proof=b"",
            executed_height=state.executed.height,
            executed_final_view=state.executed.final_view,
            app_hash=state.executed.newest_hash,
            valset_hash=state.validators.hash,
            seal=state.seal_due(state.executed.height),
        )
        if is_sealed(parent, state.epoch):
            header = replace(
                header,
                executed_height=parent.executed_height,
                executed_final_view=parent.executed_final_view,
                app_hash=parent.app_hash,
                seal=parent.seal,
            )
        if self._beacon is not None:
            header = replace(header, beacon_proof=self._beacon.sign(beacon_message(header)))
        return Block(header, ids, votes_seen)

    def proposal(self, block: Block, vote: Vote) -> Proposal | None:
        """Put a block of ours together with our vote and what justifies it.

        `None` if we have lost late votes that the block shows (L6).
        """
        state, header = self._state, block.header
        parent = state.chain.header(header.parent_hash)
        if parent is None:
            return None
        certificate = self._certificate_of(parent)
        ancestry, _ = state.chain.ancestry(parent.hash)
        hashes = {ancestor.header.view: ancestor.hash for ancestor in ancestry}
        late_votes = []
        for view, validator in unproven(block, parent, certificate):
            record = state.views.find(view)
            votes = None if record is None else record.votes
            if votes is None or view not in hashes:
                return None
            late = votes.vote_for(hashes[view], validator)
            if late is None:
                return None
            late_votes.append(late)
        return Proposal(block, vote, certificate, tuple(late_votes))

    def _votes_seen(self, parent: Header) -> tuple[VotesSeen, ...]:
        """Return what a block on this parent shows (L6)."""
        state = self._state
        ancestry, missing = state.chain.ancestry(parent.hash)
        if missing is not None:
            return ()
        return gather(ancestry, self._certificate_of(parent), self._voters)

    def _voters(self, header: Header) -> int:
        record = self._state.views.find(header.view)
        if record is None or record.votes is None:
            return 0
        return record.votes.voters(header.hash)

    def _certificate_of(self, parent: Header) -> Certificate | None:
        record = self._state.views.find(parent.view)
        if record is not None and parent.hash in record.notarizations:
            return record.notarizations[parent.hash]
        final = self._state.final_certificate
        return final if final is not None and final.block_hash == parent.hash else None
