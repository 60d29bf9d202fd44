"""Whole nodes over the ends of epochs: sets that change, nodes that are slow, away or restarted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from driver_world import VOTE_KEYS, Node, World, make_genesis, until
from omninode.consensus import messages as msg
from omninode.consensus.epoch_proof import EpochProof, check_epoch_proof, follow
from omninode.consensus.types import Block, Validator, ValidatorSet
from omninode.crypto import keccak256
from omninode.dex.genesis import EpochParams, GenesisAsset, GenesisStaking
from omninode.dex.outcomes import BlockInput, BlockOutcome, EpochCut
from omninode.encoding import decode, encode
from omninode.errors import PeerFault

Members = tuple[tuple[int, int], ...]
"""Index of the key, and power."""

EQUAL: Members = tuple((index, 100) for index in range(4))


@dataclass
class Plan:
    """When epochs are cut, and who validates after that."""

    blocks: int = 4
    sets: dict[int, Members] = field(default_factory=dict)

    def members(self, epoch: int) -> ValidatorSet:
        known = [number for number in self.sets if number <= epoch]
        members = self.sets[max(known)] if known else EQUAL
        return ValidatorSet(
            epoch,
            tuple(
                Validator(
                    VOTE_KEYS[index].address,
                    VOTE_KEYS[index].public_key,
                    b"",
                    f"peer{index}",
                    f"node{index}",
                    power,
                    power,
                )
                for index, power in members
            ),
            seed=keccak256(b"epoch %d" % epoch),
        )


class PlannedExchange:
    """The real exchange, whose epochs are cut by height and whose sets are planned."""

    def __init__(self, node: Node, plan: Plan) -> None:
        self._exchange = node.state.exchange
        self._plan = plan
        epoch = node.state.validators.epoch
        proof = node.state.chain.epoch_proof(epoch - 1) if epoch else None
        self._start = 0 if proof is None else proof.header.height
        self._is_cut = node.state.chain.epoch_cut(epoch) is not None

    @property
    def height(self) -> int:
        return self._exchange.height

    def apply(self, block: BlockInput) -> BlockOutcome:
        outcome = self._exchange.apply(block)
        if block.seals:
            assert self._is_cut
            self._is_cut, self._start = False, block.height
        elif not self._is_cut and block.height - self._start >= self._plan.blocks:
            self._is_cut = True
            following = self._plan.members(block.epoch + 1)
            cut = EpochCut(block.height, keccak256(outcome.app_hash), following)
            outcome = replaced(outcome, cut=cut)
        return outcome


@pytest.fixture
def plan(world: World) -> Plan:
    made = Plan()
    world.wrap_exchange = lambda node: PlannedExchange(node, made)
    return made


async def pass_epochs(world: World, epoch: int, *nodes: Node) -> None:
    """Make blocks until these nodes are in an epoch."""
    speaker = nodes[0]

    async def trade() -> None:
        while True:
            await speaker.admission.submit(world.order().raw)
            await trio.sleep(world.interval_ms / 1_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trade)
        await until(lambda: min(node.core.epoch for node in nodes) >= epoch)
        nursery.cancel_scope.cancel()


def proofs_of(node: Node, epochs: int) -> list[EpochProof]:
    found = [node.state.chain.epoch_proof(epoch) for epoch in range(epochs)]
    assert all(proof is not None for proof in found)
    return [proof for proof in found if proof is not None]


async def test_epochs_turn_and_can_be_proven(
    world: World, plan: Plan, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await pass_epochs(world, 3, *nodes)
    await world.grow(nodes[0], 3, others=nodes[1:])
    await until(lambda: all(node.state.chain.epoch_proof(2) for node in nodes))
    world.agree()
    for node in nodes:
        proofs = proofs_of(node, 3)
        last = follow(proofs, world.genesis.validator_set, world.genesis.hash)
        assert last == plan.members(3)
        assert node.epochs == [1, 2, 3]
        for proof in proofs:
            stored = node.state.chain.block(proof.header.height)
            assert stored is not None
            assert stored.header == proof.header
            after = node.state.chain.block(proof.header.height + 1)
            if after is not None:
                assert after.header.parent_hash == proof.header.hash, "fillers are not stored"
                assert (after.header.epoch, after.header.view > proof.header.view) == (
                    proof.epoch + 1,
                    True,
                )
    seals = {proofs_of(node, 3)[1].seal for node in nodes}
    assert len(seals) == 1
    assert not any(node.halts for node in nodes)


async def test_blocks_show_who_voted(world: World, plan: Plan, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    await pass_epochs(world, 2, *nodes)
    chain = nodes[0].state.chain
    blocks = [b for b in (chain.block(h) for h in range(1, nodes[0].height - 3)) if b is not None]
    shown: dict[int, int] = {}
    for block in blocks:
        for entry in block.votes_seen:
            mask = int.from_bytes(entry.signers, "little")
            assert not shown.get(entry.view, 0) & mask, "nobody is shown twice"
            shown[entry.view] = shown.get(entry.view, 0) | mask
    inner = [b for b in blocks[:-4] if b.header.seal is None]
    assert all(shown.get(block.header.view, 0).bit_count() >= 3 for block in inner)


def is_placed_rightly(nodes: list[Node]) -> bool:
    """Whether each node has the place of its key in the set of the epoch that it is in."""
    places = [
        (n.core.me, n.core.validators.index_of(VOTE_KEYS[i].address)) for i, n in enumerate(nodes)
    ]
    return all(is_at == belongs for is_at, belongs in places)


async def test_members_come_and_go(world: World, plan: Plan, mock_clock: MockClock) -> None:
    plan.sets = {
        1: ((1, 100), (2, 100), (3, 100), (4, 100)),
        2: ((0, 100), (1, 50), (3, 100), (4, 100), (5, 100)),
    }
    nodes = [*await world.start_armed(), await world.start_node("peer4", 4)]
    nodes.append(await world.start_node("peer5", 5))
    assert nodes[4].core.me is None
    await pass_epochs(world, 1, *nodes)
    assert is_placed_rightly(nodes)
    await until(lambda: nodes[4].core.is_armed)
    world.hub.isolate("peer1")
    await pass_epochs(world, 2, nodes[2], nodes[3], nodes[4])
    world.hub.join("peer1")
    await pass_epochs(world, 3, *nodes)
    assert is_placed_rightly(nodes)
    await until(lambda: all(node.core.is_armed for node in nodes if node.core.me is not None))
    world.agree()
    assert not [fault for fault in world.hub.faults if "not_a_validator" not in fault[2]]


async def test_who_left_without_hearing_of_it_finds_out(
    world: World, plan: Plan, mock_clock: MockClock
) -> None:
    plan.sets = {1: ((0, 100), (1, 100), (2, 100), (4, 100))}
    nodes = [*await world.start_armed(), await world.start_node("peer4", 4)]
    world.hub.isolate("peer3")
    await pass_epochs(world, 2, nodes[0], nodes[1], nodes[2], nodes[4])
    world.hub.cut = set()
    await until(lambda: nodes[3].core.epoch == 2)
    assert nodes[3].core.me is None
    world.agree()


async def test_who_was_away_for_epochs_catches_up(
    world: World, plan: Plan, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    world.hub.isolate("peer3")
    await pass_epochs(world, 3, *nodes[:3])
    assert nodes[3].core.epoch == 0
    world.hub.join("peer3")
    await until(lambda: nodes[3].core.epoch >= 3)
    world.hub.isolate("peer0")
    await world.grow(nodes[1], 3, others=nodes[2:])
    world.agree()


async def test_an_observer_follows(world: World, plan: Plan, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    observer = await world.start_node("observer")
    await pass_epochs(world, 2, *nodes)
    await until(lambda: observer.core.epoch >= 2)
    world.agree()


def holds_the_seal_alone(node: Node) -> bool:
    """Whether nothing is between a node's final block and the one that seals the epoch."""
    core = node.core
    return any(
        block.header.seal is not None and block.header.height == core.final_height + 1
        for block in core._state.chain._blocks.values()
    )


