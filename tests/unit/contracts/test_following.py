"""Endpoints compared block by block, with every reorganisation and lie that chance can think of."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest

from evm_chain import SimChain, deposited
from omninode.contracts.branch import (
    UNKNOWN_HASH,
    Anchor,
    AskHash,
    AskLogs,
    AskNumber,
    AskStretch,
    Branch,
)
from omninode.contracts.following import (
    Agreed,
    DeepReorganisation,
    Disagreement,
    Following,
    Waiting,
)
from omninode.contracts.limits import STRETCH_BLOCKS_MAX, TIP_BLOCKS
from omninode.contracts.wire import Log
from omninode.errors import Malformed

CONFIRMATIONS = 3
START = Anchor(-1, UNKNOWN_HASH)


class Vanished(Exception):
    """A block that was asked for is not on the chain any more; endpoints answer with an error."""


class World:
    """Endpoints that answer at once, each from a chain of its own or a shared one."""

    def __init__(self, *chains: SimChain, base: Anchor = START) -> None:
        self.chains = list(chains)
        self.following = Following(len(chains), base, CONFIRMATIONS)
        self.confirmed: list[Log] = []
        self.asked = 0
        for branch in self.following.branches:
            branch.is_away = False

    def poll(self, place: int, *, questions: int = 10_000) -> None:
        """Let one endpoint tell its head and answer questions."""
        branch, chain = self.following.branches[place], self.chains[place]
        branch.saw_head(chain.head)
        while questions and (question := branch.ask(self.following.wanted())) is not None:
            self._answer(question, branch, chain)
            questions -= 1
            self.asked += 1

    def _answer(self, question: object, branch: Branch, chain: SimChain) -> None:
        match question:
            case AskNumber(number):
                branch.saw_block(chain.blocks[number].header)
            case AskHash(block_hash):
                found = chain.find(block_hash)
                if found is None:
                    branch.drop_loose()
                else:
                    branch.saw_block(found.header)
            case AskLogs(number, block_hash):
                found = chain.find(block_hash)
                if found is None:
                    raise Vanished
                assert found.header.number == number
                branch.saw_logs(question, found.logs)
            case AskStretch(first, last):
                parent = chain.blocks[first - 1].header.hash if first else UNKNOWN_HASH
                last_hash = chain.blocks[last].header.hash
                logs = chain.logs(first, last)
                branch.saw_stretch(question, parent_hash=parent, last_hash=last_hash, logs=logs)

    def settle(self) -> object:
        while isinstance(verdict := self.following.decide(), Agreed):
            self.confirmed += verdict.stretch.logs
            self.following.advance(verdict.stretch)
        return verdict

    def poll_all(self) -> object:
        for place in range(len(self.chains)):
            self.poll(place)
        return self.settle()

    @property
    def base(self) -> Anchor:
        return self.following.base


def test_a_block_counts_once_enough_blocks_follow_it() -> None:
    chain = SimChain(length=1)
    world = World(chain)
    chain.extend(1, deposited(0))
    for _ in range(CONFIRMATIONS):
        world.poll_all()
        assert world.confirmed == []
        chain.extend()
    world.poll_all()
    assert world.base.number == chain.height - CONFIRMATIONS
    assert world.confirmed == list(chain.logs(0, chain.height))


def test_following_the_tip_asks_for_one_header_and_one_list_of_logs_a_block() -> None:
    chain = SimChain(length=30)
    world = World(chain, base=Anchor(26, chain.blocks[26].header.hash))
    world.poll_all()
    world.asked = 0
    for _ in range(50):
        chain.extend()
        world.poll_all()
    assert world.asked == 50  # the logs; the header came with the head
    assert world.base.number == chain.height - CONFIRMATIONS


def test_a_reorganisation_above_the_confirmations_leaves_no_trace() -> None:
    chain = SimChain(length=40)
    world = World(chain, base=Anchor(30, chain.blocks[30].header.hash))
    chain.extend(1, deposited(0))
    chain.extend()
    world.poll_all()
    chain.drop(2)
    chain.extend(1)
    chain.extend(1, deposited(0))
    chain.extend(CONFIRMATIONS)
    world.poll_all()
    assert world.confirmed == list(chain.logs(31, chain.height))
    assert len(world.confirmed) == 1
    assert not world.following.branches[0].contradicts


def test_a_reorganisation_at_the_confirmations_takes_back_what_was_not_confirmed() -> None:
    chain = SimChain(length=20)
    world = World(chain, base=Anchor(10, chain.blocks[10].header.hash))
    chain.extend(1, deposited(0))
    chain.extend(CONFIRMATIONS - 1)
    world.poll_all()
    assert world.confirmed == []
    chain.drop(CONFIRMATIONS)
    chain.extend(CONFIRMATIONS + 5)
    world.poll_all()
    assert world.confirmed == []
    assert world.base.number == chain.height - CONFIRMATIONS


def test_a_reorganisation_below_the_confirmations_is_told_and_stops() -> None:
    chain = SimChain(length=20)
    world = World(chain)
    world.poll_all()
    base = world.base
    chain.drop(CONFIRMATIONS + 2)
    chain.extend(CONFIRMATIONS + 10)
    assert world.poll_all() == DeepReorganisation(base)
    asked = world.asked
    assert world.poll_all() == DeepReorganisation(base)
    assert world.asked == asked  # the same head needs no second look
    chain.extend()
    assert world.poll_all() == DeepReorganisation(base)
    assert world.asked == asked  # nor does one on top of it
    assert world.base == base


def test_it_goes_on_when_the_confirmed_block_is_back() -> None:
    chain = SimChain(length=20)
    world = World(chain)
    world.poll_all()
    right = chain.copy()
    chain.drop(CONFIRMATIONS + 2)
    chain.extend(CONFIRMATIONS + 10)
    world.poll_all()
    right.extend(30)
    world.chains[0] = right
    assert isinstance(world.poll_all(), Waiting)
    assert world.base.number == right.height - CONFIRMATIONS


def test_one_of_two_endpoints_confirms_nothing() -> None:
    chain = SimChain(length=12)
    world = World(chain, chain)
    world.poll(0)
    assert isinstance(world.settle(), Waiting)
    assert world.base == START
    world.poll(1)
    world.settle()
    assert world.base.number == chain.height - CONFIRMATIONS


def test_two_endpoints_that_differ_confirm_nothing_until_they_agree() -> None:
    chain = SimChain(length=20)
    chain.extend(1, deposited(0))
    chain.extend(CONFIRMATIONS)
    liar = chain.copy()
    liar.blocks[20] = replace(liar.blocks[20], logs=())
    world = World(chain, liar, base=Anchor(15, chain.blocks[15].header.hash))
    verdict = world.poll_all()
    assert verdict == Disagreement(20, ((0,), (1,)))
    assert world.confirmed == []
    world.chains[1] = chain
    world.following.branches[1].doubt()
    assert isinstance(world.poll_all(), Waiting)
    assert world.confirmed == list(chain.logs(16, chain.height))


@pytest.mark.parametrize("liar_place", [0, 1, 2])
def test_the_majority_of_three_goes_on_and_the_third_is_named(liar_place: int) -> None:
    chain = SimChain(length=20)
    chain.extend(1, deposited(0))
    chain.extend(CONFIRMATIONS)
    liar = chain.copy()
    block = liar.blocks[20]
    lie = msgspec.structs.replace(block.logs[0], data=b"\xff" * 96)
    liar.blocks[20] = replace(block, logs=(lie,))
    chains = [chain, chain, chain]
    chains[liar_place] = liar
    world = World(*chains, base=Anchor(19, chain.blocks[19].header.hash))
    for place in range(3):
        world.poll(place)
    verdict = world.following.decide()
    assert isinstance(verdict, Agreed)
    assert verdict.outvoted == (liar_place,)
    assert verdict.stretch.logs == chain.logs(20, 20)


def test_a_missing_endpoint_is_not_a_different_one() -> None:
    chain = SimChain(length=20)
    world = World(chain, chain, chain)
    world.poll(0)
    world.following.branches[1].is_away = world.following.branches[2].is_away = True
    assert isinstance(world.settle(), Waiting)


def test_endpoints_that_have_not_told_yet_may_still_agree() -> None:
    chain, other = SimChain("one", length=12), SimChain("two", length=12)
    world = World(chain, other, chain)
    world.poll(0)
    world.poll(1)
    assert isinstance(world.following.decide(), Waiting)
    world.poll(2)
    assert isinstance(world.following.decide(), Agreed)


def test_a_long_way_is_gone_in_stretches_that_endpoints_agree_on() -> None:
    chain = SimChain(length=1)
    for index in range(30):
        chain.extend(100, deposited(index))
    shorter = chain.copy()
    shorter.drop(5)
    world = World(chain, shorter)
    for _ in range(10):
        world.poll_all()
    assert world.base.number == shorter.height - CONFIRMATIONS
    assert world.confirmed == list(chain.logs(0, world.base.number))
    stretches = 2 * -(-chain.height // STRETCH_BLOCKS_MAX)
    assert world.asked <= stretches + 2 * 2 * (CONFIRMATIONS + 2 * TIP_BLOCKS) + 20


def test_an_endpoint_far_ahead_of_the_others_still_agrees_with_them() -> None:
    chain = SimChain(length=2_000)
    behind = chain.copy()
    behind.drop(1_950)
    world = World(chain, behind)
    for _ in range(10):
        world.poll_all()
    assert world.base.number == behind.height - CONFIRMATIONS
    behind.blocks = list(chain.blocks)
    for _ in range(10):
        world.poll_all()
    assert world.base.number == chain.height - CONFIRMATIONS


def test_an_endpoint_on_another_chain_contradicts_a_stretch_too() -> None:
    chain, other = SimChain("one", length=3_000), SimChain("two", length=3_000)
    base = Anchor(10, chain.blocks[10].header.hash)
    world = World(chain, other, base=base)
    world.poll_all()
    assert world.poll_all() == Disagreement(11, ((0,), (1,)))
    world = World(other, other, base=base)
    assert world.poll_all() == DeepReorganisation(base)


def test_a_base_above_the_head_is_waited_for() -> None:
    chain = SimChain(length=5)
    world = World(chain, base=Anchor(99, UNKNOWN_HASH))
    assert isinstance(world.poll_all(), Waiting)
    chain.extend(120)
    world.poll_all()
    assert world.base.number == chain.height - CONFIRMATIONS


def test_a_block_that_is_not_the_asked_parent_is_refused() -> None:
    chain = SimChain(length=20)
    branch = Branch(Anchor(10, chain.blocks[10].header.hash), CONFIRMATIONS)
    branch.saw_head(chain.head)
    assert isinstance(branch.ask(None), AskHash)
    with pytest.raises(Malformed):
        branch.saw_block(chain.blocks[17].header)


def test_logs_of_another_block_are_refused() -> None:
    chain = SimChain(length=20)
    chain.extend(1, deposited(0))
    branch = Branch(Anchor(19, chain.blocks[19].header.hash), CONFIRMATIONS)
    branch.saw_head(chain.head)
    question = branch.ask(None)
    assert isinstance(question, AskLogs)
    (log,) = chain.blocks[20].logs
    with pytest.raises(Malformed):
        branch.saw_logs(question, (msgspec.structs.replace(log, block_hash=b"\1" * 32),))


def test_whatever_the_chain_does_above_the_confirmations_the_confirmed_log_is_the_chains(
    seed: int,
) -> None:
    """Reorganise at random, poll at random, answer partly: nothing false is ever confirmed."""
    for run in range(20):
        chance = random.Random(f"{seed} {run}")
        chain = SimChain(length=chance.randrange(1, 60))
        places = chance.choice([1, 2, 3, 4])
        world = World(*[chain] * places)
        index = 0
        for _ in range(200):
            match chance.randrange(4):
                case 0:
                    depth = min(chance.randrange(1, CONFIRMATIONS + 1), chain.height)
                    # As deep as can be without touching what is confirmed.
                    if chain.height - depth >= world.base.number:
                        chain.drop(depth)
                        chain.extend(depth + chance.randrange(1, 3))
                case 1:
                    told = [deposited(0)] if chance.random() < 0.5 else []
                    chain.extend(chance.choice([1, 1, 2, 30]), *told)
                    index += 1
                case _:
                    # A block that vanished ends a poll, and the next one has a new head.
                    with suppress(Vanished):
                        world.poll(chance.randrange(places), questions=chance.randrange(12))
                    verdict = world.settle()
                    assert isinstance(verdict, Waiting), (seed, run)
            number = world.base.number
            assert world.confirmed == list(chain.logs(0, number)), (seed, run)
        for _ in range(6):
            world.poll_all()
        assert world.base.number >= chain.height - CONFIRMATIONS - TIP_BLOCKS - 1, (seed, run)
        assert world.confirmed == list(chain.logs(0, world.base.number)), (seed, run)
