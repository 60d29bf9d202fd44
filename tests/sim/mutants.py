"""Ways to break consensus (consensus.md §5.3) and what it stands on; each must be found.

Every mutant is a small change of one rule. `first_seed` is the first seed of its profile that kills
it, so that the test that it still dies is fast; `python -m tests.sim --mutant NAME` looks for it
anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from omninode.consensus import effects as out
from omninode.consensus.asking import Asking
from omninode.consensus.core import Core
from omninode.consensus.executed import Divergence
from omninode.consensus.finality import Finality
from omninode.consensus.helping import Helping
from omninode.consensus.judging import Judging, Verdict
from omninode.consensus.messages import TimerId, TimerKind
from omninode.consensus.own_votes import OwnVotes
from omninode.consensus.records import WalRecord, WalVote
from omninode.consensus.state import State
from omninode.consensus.types import Block, Certificate, Seal, ValidatorSet, Vote, VoteKind
from omninode.dex.nonces import Nonces
from omninode.node.simulation.disk import Disk, Place
from omninode.node.simulation.exchange_machine import ExchangeMachine, ExchangeWorkload
from omninode.node.simulation.machines import Workload
from omninode.node.simulation.node import Node
from omninode.node.simulation.options import Options, Tier
from omninode.node.simulation.schedule import Profile, about
from omninode.node.simulation.simulator import simulate


class _FinalizeAndNullify(OwnVotes):
    def _allowed(self, kind: VoteKind, block_hash: bytes, earlier: Mapping[VoteKind, Vote]) -> bool:
        return kind not in earlier and not (
            kind is VoteKind.NOTARIZE and VoteKind.NULLIFY in earlier
        )


class NoS3(Core):
    """Finalize and nullify do not exclude each other."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        assert self._state.own is not None
        self._state.own.__class__ = _FinalizeAndNullify


class CountHeads(Core):
    """Counts validators instead of power."""

    def _count(self, vote: Vote) -> int:
        super()._count(vote)
        votes = self._state.views.votes(vote.view)
        heads = len(votes.certificate(vote).signers)
        is_most = 3 * heads > 2 * len(self._state.validators.validators)
        return self._state.validators.total_power if is_most else 0


class _NoGaps(Judging):
    def _views_between_are_nullified(self, block: Block) -> bool:
        return True


class NoSkipCheck(Core):
    """Votes for a block though views between it and its parent are not nullified."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._judging = _NoGaps(self._state, self._asking)


class _LooseSet(ValidatorSet, frozen=True, array_like=True, dict=True):
    def is_quorum(self, power: int) -> bool:
        return 3 * power >= 2 * self.total_power


class LooseQuorum(Core):
    """Takes two thirds of the power for a quorum, not more than that."""

    def __init__(self, *, validators: ValidatorSet, **arguments: Any) -> None:
        loose = _LooseSet(**msgspec.structs.asdict(validators))
        super().__init__(validators=loose, **arguments)


class NoAdvance(Core):
    """Waits for ever for a certificate once it has notarized."""

    def _on_timer(self, timer: TimerId) -> None:
        if timer.kind is not TimerKind.ADVANCE:
            super()._on_timer(timer)


class _NoHelp(Helping):
    def page(self, peer: int, from_view: int, to_view: int) -> None:
        pass


class _NoAsking(Asking):
    def certificates(self, above: int, high: int, peer: int | None) -> None:
        pass


class NoRetry(Core):
    """Says everything once, asks for no certificate and helps nobody."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._helping = _NoHelp(self._state)
        self._asking.__class__ = _NoAsking

    def _on_timer(self, timer: TimerId) -> None:
        if timer.kind is not TimerKind.RETRY:
            super()._on_timer(timer)


class Amnesia(Core):
    """Does not find its votes again after a restart."""

    def replay(self, record: WalRecord) -> None:
        if not isinstance(record, WalVote):
            super().replay(record)


class SendBeforeSync(Node):
    """Sends what it signed before the log is durable."""

    def _flush(self) -> None:
        if self.syncing:
            return
        self._release(len(self.outputs))
        super()._flush()


class _NoMemory(dict[Place, list[Vote]]):
    """Forgets what is put into it."""

    def setdefault(self, key: Place, default: Any = None, /) -> Any:
        return default


class _NoGuard(Disk):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.guard = _NoMemory()


class NoGuard(Node):
    """Has no signer guard: what the data disk loses is lost."""

    disk_class = _NoGuard


class NoBodies(Core):
    """Votes for blocks that are not in its log."""

    def _write_block(self, block: Block) -> None:
        self._state.chain.mark_written(block.hash)


class NoHalt(Core):
    """Goes on when a final header has another app hash than its own."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._state.__class__ = _NeverHalting


class _NeverHalting(State):
    __slots__ = ()

    def halt_on(self, divergence: Divergence | None) -> None:
        pass


class _Credulous(Judging):
    def _executed_verdict(self, block: Block) -> Verdict:
        state = self._state
        believed = state.executed
        ours = believed._hashes.get(block.header.executed_height)
        if ours is None:
            return super()._executed_verdict(block)
        believed._hashes[block.header.executed_height] = block.header.app_hash
        verdict = super()._executed_verdict(block)
        believed._hashes[block.header.executed_height] = ours
        return verdict


class _CredulousFinality(Finality):
    def take_votable(self) -> list[Block]:
        votable = []
        for view, block_hash in tuple(self._candidates.items()):
            block = self._asking.ready_block(block_hash, view)
            if not self._is_useful(view) or (block is not None and self._state.armed):
                del self._candidates[view]
            if block is not None and self._state.armed and self._is_useful(view):
                votable.append(block)
        return votable


class NoHashCheck(Core):
    """Votes for blocks whatever app hash they name."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._judging.__class__ = _Credulous
        self._finality.__class__ = _CredulousFinality