async def test_who_hears_no_finalization_gets_a_proof(
    world: World, plan: Plan, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    proofs: list[bytes] = []

    def bend(_sender: str, receiver: str, frame: bytes) -> bytes | None:
        if receiver != "peer3":
            return frame
        if b"\xa5epoch" in frame[:8]:
            proofs.append(frame)
        elif b"\xa1F" in frame and nodes[3].core.epoch == 0 and holds_the_seal_alone(nodes[3]):
            return None
        return frame

    world.hub.bend_frame = bend
    world.hub.bend_answer = lambda _asked, _protocol, _answer: None
    await pass_epochs(world, 1, *nodes[:3])
    await until(lambda: nodes[3].core.epoch >= 1)
    assert proofs


PHASES: dict[str, Callable[[Node], Any]] = {
    "cut executed": lambda node: node.core.following is not None,
    "seal held": lambda node: any(
        block.header.seal is not None for block in node.core._state.chain._blocks.values()
    ),
    "seal final": lambda node: node.core.is_epoch_over,
    "epoch began": lambda node: node.core.epoch == 1,
    "voted in it": lambda node: (
        node.core.epoch == 1
        and node.core._state.own is not None
        and node.core._state.own.newest_view > 0
    ),
    "first block stored": lambda node: node.core.epoch == 1 and node.core.final_header.epoch == 1,
}


@contextmanager
def watched(
    node: Node, condition: Callable[[Node], Any], then: Callable[[], None]
) -> Iterator[None]:
    """Look at a node after each step of its core."""
    step = node.core.step

    def look(*arguments: Any, **options: Any) -> Any:
        effects = step(*arguments, **options)
        if condition(node):
            then()
        return effects

    node.core.step = look  # type: ignore[method-assign]
    yield


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("everybody", [False, True])
async def test_a_crash_in_any_phase_does_no_harm(
    world: World, plan: Plan, mock_clock: MockClock, phase: str, everybody: bool
) -> None:
    nodes = await world.start_armed()
    reached = trio.Event()
    with watched(nodes[2], PHASES[phase], reached.set):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_epochs, world, 9, nodes[0])
            with trio.fail_after(60):
                await reached.wait()
            for node in nodes if everybody else [nodes[2]]:
                await node.crash()
            nursery.cancel_scope.cancel()
    crashed = range(4) if everybody else [2]
    for index in crashed:
        nodes[index] = await world.start_node(f"peer{index}", index)
    await pass_epochs(world, 2, *nodes)
    await until(lambda: all(node.core.is_armed for node in nodes))
    world.hub.isolate("peer0")
    await world.grow(nodes[2], 3, others=[nodes[1], nodes[3]])
    world.agree()
    assert not any(node.halts for node in nodes)


