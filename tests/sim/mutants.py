"""Eight ways to break consensus (consensus.md §5.3). Each must be found by a schedule.

Every mutant is a small change of one rule. `first_seed` is the first seed of its profile that kills
it, so that the test that it still dies is fast; `python -m tests.sim --mutant NAME` looks for it
anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from omninode.consensus.asking import Asking
from omninode.consensus.core import Core
from omninode.consensus.helping import Helping
from omninode.consensus.judging import Judging
from omninode.consensus.messages import TimerId, TimerKind
from omninode.consensus.own_votes import OwnVotes
from omninode.consensus.records import WalRecord, WalVote
from omninode.consensus.types import Block, ValidatorSet, Vote, VoteKind
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
    "count-heads": Mutant(Profile.MIXED, 0, CountHeads),
    "no-skip-check": Mutant(Profile.MIXED, 63, NoSkipCheck),
    "loose-quorum": Mutant(Profile.MIXED, 0, LooseQuorum),
    "no-advance": Mutant(Profile.MIXED, 0, NoAdvance),
    "no-retry": Mutant(Profile.MIXED, 0, NoRetry),
    "amnesia": Mutant(Profile.STORM, 2, Amnesia),
    "send-before-sync": Mutant(Profile.STORM, 6, node_class=SendBeforeSync),
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
