"""Replays a trace of the specification through real cores, and compares after each step.

Outside of the comparison, because the model knows nothing of it: time (patience ends when the trace
says so, and nobody's silence is counted), transactions, votes seen, block sync. Executing a block
takes no time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from consensus_script import APP, GENESIS_HASH, START_MS, TIMING, F, N, World, X
from model_trace import Ballot, Network, State
from omninode.consensus import asking, finality
from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.core import Core
from omninode.consensus.types import (
    Block,
    Certificate,
    NextEpoch,
    Proposal,
    Seal,
    Vote,
    VoteKind,
)
from omninode.crypto import ZERO_HASH

KINDS: Final = {"N": N, "X": X, "F": F}
NO_BLOCK: Final = -1


@dataclass
class Validator:
    """A real core, and all that it did."""

    core: Core
    order: out.BuildBlock | None = None
    """The block that it wants to propose."""
    proposal: Proposal | None = None
    cast: set[Ballot] = field(default_factory=set)
    certificates: set[Ballot] = field(default_factory=set)
    chain: set[int] = field(default_factory=lambda: {0})


class Drawn:
    """The leaders that the trace has drawn."""

    def __init__(self, draws: dict[int, int], count: int) -> None:
        self._draws = draws
        self._count = count

    def leader(self, view: int) -> int:
        return self._draws.get(view, 0) % self._count


class Replay:
    """All honest validators of a network.

    Args:
        network: The constants of the trace's module.
        first: The trace's first state.
        patch: Takes what is outside of the model out of the cores.
    """

    def __init__(self, network: Network, first: State, patch: pytest.MonkeyPatch) -> None:
        self.network = network
        self.draws = first.draws
        for module in (asking, finality):
            patch.setattr(module, "SYNC_GAP_BLOCKS", 1_000)
        self.worlds = [
            World(tuple(p for p in powers if p > 0), epoch=epoch)
            for epoch, powers in enumerate(network.powers)
        ]
        self.blocks: dict[int, Block] = {}
        self.proposals: dict[int, Proposal] = {}
        self.number = {self.worlds[0].genesis.hash: 0, ZERO_HASH: NO_BLOCK}
        self.seals: dict[int, Seal] = {}
        self.now_ms = START_MS
        self.validators = {i: Validator(self._core(i)) for i in network.honest}
        for i in network.honest:
            self._start(i)

    def step(self, before: State, after: State) -> None:
        """Do what the trace did, and compare."""
        event = after.event
        node, number = event["node"], event["block"]
        match event["what"]:
            case "idle":
                return
            case "proposeFaulty":
                self._propose_faulty(before, after, number)
                return
            case "propose":
                self._propose(after, node, number)
            case "proposal":
                self._hear_proposal(after, node, number)
            case "vote":
                vote = self._vote(event["ballot"], event["by"])
                self._feed(node, into.PeerVote(vote.validator, vote))
            case "certificate":
                certificate = self._certificate(before, event["ballot"])
                self._feed(node, into.PeerCertificate(None, certificate))
            case "patience":
                view = self.validators[node].core.view
                timer = msg.TimerId(msg.TimerKind.ADVANCE, view)
                self._feed(node, into.TimerFired(timer))
            case "fetch":
                self._feed(node, into.BlockArrived(self.blocks[number]))
            case other:
                raise AssertionError(other)
        self._compare(node, after.nodes[node])

    def _compare(self, node: int, expected: dict[str, Any]) -> None:
        real = self.validators[node]
        core = real.core
        final = self.number[core.final_header.hash]
        assert core.halted is None
        assert (core.validators.epoch, core.view, final) == tuple(
            expected[key] for key in ("epoch", "view", "final")
        )
        assert real.cast == expected["own"]
        assert real.certificates == expected["certificates"]
        assert real.chain == expected["chain"]
        intent = NO_BLOCK if real.order is None else self.number[real.order.parent.hash]
        assert intent == expected["intent"]

    # Cores.

    def _core(self, node: int) -> Core:
        world, me = self.worlds[0], self._index(0, node)
        return Core(
            genesis=world.genesis,
            validators=world.validators,
            me=me,
            signer=world.signer(node),
            timing=TIMING,
        )

    def _index(self, epoch: int, node: int) -> int | None:
        members = self.network.members(epoch)
        return members.index(node) if node in members else None

    def _start(self, node: int) -> None:
        """Begin an epoch; nobody remembers a vote of ours in it."""
        core = self.validators[node].core
        epoch = core.validators.epoch
        members = self.network.members(epoch)
        core._state.schedule = Drawn(self.draws, len(members))  # type: ignore[assignment]
        core._proposing._votes_seen = lambda _: ()  # type: ignore[method-assign]
        self._feed(node, into.Start())
        for peer in range(len(members)):
            if not core.is_armed and peer != core.me:
                self._feed(node, into.PeerMemory(peer, core.view, ()))

    def _feed(self, node: int, event: into.Input) -> None:
        """Step a core, note what it did, then answer what it asks of its shell."""
        real = self.validators[node]
        for peer in range(len(real.core.validators.validators)):
            real.core._watch.heard(peer)
            real.core._watch.proposed(peer)
        effects = real.core.step(event, now_ms=self.now_ms)
        for effect in effects:
            self._note(real, effect)
        for effect in effects:
            if isinstance(effect, out.CheckBody):
                self._feed(node, self._checked(effect.block))
            elif isinstance(effect, out.Finalize):
                self._execute(node, effect)

    def _note(self, real: Validator, effect: out.Effect) -> None:
        match effect:
            case out.WriteVote(vote):
                real.cast.add(self._ballot(vote))
                if vote.view == real.core.view and vote.kind is not F:
                    real.order = None
            case out.WriteCertificate(certificate):
                real.certificates.add(self._ballot(certificate))
            case out.ViewEntered():
                real.order = None
            case out.BuildBlock():
                real.order = effect
            case out.Send(_, msg.ProposalMessage(proposal)):
                real.proposal = proposal
            case out.ReportEvidence(first):
                members = self.network.members(first.epoch)
                assert members[first.validator] in self.network.byzantine

    def _checked(self, block: Block) -> into.Input:
        return into.BodyInvalid(block.hash) if block.transaction_ids else into.BodyReady(block.hash)

    def _execute(self, node: int, final: out.Finalize) -> None:
        real = self.validators[node]
        for block in final.blocks:
            real.chain.add(self.number[block.hash])
            height = block.header.height
            self._feed(node, into.Executed(height, APP[height], self._decided(block, height)))
        if final.blocks[-1].header.seal is not None:
            epoch = real.core.validators.epoch + 1
            real.core.begin_epoch(self._index(epoch, node))
            self._start(node)

    def _decided(self, block: Block, height: int) -> NextEpoch | None:
        """Return what execution of an epoch's cut decides."""
        epoch = block.header.epoch
        cut = self._base_height(epoch) + self.network.epoch_blocks
        if height != cut or epoch + 1 == len(self.worlds):
            return None
        following = self.worlds[epoch + 1].validators
        self.seals[epoch] = Seal(cut, following.hash, following.seed, APP[100], APP[100])
        return NextEpoch(self.seals[epoch], following)

    def _base_height(self, epoch: int) -> int:
        """Return the height of the block that an epoch begins on."""
        return max(
            (
                block.header.height
                for block in self.blocks.values()
                if block.header.epoch == epoch - 1 and self._seals(block)
            ),
            default=0,
        )

    def _seals(self, block: Block) -> bool:
        """Whether an honest validator has it final, as the end of its epoch."""
        number = self.number[block.hash]
        return block.header.seal is not None and any(
            number in real.chain for real in self.validators.values()
        )

    # What the trace names, as data of consensus.

    def _ballot(self, said: Vote | Certificate) -> Ballot:
        return Ballot(said.kind.value, said.epoch, said.view, self.number[said.block_hash])

    def _vote(self, ballot: Ballot, by: int) -> Vote:
        index = self._index(ballot.epoch, by)
        assert index is not None
        block = None if ballot.block == NO_BLOCK else self.blocks[ballot.block]
        return self.worlds[ballot.epoch].vote(self._kind(ballot), ballot.view, index, block)

    def _certificate(self, state: State, ballot: Ballot) -> Certificate:
        """Gather the honest votes there are, and those of all faulty validators."""
        signers = state.votes.get(ballot, frozenset()) | self.network.byzantine
        members = self.network.members(ballot.epoch)
        by: Iterable[int] = sorted(members.index(i) for i in signers if i in members)
        block = None if ballot.block == NO_BLOCK else self.blocks[ballot.block]
        world = self.worlds[ballot.epoch]
        return world.certificate(self._kind(ballot), ballot.view, block, by=tuple(by))

    def _kind(self, ballot: Ballot) -> VoteKind:
        return KINDS[ballot.kind]

    def _propose(self, after: State, node: int, number: int) -> None:
        real, expected = self.validators[node], after.blocks[number]
        order = real.order
        assert order is not None, "the core does not want to propose"
        self.now_ms = START_MS + number
        real.core._state.now_ms = self.now_ms
        block = real.core._proposing.block_of(order.view, order.parent.hash, ())
        assert block is not None
        self._name(number, block)  # its votes are looked at as soon as they are cast
        self._feed(node, into.BlockBuilt(order.view, order.parent.hash, ()))
        assert real.proposal is not None
        assert real.proposal.block == block
        header = block.header
        assert (header.view, header.height) == (expected["view"], expected["height"])
        assert header.parent_hash == self._hash(expected["parent"])
        assert header.executed_height == expected["executed"]
        assert (header.seal is not None) == (expected["content"] != "real")
        shown = real.proposal.parent_certificate
        assert (shown.kind.value if shown else "none") == expected["shows"]
        self.proposals[number] = real.proposal

    def _name(self, number: int, block: Block) -> None:
        self.blocks[number] = block
        self.number[block.hash] = number

    def _hash(self, number: int) -> bytes:
        return self.blocks[number].hash if number else self.worlds[0].genesis.hash

    def _propose_faulty(self, before: State, after: State, number: int) -> None:
        self.now_ms = START_MS + number
        expected = after.blocks[number]
        epoch, view = expected["epoch"], expected["view"]
        world, leader = self.worlds[epoch], self.draws[view] % self.worlds[epoch].count
        above = expected["parent"]
        parent = self.blocks[above].header if above else world.genesis
        fields: dict[str, Any] = {
            "proposer": leader,
            "time_ms": self.now_ms,
            "executed_height": expected["executed"],
            "executed_final_view": 0,
            "app_hash": APP[expected["executed"]],
            "ids": () if expected["valid"] else (APP[7],),
        }
        if expected["content"] != "real":
            fields["seal"] = self.seals.get(epoch, Seal(0, GENESIS_HASH, APP[1], APP[1], APP[1]))
        if expected["content"] == "filler":
            fields["seal"] = parent.seal
            fields["executed_final_view"] = parent.executed_final_view
        block = world.block(view, parent, **fields)
        self._name(number, block)
        shown = None
        if expected["shows"] == "N" and expected["parent"] and parent.epoch == epoch:
            ballot = Ballot("N", epoch, parent.view, expected["parent"])
            shown = self._certificate(before, ballot)
        vote = world.vote(N, view, leader, block)
        self.proposals[number] = Proposal(block, vote, shown)

    def _hear_proposal(self, state: State, node: int, number: int) -> None:
        proposal = self.proposals[number]
        self._feed(node, into.PeerProposal(proposal.vote.validator, proposal))
