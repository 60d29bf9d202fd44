"""The consensus core: stake-weighted Simplex as a pure function of its inputs.

Rules (PROTOCOL.md P2, P3, P7; consensus.md §1.4)
    C1. A view ends with a notarization or a nullification; either lets one enter the next view, so
        does a finalization.
    C2. We notarize the first block that the view's leader proposed, if its parent is notarized or
        final, every view between them is nullified, its transactions are held, and we executed what
        it says was executed (`judging.py`).
    C3. We finalize a notarized block that we hold, unless we nullified its view or notarized
        another one in it.
    C4. We nullify when patience is over or the block can never be valid.
    C5. A finalization makes its block and all ancestors final; they are handed out in height order.
    C6. Certificates are not broadcast: votes go to everybody, and what is missing is asked for.
    C7. A block is in the log before our vote for it, the vote is in the log before it is sent.
    C8. A block that names the epoch's cut as executed seals the epoch; after it come fillers, and
        once it is final, nothing more is voted. Executed, it is what the next epoch begins with: a
        new set, and views that go on from its own (P6).
    C9. What is of another epoch than ours is not looked at.

`step` adds to what is known and then acts on it (`_act`), so the order in which things arrive does
not matter. Own votes count at once; the shell lets nothing leave before it is durable.

What it does not do: check signatures or transactions, keep time, execute, read or write anything.
"""

from __future__ import annotations

from typing import assert_never

from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.arming import Arming
from omninode.consensus.asking import Asking
from omninode.consensus.chain import Chain, FinalizedTip
from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.executed import Executed
from omninode.consensus.finality import Finality
from omninode.consensus.helping import Helping
from omninode.consensus.inspection import Inspection
from omninode.consensus.judging import Judging, Verdict
from omninode.consensus.leaders import LeaderSchedule, LeaderWatch
from omninode.consensus.limits import (
    SKIPS_MAX,
    VIEWS_AHEAD_MAX,
    VOTE_VIEWS_KEPT,
)
from omninode.consensus.memory import Memory
from omninode.consensus.messages import TimerId, TimerKind
from omninode.consensus.own_votes import OwnVotes, Signer
from omninode.consensus.pacemaker import Pacemaker
from omninode.consensus.proposing import BeaconSigner, Proposing
from omninode.consensus.records import (
    WalBlock,
    WalCertificate,
    WalRecord,
    WalVote,
    epoch_of,
)
from omninode.consensus.state import State
from omninode.consensus.timing import Timing
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    NextEpoch,
    Proposal,
    ValidatorSet,
    Vote,
    VoteKind,
)
from omninode.consensus.validity import is_sealed, is_well_formed, lags
from omninode.consensus.views import Views
from omninode.consensus.votes import votes_in
from omninode.crypto import ZERO_HASH
from omninode.errors import BrokenInvariant

NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


