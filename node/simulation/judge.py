"""The oracles of one schedule together: what every node says and does goes through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from omninode.consensus import messages as msg
from omninode.consensus.core import Core
from omninode.consensus.types import Block, Certificate, Vote
from omninode.node.simulation.oracles import (
    Agreement,
    GuardModel,
    Once,
    Seals,
    Violation,
    VoteBook,
    check_evidence,
    check_quorum,
    name_of,
)
from omninode.node.simulation.schedule import Profile

if TYPE_CHECKING:
    from omninode.node.simulation.node import Node
    from omninode.node.simulation.schedule import Schedule
    from omninode.node.simulation.simulator import Simulator


class Judge:
    """Holds what is known of one schedule and raises `Violation`."""

    def __init__(
        self,
        schedule: Schedule,
        powers: Callable[[int], Sequence[int]],
        *,
        check_durability: bool,
    ) -> None:
        self._schedule = schedule
        self._powers = powers
        self._check_durability = check_durability
        self._may_fork = schedule.profile is Profile.OVERLOAD
        self.agreement = Agreement()
        self.once = Once()
        self.seals = Seals()
        self.guards = {i: GuardModel(i) for i in schedule.honest}
        self.book = VoteBook() if self._may_fork else None
        self.convicted: set[int] = set()

    def sent(self, node: Node, message: object) -> None:
        """Judge what an honest node sends."""
        if isinstance(message, msg.VoteMessage):
            self._sent_vote(node, message.vote)
        elif isinstance(message, msg.ProposalMessage):
            self._sent_vote(node, message.proposal.vote)
        elif isinstance(message, msg.CertificateMessage):
            check_quorum(message.certificate, self._powers(message.certificate.epoch))

    def _sent_vote(self, node: Node, vote: Vote) -> None:
        if vote.validator != node.index:
            raise Violation(f"{node.name} sent a foreign vote")
        self.guards[node.index].bound(vote)
        if self._check_durability and vote not in node.disk.guard.get((vote.epoch, vote.view), ()):
            raise Violation(f"{node.name} sent what is not durable: {name_of(vote)}")

    def evidence(self, first: Vote, second: Vote) -> None:
        """Judge what an honest node reports."""
        check_evidence(first, second, self.guards)
        self.convicted.add(first.validator)

    def saw(self, vote: Vote) -> None:
        """Take a vote that somebody honest received."""
        if self.book is not None:
            self.book.saw(vote)

    def saw_certificate(self, certificate: Certificate) -> None:
        """Take a certificate that somebody honest received."""
        if self.book is not None:
            self.book.saw_certificate(certificate)

    def final(self, node: Node, block: Block) -> None:
        """Take what an honest node calls final."""
        self.agreement.final(block)
        if self.agreement.fork_at is not None and not self._may_fork:
            raise Violation(f"a fork at height {self.agreement.fork_at}, seen by {node.name}")

    def executed(self, node: Node, block: Block, app_hash: bytes) -> None:
        """Take what an honest node executed."""
        height = block.header.height
        self.agreement.executed(height, app_hash)
        if self.agreement.fork_at is None:
            self.once.block(height, block.transaction_ids, node.machine.effective())
            self.seals.executed(block.header, node.machine.following)

    def replay(self, simulator: Simulator, node: Node) -> None:
        """Judge that a core rebuilt from the log knows what the live one knows."""
        rebuilt = simulator.make_core(node, node.disk.tip(), node.stored_machine())
        if rebuilt.epoch != node.core.epoch:
            return  # What is of the next epoch waits for its beginning.
        for record in [*node.disk.replayed(), *node.disk.buffered]:
            rebuilt.replay(record)
        live, again = _essence(node.core), _essence(rebuilt)
        floor = max(node.core.final_header.view, rebuilt.final_header.view)
        for name, known in live.items():
            newer = {key: value for key, value in known.items() if key > floor}
            replayed = {key: value for key, value in again[name].items() if key > floor}
            if newer != replayed:
                raise Violation(f"{node.name}: {name} after replay {replayed} not {newer}")

    def convictions(self) -> None:
        """Judge that a fork convicts a third of the power, all faulty, unless two thirds are."""
        if self.book is None:
            return
        self.convicted |= self.book.convicted
        powers, faults = self._schedule.powers, self._schedule.faults
        guilty = self.convicted
        if guilty - set(faults):
            raise Violation(f"honest convicted: {sorted(guilty - set(faults))}")
        faulty = sum(powers[i] for i in faults)
        is_fork = self.agreement.fork_at is not None and 3 * faulty < 2 * sum(powers)
        if is_fork and 3 * sum(powers[i] for i in guilty) < sum(powers):
            raise Violation(f"a fork convicts only {sorted(guilty)} of {sorted(faults)}")


def _essence(core: Core) -> dict[str, dict[int, Any]]:
    """Return what a core must remember over a restart, by view."""
    state = core._state
    records = state.views._records.items()
    own = {} if state.own is None else state.own._votes
    return {
        "own votes": {
            v: {k: vote.block_hash for k, vote in kinds.items()} for v, kinds in own.items()
        },
        "notarizations": {v: set(r.notarizations) for v, r in records if r.notarizations},
        "nullifications": {v: True for v, r in records if r.nullification is not None},
    }
