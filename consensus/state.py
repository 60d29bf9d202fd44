"""What the parts of the core share: everything known, and the effects of the current step.

The parts (`core`, `asking`, `helping`, `judging`, `proposing`) read and change it; the shell never
sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omninode.consensus.chain import Chain
from omninode.consensus.effects import Effect, Halt, Send
from omninode.consensus.executed import Divergence, Executed
from omninode.consensus.leaders import LeaderSchedule
from omninode.consensus.messages import Message
from omninode.consensus.own_votes import OwnVotes
from omninode.consensus.timing import Timing
from omninode.consensus.types import (
    Certificate,
    Header,
    NextEpoch,
    Seal,
    ValidatorSet,
    Vote,
    VoteKind,
)
from omninode.consensus.validity import is_sealed
from omninode.consensus.views import Views


@dataclass(slots=True)
class State:
    """The state of one core. `own` is `None` for an observer."""

    genesis: Header
    validators: ValidatorSet
    me: int | None
    timing: Timing
    schedule: LeaderSchedule
    views: Views
    chain: Chain
    executed: Executed
    own: OwnVotes | None
    final_certificate: Certificate | None
    following: NextEpoch | None = None
    """What the epoch's cut decided, once it is executed (P6)."""
    fillers: tuple[Header, ...] = ()
    """What lies between the sealing block and `final_certificate` when the epoch is over."""
    pending_final: Certificate | None = None
    """The newest finalization whose blocks are not all held."""
    view: int = 0
    entered_ms: int = 0
    """When the current view began."""
    leader: int = 0
    now_ms: int = 0
    armed: bool = False
    halted: Halt | None = None
    changed: bool = False
    """Something was learned that the core has not acted on yet."""
    out: list[Effect] = field(default_factory=list)

    def send(self, to: int | None, message: Message) -> None:
        """Send a message to one validator, or to all others."""
        self.out.append(Send(to, message))

    @property
    def epoch(self) -> int:
        """The epoch that this is about."""
        return self.validators.epoch

    @property
    def is_over(self) -> bool:
        """Whether the block that seals our epoch is final (P6)."""
        return is_sealed(self.chain.final, self.epoch)

    def seal_due(self, executed_height: int) -> Seal | None:
        """Return the seal of a block whose leader had executed so much, as far as we know (P6)."""
        following = self.following
        if following is None or executed_height < following.seal.cut_height:
            return None
        return following.seal

    def halt_on(self, divergence: Divergence | None) -> None:
        """Stop for good if our state is not the network's (P5)."""
        if divergence is not None:
            self.halted = Halt(divergence.height, divergence.expected, divergence.ours)
            self.out.append(self.halted)

    def is_settled(self) -> bool:
        """Whether the current view is so old that votes in earlier ones come from stragglers."""
        return self.now_ms - self.entered_ms >= self.timing.delta_ms

    def own_votes(self, view: int) -> list[Vote]:
        """Return the own votes of a view that may be sent again.

        A vote whose block is not in our log was kept by the guard alone, because the log was lost;
        without the block on our disk it must not be said (P2).
        """
        if self.own is None:
            return []
        return [
            vote
            for vote in self.own.of(view).values()
            if vote.kind is VoteKind.NULLIFY or self.chain.is_written(vote.block_hash)
        ]

    def has_voted(self) -> bool:
        """Whether we notarized or nullified in the current view."""
        if self.own is None:
            return False
        votes = self.own.of(self.view)
        return VoteKind.NOTARIZE in votes or VoteKind.NULLIFY in votes

    def parent(self) -> Header | None:
        """Return the block that a proposal of ours in this view would follow.

        It is the newest held notarized block after which every view is nullified, else the final
        one; `None` while a certificate or the block itself is missing.
        """
        final = self.chain.final
        oldest = max(self.views.last_not_nullified(self.view), final.view)
        for view in (self.views.highest_notarized, oldest):
            if view < oldest:
                continue
            if view == final.view:
                return final
            record = self.views.find(view)
            for block_hash in () if record is None else record.notarizations:
                header = self.chain.header(block_hash)
                if header is not None:
                    return header
        return None