class _Trusting(Finality):
    def synced(self, blocks: Sequence[Block], certificate: Certificate) -> None:
        height = self._state.chain.final.height
        news = [block for block in blocks if block.header.height > height]
        if news:
            self._finalize(news, certificate)


class TrustsSync(Core):
    """Takes blocks from block sync without looking whether they hang together."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._finality.__class__ = _Trusting


class NoEvidence(Core):
    """Does not compare the votes that it counts."""

    def _count(self, vote: Vote) -> int:
        votes = self._state.views.votes(vote.view)
        return votes.add(vote, self._state.validators.powers[vote.validator])


class FramesHonest(Core):
    """Takes a notarize and a nullify vote for a contradiction."""

    def _count(self, vote: Vote) -> int:
        for other in self._state.views.votes(vote.view).of_validator(vote.validator):
            if {other.kind, vote.kind} == {VoteKind.NOTARIZE, VoteKind.NULLIFY}:
                self._state.out.append(out.ReportEvidence(other, vote))
        return super()._count(vote)


class CountsTwice(Core):
    """Counts a second vote of the same validator."""

    def _count(self, vote: Vote) -> int:
        super()._count(vote)
        votes = self._state.views.votes(vote.view)._of(vote.kind).power
        power = self._state.validators.powers[vote.validator]
        votes[vote.block_hash] = votes.get(vote.block_hash, 0) + power
        return votes[vote.block_hash]


class _NeverSealing(State):
    __slots__ = ()

    def seal_due(self, executed_height: int) -> Seal | None:
        return None


class NoSeal(Core):
    """Does not end an epoch whose cut it has executed."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._state.__class__ = _NeverSealing


class KeepsPowers(Core):
    """Counts the votes of a new epoch by the powers of the old one."""

    def begin_epoch(self, me: int | None, *, vote_floor_view: int = 0) -> None:
        old = self._state.validators
        super().begin_epoch(me, vote_floor_view=vote_floor_view)
        stale = msgspec.structs.replace(self._state.validators, validators=old.validators)
        self._state.validators = stale


class LateAmnesia(Core):
    """Finds its votes again after a restart in the first epoch only."""

    def replay(self, record: WalRecord) -> None:
        if not isinstance(record, WalVote) or self.epoch == 0:
            super().replay(record)


class _AnyNonce(Nonces):
    def use(self, key: bytes) -> bool:
        super().use(key)
        return True

    def is_used(self, account: bytes, signer: bytes, nonce: int) -> bool:
        return False


class ReusesNonces(ExchangeWorkload):
    """An exchange that executes a transaction as often as it comes."""

    def machine(self, records: dict[bytes, bytes]) -> ExchangeMachine:
        machine = super().machine(records)
        machine.exchange.state.nonces.__class__ = _AnyNonce
        return machine


@dataclass(frozen=True)
class Mutant:
    """A mutant, and where it first dies."""

    profile: Profile
    first_seed: int
    core_class: type[Core] = Core
    node_class: type[Node] = Node
    tier: Tier = Tier.CORE
    workload: type[Workload] | None = None


MUTANTS = {
    "no-s3": Mutant(Profile.MIXED, 1, NoS3),
    "count-heads": Mutant(Profile.MIXED, 1, CountHeads),
    "no-skip-check": Mutant(Profile.MIXED, 34, NoSkipCheck),
    "loose-quorum": Mutant(Profile.MIXED, 0, LooseQuorum),
    "no-advance": Mutant(Profile.MIXED, 2, NoAdvance),
    "no-retry": Mutant(Profile.MIXED, 0, NoRetry),
    "amnesia": Mutant(Profile.STORM, 0, Amnesia),
    "send-before-sync": Mutant(Profile.STORM, 60, node_class=SendBeforeSync),
    "no-guard": Mutant(Profile.LOST_DISK, 1, node_class=NoGuard),
    "no-bodies": Mutant(Profile.LOST_DISK, 4, NoBodies),
    "no-halt": Mutant(Profile.BIT_FLIP, 0, NoHalt),
    "no-hash-check": Mutant(Profile.BIT_FLIP, 0, NoHashCheck),
    "trusts-sync": Mutant(Profile.MIXED, 93, TrustsSync),
    "no-evidence": Mutant(Profile.MIXED, 1, NoEvidence),
    "frames-honest": Mutant(Profile.MIXED, 1, FramesHonest),
    "counts-twice": Mutant(Profile.MIXED, 0, CountsTwice),
    "no-seal": Mutant(Profile.MIXED, 1, NoSeal),
    "keeps-powers": Mutant(Profile.MIXED, 5, KeepsPowers),
    "late-amnesia": Mutant(Profile.STORM, 1, LateAmnesia),
    "reuses-nonces": Mutant(Profile.MIXED, 3, tier=Tier.WHOLE, workload=ReusesNonces),
}


def death(mutant: Mutant, seed: int) -> str | None:
    """Return what kills a mutant in a schedule of its profile; `None` if it survives.

    What is sent need not be durable here: the mutant that sends too early must be found by what
    it does after a crash, not by a look into the disk.
    """
    return simulate(
        seed,
        Options(faults=about(mutant.profile), tier=mutant.tier),
        core_class=mutant.core_class,
        node_class=mutant.node_class,
        workload=None if mutant.workload is None else mutant.workload(),
        check_durability=False,
    ).violation


def first_death(mutant: Mutant, seeds: Iterable[int]) -> int | None:
    """Return the first of the seeds that kills a mutant."""
    return next((seed for seed in seeds if death(mutant, seed) is not None), None)