@pytest.mark.parametrize("everybody", [False, True])
async def test_a_crash_before_the_snapshot_is_made_up_for(
    world: World, plan: Plan, mock_clock: MockClock, everybody: bool
) -> None:
    nodes = await world.start_armed()
    victims = nodes if everybody else nodes[2:3]
    waiting: list[Node] = []
    for node in victims:

        async def stuck(_epoch: int, node: Node = node) -> None:
            waiting.append(node)
            await trio.sleep_forever()

        node.state.epochs.decide = stuck  # type: ignore[method-assign, assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_epochs, world, 9, nodes[0])
        await until(lambda: len(waiting) == len(victims))
        for node in victims:
            cut = node.state.chain.epoch_cut(0)
            assert cut is not None
            assert cut.snapshot_root is None
            await node.crash()
        nursery.cancel_scope.cancel()
    for node in victims:
        assert node.index is not None
        nodes[node.index] = await world.start_node(node.name, node.index)
    await pass_epochs(world, 2, *nodes)
    world.agree()
    assert len({proofs_of(node, 1)[0].seal for node in nodes}) == 1


@pytest.mark.parametrize("wrong", ["root", "early", "none"])
async def test_a_leader_that_seals_wrongly_is_passed_over(
    world: World, plan: Plan, mock_clock: MockClock, wrong: str
) -> None:
    nodes = await world.start_armed()
    liar = nodes[1].core
    honest = liar._proposing.block_of
    lies = 0

    def lie(*arguments: Any) -> Block | None:
        nonlocal lies
        block = honest(*arguments)
        if block is None or liar.epoch > 0:
            return block
        seal = block.header.seal
        if seal is None:
            return block
        lies += 1
        changed = replace(seal, snapshot_root=bytes(32)) if wrong == "root" else None
        if wrong == "early":
            changed = replace(seal, cut_height=seal.cut_height - 1)
        return Block(replace(block.header, seal=changed), block.transaction_ids, block.votes_seen)

    liar._proposing.block_of = lie  # type: ignore[method-assign]
    await pass_epochs(world, 1, *nodes)
    world.agree()
    proof = proofs_of(nodes[0], 1)[0]
    assert proof.validators == plan.members(1)


