"""The leader's side (PROTOCOL.md P2, P3): when to have a block built, what its header says.

Rules
    L1. A block with content follows its parent after the shortest interval; an empty one after the
        idle interval, or after Δ while ancestors are not final or execution lags.
    L2. While execution lags by more than `MAX_LAG` blocks, a block is empty.
    L3. A leader that has not executed what the parent names as executed can not propose yet.
"""

from __future__ import annotations

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
    body_root,
)
from omninode.consensus.validity import lags
from omninode.crypto import ZERO_HASH


class Proposing:
    """Orders blocks from the shell and dresses them."""

    def __init__(self, state: State, asking: Asking) -> None:
        self._state = state
        self._asking = asking
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
        """Have a block built if we lead and nothing of ours stands in the way (L1–L3)."""
        state = self._state
        if (
            state.leader != state.me
            or not state.armed
            or state.own is None
            or state.has_voted()
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
        allowed = not lags(parent.height + 1, executed_height)  # L2
        is_idle = allowed and parent is state.chain.final
        timing = state.timing
        order = out.BuildBlock(
            view=state.view,
            parent=parent,
            ancestors=state.chain.unexecuted(parent.hash),
            transactions_allowed=allowed,
            not_before_ms=parent.time_ms + timing.min_block_interval_ms,
            empty_at_ms=parent.time_ms
            + (timing.idle_block_interval_ms if is_idle else timing.delta_ms),
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
        header = Header(
            version=PROTOCOL_VERSION,
            genesis_hash=state.genesis.genesis_hash,
            epoch=state.validators.epoch,
            view=view,
            height=order.parent.height + 1,
            parent_hash=parent_hash,
            parent_view=order.parent.view,
            time_ms=max(state.now_ms, order.parent.time_ms + 1),
            proposer=state.leader,
            body_root=body_root(ids),
            evidence_root=ZERO_HASH,
            votes_seen_root=ZERO_HASH,
            parent_beacon=order.parent.beacon,
            beacon_proof=b"",
            executed_height=state.executed.height,
            executed_final_view=state.executed.final_view,
            app_hash=state.executed.newest_hash,
            valset_hash=state.validators.hash,
        )
        return Block(header, ids)

    def proposal(self, block: Block, vote: Vote) -> Proposal:
        """Put a block of ours together with our vote and the parent's certificate."""
        return Proposal(block, vote, self._parent_certificate(block.header))

    def _parent_certificate(self, header: Header) -> Certificate | None:
        record = self._state.views.find(header.parent_view)
        if record is not None and header.parent_hash in record.notarizations:
            return record.notarizations[header.parent_hash]
        final = self._state.final_certificate
        return final if final is not None and final.block_hash == header.parent_hash else None