class Core(Inspection):
    """One validator's, or observer's, view of consensus; `inspection.py` has what may be read.

    Args:
        genesis: The header at height 0.
        validators: The validator set of the epoch that the stored chain has reached.
        me: Our index in the set; `None` for an observer, which follows and never votes.
        signer: Signs our votes; `None` makes an observer.
        timing: Δ and the block intervals.
        finalized: The newest final and executed block that is stored; `None` means genesis.
        vote_floor_view: No vote below this view (the floor of a rearmed signer guard).
        beacon: Our beacon key. Without it a validator of whom the set has one does not lead.
        following: What the epoch's cut decided, if it is executed.
    """

    def __init__(
        self,
        *,
        genesis: Header,
        validators: ValidatorSet,
        me: int | None,
        signer: Signer | None,
        timing: Timing,
        finalized: FinalizedTip | None = None,
        vote_floor_view: int = 0,
        beacon: BeaconSigner | None = None,
        following: NextEpoch | None = None,
    ) -> None:
        self._signer = signer
        self._beacon = beacon
        tip = finalized or FinalizedTip(genesis, None, ((0, genesis.app_hash),))
        own: OwnVotes | None = None
        if me is not None and signer is not None:
            own = OwnVotes(
                genesis_hash=genesis.genesis_hash,
                epoch=validators.epoch,
                me=me,
                signer=signer,
                floor_view=vote_floor_view,
            )
        certificate = tip.certificate
        if certificate is not None and certificate.epoch != validators.epoch:
            certificate = None
        state = State(
            genesis=genesis,
            validators=validators,
            me=me if own is not None else None,
            timing=timing,
            schedule=LeaderSchedule(validators),
            views=Views(),
            chain=Chain(tip.header, tip.recent),
            executed=Executed(
                dict(tip.app_hashes),
                final_view=tip.header.view if certificate is None else certificate.view,
            ),
            own=own,
            final_certificate=certificate,
            following=following,
        )
        self._assemble(state, is_born_armed=False)

    def _assemble(self, state: State, *, is_born_armed: bool) -> None:
        """Put the parts around a new state."""
        super().__init__(state, LeaderWatch(len(state.validators.validators)), Asking(state))
        self._pace = Pacemaker(state.timing)
        self._helping = Helping(state)
        self._judging = Judging(state, self._asking)
        self._proposing = Proposing(state, self._asking, self._beacon)
        self._finality = Finality(state, self._asking)
        self._started = False
        self._impatient = False
        self._memory: Memory | None = None
        if state.own is not None:
            arming = Arming(state.validators, state.own.me, is_born_armed=is_born_armed)
            self._memory = Memory(
                state, state.own, arming, self._pace, tally=self._tally, resume=self._set_timers
            )

    def begin_epoch(self, me: int | None, *, vote_floor_view: int = 0) -> None:
        """Begin the epoch after the one that is over (C8); then `replay` its records and `Start`.

        Args:
            me: Our index in the next set.
            vote_floor_view: No vote below this view in the next epoch.

        Raises:
            BrokenInvariant: The epoch is not over, or its sealing block not executed.
        """
        old, end = self._state, self.epoch_end
        if end is None:
            raise BrokenInvariant(f"epoch {old.epoch} is not over")
        seal = old.chain.final
        is_armed = self._memory is not None and self._memory.carries_over()
        Core.__init__(
            self,
            genesis=old.genesis,
            validators=end.validators,
            me=me,
            signer=self._signer,
            timing=old.timing,
            finalized=FinalizedTip(seal, None, old.executed.since(seal.executed_height)),
            vote_floor_view=vote_floor_view,
            beacon=self._beacon,
        )
        if is_armed:
            self._assemble(self._state, is_born_armed=True)

    # Inputs.

    def replay(self, record: WalRecord) -> None:
        """Take back one record of the log, in order, before `Start`; of our epoch only (C9)."""
        state = self._state
        if epoch_of(record) != state.epoch:
            return
        match record:
            case WalVote(vote):
                # A vote that only the guard kept binds us; without its block it does not count.
                if (
                    state.own is not None
                    and state.own.remember(vote)
                    and vote in state.own_votes(vote.view)
                ):
                    self._count(vote)
            case WalBlock(block, _):
                state.chain.add(block, ready=True)
                if state.chain.block(block.hash) is not None:
                    state.chain.mark_written(block.hash)
            case WalCertificate(certificate):
                self._learn(certificate)
            case _:
                assert_never(record)
        state.out = []

    def step(self, event: into.Input, *, now_ms: int) -> list[out.Effect]:
        """Take one input; return what is to be done, in order."""
        state = self._state
        if state.halted is not None:
            return []
        state.now_ms = now_ms
        state.out = []
        self._take(event)
        while state.changed and state.halted is None:
            state.changed = False
            self._act()
        return state.out

    def _take(self, event: into.Input) -> None:
        state = self._state
        match event:
            case into.PeerVote():
                self._on_vote(event.vote)
            case into.TimerFired(timer):
                self._on_timer(timer)
            case into.PeerProposal(_, proposal):
                self._on_proposal(proposal)
            case into.BodyReady(block_hash):
                state.chain.make_ready(block_hash)
                state.changed = True
            case into.Executed(height, app_hash, following):
                state.chain.executed(height)
                state.changed = True
                state.following = state.following or following
                state.halt_on(state.executed.executed(height, app_hash))
                if state.halted is None:
                    self._finality.check_seal()
            case into.BlockBuilt(view, parent_hash, ids):
                self._on_built(self._proposing.block_of(view, parent_hash, ids))
            case into.PendingChanged(pending):
                if pending:
                    state.out += self._pace.hurry()
            case into.PeerCertificate(_, certificate):
                self._on_certificate(certificate)
            case into.BlockArrived(block):
                self._finality.arrived(block)
            case into.EpochProven(proof):
                self._on_epoch_proof(proof)
            case into.BodyInvalid(block_hash):
                self._on_invalid(block_hash)
            case into.PeerAsksCertificates(sender, from_view, to_view):
                self._helping.page(sender, from_view, to_view)
            case into.BlocksSynced(blocks, certificate):
                self._finality.synced(blocks, certificate)
            case into.PeerAsksMemory(sender):
                self._helping.memory(sender)
            case into.PeerMemory(sender, view, votes):
                if self._memory is not None and self._started:
                    self._memory.answered(sender, view, votes)
            case into.Start():
                self._start()
            case _:
                assert_never(event)

    # Votes and certificates.

    def _on_vote(self, vote: Vote) -> None:
        view = vote.view
        if vote.epoch != self._state.epoch:
            return
        if view > self.view + 1:
            self._asking.ahead(vote)
        if view >= self.view - 1:
            self._watch.heard(vote.validator)
        is_news = False
        if self._is_in_window(view):
            is_news = not self._state.views.votes(view).holds(vote)
            if is_news:
                self._tally(vote)
        if view < self.view and (
            self._state.is_settled()
            or (vote.kind is NULLIFY and (view < self.view - 1 or not is_news))
        ):
            self._helping.straggler(vote.validator, view)

    def _tally(self, vote: Vote) -> None:
        """Count a vote; draw conclusions from a quorum and from activity in our view."""
        power = self._count(vote)
        state = self._state
        if (
            state.validators.is_quorum(power)
            and vote.view > self.final_header.view
            and not state.views.has(vote.kind, vote.view, vote.block_hash)
        ):
            self._learn(state.views.votes(vote.view).certificate(vote))
        if vote.view == state.view and not state.is_over:
            self._notice_activity()
            if vote.kind is NULLIFY and vote.validator == state.leader != state.me:
                self._impatient = state.changed = True

    def _count(self, vote: Vote) -> int:
        votes = self._state.views.votes(vote.view)
        contradicted = votes.contradicted(vote)
        if contradicted is not None:
            self._state.out.append(out.ReportEvidence(contradicted, vote))
        return votes.add(vote, self._state.validators.powers[vote.validator])

    def _notice_activity(self) -> None:
        """Start patience when more than a third of the power is at work in this view."""
        state = self._state
        if self._started and not self._pace.hurried:
            record = state.views.find(state.view)
            active = 0 if record is None or record.votes is None else record.votes.active_power
            if 3 * active > state.validators.total_power:
                state.out += self._pace.hurry()

    def _on_certificate(self, certificate: Certificate) -> None:
        if certificate.epoch != self._state.epoch or not self.wants_certificate(certificate):
            return
        for vote in votes_in(certificate):
            self._count(vote)
        self._learn(certificate)

    def _learn(self, certificate: Certificate) -> None:
        """Keep a new certificate."""
        state, view = self._state, certificate.view
        if view <= state.chain.final.view or state.views.has(
            certificate.kind, view, certificate.block_hash
        ):
            return
        state.views.store(certificate)
        state.out.append(out.WriteCertificate(certificate))
        state.changed = True
        self._finality.learned(certificate)

    def _on_epoch_proof(self, proof: EpochProof) -> None:
        """Take the end of our epoch: what lies between its sealing block and its certificate."""
        state = self._state
        if proof.epoch == state.epoch and not state.is_over:
            for filler in proof.fillers:
                state.chain.add(Block(filler, ()), ready=True)
            self._on_certificate(proof.certificate)
            state.changed = True

    # Views.

    def _start(self) -> None:
        state = self._state
        self._started = True
        if self._memory is not None:
            self._memory.prepare()
        voted_view = 0 if state.own is None else state.own.newest_view
        self._enter(max(state.views.highest_certified + 1, voted_view, state.chain.final.view + 1))
        if state.own is None or self._memory is None or not self._memory.start():
            return
        if state.validators.is_quorum(state.validators.powers[state.own.me]):
            for view in (state.view - 1, state.view):
                for vote in state.own_votes(view):
                    # Our votes alone are a quorum, and the certificate may not have reached the
                    # log.
                    self._learn(state.views.votes(view).certificate(vote))

    def _enter(self, view: int) -> None:
        state = self._state
        if view <= state.view:
            return
        self._leave(view)
        state.view = view
        state.entered_ms = state.now_ms
        state.leader = state.schedule.leader(view)
        self._impatient = (
            state.leader != state.me
            and view - state.chain.final.view <= SKIPS_MAX
            and self._watch.is_silent(state.leader)
        )
        self._asking.again()
        for block_hash in state.views.trim(view=view, final_view=state.chain.final.view):
            state.chain.forget(block_hash)
        self._proposing.announce_view()
        self._set_timers()
        if not state.armed and self._memory is not None:
            self._memory.expect()

    def _set_timers(self) -> None:
        """Start waiting in the current view, as far as we know it."""
        state = self._state
        state.out += self._pace.enter(
            state.view, final_view=state.chain.final.view, idle_wait_ms=self._idle_wait_ms()
        )
        record = state.views.find(state.view)
        if record is not None and record.proposal is not None:
            state.out += self._pace.hurry()
        self._notice_activity()
        if state.own is not None and state.own.of(state.view):
            state.out += self._pace.voted() + self._pace.again_soon()

    def _leave(self, next_view: int) -> None:
        """Remember who was silent in the view that ends."""
        if next_view != self.view + 1 or self.view == 0:
            self._watch.jumped()
            return
        record = self._state.views.find(self.view)
        seen = record is not None and (record.proposal is not None or bool(record.notarizations))
        self._watch.passed(self.leader, proposal_seen=seen)
        own = self._state.own
        may_be_good = record is not None and record.proposal is not None and not record.invalid
        if may_be_good and own is not None and NULLIFY in own.of(self.view):
            self._pace.was_hasty()

    def _idle_wait_ms(self) -> int:
        """How long the leader may wait if it has nothing to say."""
        timing, parent = self._state.timing, self._state.parent()
        idle_ms = timing.idle_block_interval_ms
        if parent is None:
            return idle_ms
        if is_sealed(parent, self.epoch):
            return 0
        if lags(parent.height + 1, parent.executed_height):
            return timing.delta_ms
        return min(max(parent.time_ms + idle_ms - self._state.now_ms, 0), idle_ms)

    # Acting on what is known.

    def _act(self) -> None:
        self._enter(self._state.views.highest_certified + 1)  # C1
        self._finality.advance()
        if self._state.halted is None and not self._state.is_over:
            self._vote_finalize()
            self._vote_notarize()
            self._proposing.announce_view()
            self._proposing.order_block()

    def _cast(self, kind: VoteKind, view: int, block_hash: bytes) -> Vote | None:
        """Sign a vote if the rules allow it, and have it written (C7)."""
        state = self._state
        if not state.armed or state.own is None or view <= state.chain.final.view or state.is_over:
            return None
        vote = state.own.sign(kind, view, block_hash)
        if vote is not None:
            state.out.append(out.WriteVote(vote))
        return vote

    def _vote(self, kind: VoteKind, view: int, block_hash: bytes) -> bool:
        vote = self._cast(kind, view, block_hash)
        if vote is None:
            return False
        self._state.send(None, msg.VoteMessage(vote))
        self._tally(vote)
        return True

    def _write_block(self, block: Block) -> None:
        if self._state.chain.mark_written(block.hash):
            self._state.out.append(out.WriteBlock(block))

    def _nullify(self) -> None:
        """Give the view up (C4)."""
        if self._vote(NULLIFY, self.view, ZERO_HASH):
            self._state.out += self._pace.again_soon()

    def _vote_finalize(self) -> None:
        """Vote to make notarized blocks final (C3)."""
        for block in self._finality.take_votable():
            self._write_block(block)
            self._vote(FINALIZE, block.header.view, block.hash)

    def _vote_notarize(self) -> None:
        """Vote on the current view's proposal, or find out what is missing (C2, C4)."""
        state = self._state
        if state.own is None or not state.armed or state.has_voted():
            return
        record = state.views.find(state.view)
        if self._impatient or (record is not None and record.invalid):
            self._nullify()
            return
        if record is None or record.proposal is None:
            return
        block = record.proposal.block
        verdict = self._judging.verdict(record.proposal)
        if verdict is Verdict.NULLIFY:
            record.invalid = True
            self._nullify()
        elif verdict is Verdict.NOTARIZE:
            self._write_block(block)
            if self._vote(NOTARIZE, state.view, block.hash):
                state.out += self._pace.voted()
        elif (wait_ms := self._judging.clock_wait_ms(block)) > 0:
            state.out += self._pace.clock(wait_ms)

    def _on_built(self, block: Block | None) -> None:
        """Log our block and our vote for it, then show both."""
        if block is None:
            return
        state = self._state
        state.chain.add(block, ready=True)
        self._write_block(block)
        vote = self._cast(NOTARIZE, state.view, block.hash)
        if vote is None:
            return
        self._show(block, vote)
        state.out += self._pace.voted()
        self._tally(vote)

    def _show(self, block: Block, vote: Vote) -> None:
        """Send our proposal, or our vote alone if what the block shows can not be justified now."""
        record = self._state.views.record(block.header.view)
        proposal = record.proposal
        if proposal is None or proposal.block.hash != block.hash:
            proposal = self._proposing.proposal(block, vote)
            record.proposal = record.proposal or proposal
        message = msg.VoteMessage(vote) if proposal is None else msg.ProposalMessage(proposal)
        self._state.send(None, message)

    # Blocks and finality.

    def _on_proposal(self, proposal: Proposal) -> None:
        state, block = self._state, proposal.block
        header = block.header
        if header.epoch != state.epoch:
            return
        if proposal.parent_certificate is not None:
            self._on_certificate(proposal.parent_certificate)
        for late in proposal.late_votes:
            if self._is_in_window(late.view) and not state.views.votes(late.view).holds(late):
                self._tally(late)
        is_leaders = header.proposer == state.schedule.leader(header.view)
        if is_leaders and self.final_header.view < header.view <= self.view + VIEWS_AHEAD_MAX:
            self._watch.proposed(header.proposer)
            record = state.views.record(header.view)
            if record.proposal is None and header.view > self.view - VOTE_VIEWS_KEPT:
                record.proposal = proposal
                record.invalid = not is_well_formed(header, state.genesis, state.validators)
                if not record.invalid:
                    state.chain.add(block)
                    if header.view >= self.view - 1:
                        self._asking.body(block)
                state.changed = True
                if header.view == self.view:
                    state.out += self._pace.hurry()
        self._on_vote(proposal.vote)

    def _on_invalid(self, block_hash: bytes) -> None:
        state = self._state
        block = state.chain.block(block_hash)
        if block is not None and not state.chain.is_ready(block_hash):
            record = state.views.record(block.header.view)
            if record.proposal is not None and record.proposal.block.hash == block_hash:
                record.invalid = state.changed = True

    # Timers.

    def _on_timer(self, timer: TimerId) -> None:
        state = self._state
        if timer.view != state.view:
            return
        match timer.kind:
            case TimerKind.LEADER:
                if not state.has_voted():
                    self._nullify()
            case TimerKind.ADVANCE:
                self._nullify()
            case TimerKind.RETRY:
                self._repeat()
            case TimerKind.CLOCK:
                state.changed = True
            case TimerKind.FINALITY:
                if self._finality.chase():
                    state.out += self._pace.again_later(TimerKind.FINALITY)
                if self._finality.is_behind:
                    state.out += self._pace.hurry()
            case TimerKind.MEMORY:
                if self._memory is not None:
                    self._memory.ask()
            case _:
                assert_never(timer.kind)

    def _repeat(self) -> None:
        """Say again what we said in this view, and ask again for what we lack."""
        state = self._state
        self._asking.again()
        if state.own is None or not state.armed:
            return
        for vote in state.own_votes(state.view):
            block = state.chain.block(vote.block_hash) if vote.kind is NOTARIZE else None
            if block is not None and block.header.proposer == state.me:
                self._show(block, vote)
            else:
                state.send(None, msg.VoteMessage(vote))
        state.out += self._pace.again_later(TimerKind.RETRY)
