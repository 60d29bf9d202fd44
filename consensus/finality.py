"""Making blocks final: which finalize votes to cast, and handing out what is final.

Rules
    F1. A finalization makes its block and all its ancestors final, in height order (C5). Of
        several, the newest counts.
    F2. A block is handed out only when it and everything below it is held with its transactions.
    F3. We vote to finalize a notarized block that we hold if we executed what its header says was
        executed, with the same app hash, and its seal is the one that this demands.
    F4. What is final and seals the epoch ends it: fillers after it are not handed out, and nothing
        more becomes final in this epoch (P6). Its seal must be the one that our own execution
        demands, else our state is not the network's: halt.
    F5. A finalization that leads past our final block means that a third of the power broke the
        rules: halt.
"""

from __future__ import annotations

from collections.abc import Sequence

from omninode.consensus import effects as out
from omninode.consensus.asking import Asking
from omninode.consensus.executed import Divergence
from omninode.consensus.limits import FINALIZE_CANDIDATES_MAX, SYNC_GAP_BLOCKS
from omninode.consensus.state import State
from omninode.consensus.types import Block, Certificate, VoteKind
from omninode.crypto import ZERO_HASH


class Finality:
    """Knows what is notarized but not yet voted final, and what is final but not yet held."""

    def __init__(self, state: State, asking: Asking) -> None:
        self._state = state
        self._asking = asking
        self._candidates: dict[int, bytes] = {}

    def learned(self, certificate: Certificate) -> None:
        """Note a new notarization or finalization."""
        state = self._state
        if certificate.kind is VoteKind.FINALIZE:
            if state.pending_final is None or state.pending_final.view < certificate.view:
                state.pending_final = certificate  # F1
        elif certificate.kind is VoteKind.NOTARIZE:
            self._candidates[certificate.view] = certificate.block_hash
            if len(self._candidates) > FINALIZE_CANDIDATES_MAX:
                del self._candidates[min(self._candidates)]

    def take_votable(self) -> list[Block]:
        """Return the notarized blocks to vote for now, each once; asks for what is missing (F3)."""
        votable = []
        for view, block_hash in tuple(self._candidates.items()):
            if not self._is_useful(view):
                del self._candidates[view]
                continue
            block = self._asking.ready_block(block_hash, view)
            if block is None or not self._state.armed:
                continue
            ours = self._state.executed.hash_at(block.header.executed_height)
            if ours is None:
                continue
            del self._candidates[view]
            header = block.header
            due = self._state.seal_due(header.executed_height)
            if (ours, due) == (header.app_hash, header.seal):
                votable.append(block)
        return votable

    def _is_useful(self, view: int) -> bool:
        """Whether a finalize vote of ours in this view could still be of use."""
        state = self._state
        record = state.views.find(view)
        return (
            view > state.chain.final.view
            and record is not None
            and record.nullification is None
            and record.finalization is None
            and state.own is not None
            and VoteKind.FINALIZE not in state.own.of(view)
        )

    def advance(self) -> None:
        """Make final what the newest finalization covers, or ask for the blocks (F1, F2)."""
        state, certificate = self._state, self._state.pending_final
        if certificate is None:
            return
        if state.is_over:  # F4
            state.pending_final = None
            return
        path = state.chain.path(certificate.block_hash)
        if path.conflict:  # F5
            lowest = path.blocks[0].header
            state.halt_on(Divergence(lowest.height, lowest.hash, state.chain.final.hash))
        elif path.missing is not None:
            gap = path.blocks[0].header.height - state.chain.final.height if path.blocks else 0
            if gap > SYNC_GAP_BLOCKS:
                self._asking.sync()
            else:
                self._asking.block(path.missing, certificate.view)
        else:
            held = [self._asking.ready_block(b.hash, b.header.view) for b in path.blocks]
            if all(held):
                self._finalize(path.blocks, certificate)

    def arrived(self, block: Block) -> None:
        """Take a block that was asked for by hash."""
        state = self._state
        if not self._asking.take_wanted(block.hash):
            return
        pending, final = state.pending_final, state.chain.final
        if block.header.epoch != state.epoch or state.is_over:
            return
        is_pending = pending is not None and pending.block_hash == block.hash
        if is_pending and block.header.height <= final.height:  # F5
            state.halt_on(Divergence(block.header.height, block.hash, final.hash))
            return
        state.chain.add(block)
        state.chain.make_ready(block.hash)
        state.changed = True

    def synced(self, blocks: Sequence[Block], certificate: Certificate) -> None:
        """Take finalized blocks by height; `certificate` finalizes the last one."""
        previous = self._state.chain.final
        if self._state.is_over or certificate.epoch != self._state.epoch:
            return
        news = [block for block in blocks if block.header.height > previous.height]
        for block in news:
            header = block.header
            if header.parent_hash != previous.hash or header.height != previous.height + 1:
                return
            previous = header
        is_theirs = (certificate.kind, certificate.block_hash) == (
            VoteKind.FINALIZE,
            previous.hash,
        )
        if news and is_theirs:
            self._finalize(news, certificate)

    def _finalize(self, path: Sequence[Block], certificate: Certificate) -> None:
        state = self._state
        sealed = (n for n, block in enumerate(path) if block.header.seal is not None)
        end = next(sealed, len(path) - 1) + 1
        blocks = path[:end]
        for block in blocks:
            state.halt_on(state.executed.finalized(block.header, certificate.view))
            if state.halted is not None:
                return
        if not state.views.has(VoteKind.FINALIZE, certificate.view, certificate.block_hash):
            state.views.store(certificate)
            state.out.append(out.WriteCertificate(certificate))
        state.chain.finalize(blocks)
        state.final_certificate = certificate
        state.fillers = tuple(block.header for block in path[end:])
        if state.pending_final is not None and state.pending_final.view <= certificate.view:
            state.pending_final = None
        state.out.append(out.Finalize(tuple(blocks), certificate, state.fillers))
        state.changed = True
        self.check_seal()

    def check_seal(self) -> None:
        """Compare what is sealed in the newest final header with our own execution (F4)."""
        state, header = self._state, self._state.chain.final
        if header.epoch != state.epoch or state.executed.height < header.executed_height:
            return
        due = state.seal_due(header.executed_height)
        if header.seal != due:
            roots = [ZERO_HASH if seal is None else seal.hash for seal in (header.seal, due)]
            state.halt_on(Divergence(header.executed_height, *roots))

    def chase(self) -> bool:
        """The view is Δ old: pull what makes its ancestors final (P3).

        Returns whether there is anything left to pull.
        """
        state = self._state
        if state.is_over:
            return False
        final_view = state.chain.final.view
        notarized = state.views.highest_notarized
        missing = state.views.last_not_nullified(state.view)
        if max(notarized, missing) <= final_view and state.pending_final is None:
            return False
        self._asking.again()
        if notarized > final_view:
            self._asking.certificates(notarized - 1, notarized, None)
        elif missing > final_view:
            self._asking.certificates(final_view, missing, None)
        return True

    @property
    def is_behind(self) -> bool:
        """Whether a notarized block is not final yet."""
        return self._state.views.highest_notarized > self._state.chain.final.view