async def test_false_proofs_cost_their_sender(
    world: World, plan: Plan, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    world.hub.isolate("peer3")
    await pass_epochs(world, 1, *nodes[:3])
    await until(lambda: nodes[0].state.chain.epoch_proof(0) is not None)
    (proof,) = proofs_of(nodes[0], 1)
    check_epoch_proof(proof, world.genesis.validator_set, world.genesis.hash)
    forged = [
        replace(proof, header=replace(proof.header, time_ms=proof.header.time_ms + 1)),
        replace(proof, certificate=replace(proof.certificate, signers=(0, 1, 3))),
        replace(proof, validators=plan.members(2)),
        replace(proof, fillers=(proof.header, *proof.fillers)),
    ]
    for false in forged:
        with pytest.raises(PeerFault):
            await nodes[3].consensus.inbox.receive("peer0", encode(msg.EpochMessage(false)))
        assert nodes[3].core.epoch == 0
    await nodes[3].consensus.inbox.receive("peer0", encode(msg.EpochMessage(proof)))


async def test_who_asks_of_old_epochs_is_answered_now_and_then(
    world: World, plan: Plan, mock_clock: MockClock
) -> None:
    nodes = await world.start_armed()
    await pass_epochs(world, 1, *nodes)
    await until(lambda: nodes[0].state.chain.epoch_proof(0) is not None)
    sent: list[str] = []
    world.hub.bend_frame = lambda sender, receiver, frame: (
        sent.append(receiver) or frame if b"\xa5epoch" in frame[:8] else frame
    )
    for _ in range(50):
        question = encode(msg.NeedMessage(1, 1, 0))
        await nodes[0].consensus.inbox.receive("peer3", question)
    await trio.sleep(0.5)
    assert 1 <= sent.count("peer3") <= 3


async def test_epochs_of_a_real_stake_turn(world: World, mock_clock: MockClock) -> None:
    genesis = make_genesis(
        staking=GenesisStaking(minimum="10"),
        epochs=EpochParams(epoch_ms=1_000, min_epoch_blocks=4),
        assets=(
            GenesisAsset(name="USDC", decimals=6),
            GenesisAsset(name="BTC", decimals=8),
            GenesisAsset(name="XOM", decimals=18),
        ),
    )
    world.use_genesis(genesis)
    nodes = await world.start_armed()
    await pass_epochs(world, 2, *nodes)
    await nodes[2].stop()
    nodes[2] = await world.start_node("peer2", 2)
    await pass_epochs(world, 4, *nodes)
    world.agree()
    assert {node.state.exchange.state.validator_set.epoch for node in nodes} == {
        nodes[0].core.epoch
    }


async def test_a_forged_late_vote_costs_its_leader(world: World, mock_clock: MockClock) -> None:
    nodes = await world.start_armed()
    kind: Any = msg.Message

    def bend(_sender: str, receiver: str, frame: bytes) -> bytes:
        if receiver != "peer3" or b"\xa8proposal" not in frame[:12]:
            return frame
        proposal = decode(frame, kind, size_max=len(frame)).proposal
        forged = [replace(late, signature=proposal.vote.signature) for late in proposal.late_votes]
        return encode(msg.ProposalMessage(replace(proposal, late_votes=tuple(forged))))

    world.hub.bend_frame = bend
    await world.grow(nodes[0], 8, others=nodes)
    assert {(receiver, reason) for receiver, _, reason in world.hub.faults} == {
        ("peer3", "bad_signature")
    }
    world.agree()
