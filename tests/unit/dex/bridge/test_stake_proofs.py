"""Slashed stakes are proven by every checkpoint that follows, until the contract could know."""

from __future__ import annotations

from exchange_world import ALICE, BOB, World, make_settled_genesis
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.evm import STAKE_SUBACCOUNT, state_leaf
from omninode.dex.bridge.limits import OWNERS_DUE_MAX, PROVABLE_CHECKPOINTS
from omninode.dex.bridge.merkle import DenseTree, root_of, verify
from omninode.dex.bridge.stake_proofs import StakeLeaf, StakeProofs
from omninode.dex.events import CheckpointMade


def checkpoint(number: int) -> Checkpoint:
    root = bytes(32)
    return Checkpoint(number, 0, number, number, root, root, 0, root, 0, root)


def leaf_of(owner: bytes) -> StakeLeaf:
    return StakeLeaf(owner[0], 5, ())


def made(world: World) -> Checkpoint:
    while not world.of_type(CheckpointMade):
        world.apply()
    (event,) = world.of_type(CheckpointMade)
    found: Checkpoint = event.checkpoint
    return found


def test_any_leaf_of_any_tree_is_proven() -> None:
    for count in range(1, 20):
        leaves = [bytes([n + 1]) * 32 for n in range(count)]
        tree = DenseTree(leaves)
        assert tree.root() == root_of(leaves)
        for place, leaf in enumerate(leaves):
            assert verify(leaf, tree.proof(place), tree.root())


def test_each_checkpoint_proves_what_the_owner_has_then() -> None:
    world = World(make_settled_genesis())
    state = world.exchange.state
    xom = state.genesis.asset_index["XOM"]
    stake = state.accounts.account(ALICE, STAKE_SUBACCOUNT).balance(xom)
    payer = state.accounts.account(BOB, 0).balance(xom)
    state.accounts.debit(payer, 900)
    state.accounts.credit(stake, 900)
    state.bridge.require_proof(ALICE)
    for amount in (900, 400):
        found = made(world)
        (proof,) = state.bridge.stake_proofs.of(found.number)
        assert (proof.checkpoint, proof.owner, proof.due_from) == (found, ALICE, 1)
        assert proof.leaf.amount == amount
        token = state.genesis.stake_token
        assert token is not None
        leaf = state_leaf(proof.leaf.place, ALICE, STAKE_SUBACCOUNT, token, amount)
        assert verify(leaf, proof.leaf.siblings, found.state_root)
        assert dict(world.exchange.records()) == world.database
        assert world.reload().state.bridge.stake_proofs.due == {ALICE: 1}
        state.accounts.debit(stake, amount)
        state.accounts.credit(payer, amount)
        state.accounts.debit(payer, 400)
        state.accounts.credit(stake, 400)
        world.apply()


def test_it_ends_when_the_contract_has_forgotten() -> None:
    proofs = StakeProofs()
    proofs.require(ALICE, 3)
    proofs.make(checkpoint(2), leaf_of)
    assert proofs.of(2) == ()
    for number in range(3, 3 + PROVABLE_CHECKPOINTS):
        proofs.make(checkpoint(number), leaf_of)
        assert len(proofs.of(number)) == 1
    proofs.clear()
    proofs.make(checkpoint(3 + PROVABLE_CHECKPOINTS), leaf_of)
    assert (proofs.due, proofs.changed) == ({}, {ALICE})
    assert proofs.of(3) == ()
    assert proofs.of(4) != ()


def test_one_slashed_again_is_due_anew_and_the_oldest_gives_way() -> None:
    proofs = StakeProofs()
    owners = [n.to_bytes(20, "big") for n in range(1, OWNERS_DUE_MAX + 2)]
    for place, owner in enumerate(owners):
        proofs.require(owner, 1 + place // 2)
    assert list(proofs.due) == owners[1:]
    proofs.require(owners[1], 99)
    assert proofs.due[owners[1]] == 99
    assert len(proofs.due) == OWNERS_DUE_MAX


def test_who_has_no_leaf_is_not_proven() -> None:
    proofs = StakeProofs()
    proofs.require(ALICE, 1)
    proofs.make(checkpoint(1), lambda _: None)
    assert proofs.of(1) == ()
