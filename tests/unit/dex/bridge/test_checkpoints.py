"""Checkpoints: when they are made, over what, and whose signatures certify them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from exchange_world import (
    ALICE,
    BOB,
    CHECKPOINT_MS,
    CONTRACT,
    DAVE,
    START_MS,
    VALIDATORS,
    Log,
    World,
    deposit,
    make_settled_genesis,
    order,
)
from omninode.crypto import GROUP_ORDER, keccak256
from omninode.dex.actions import SignCheckpoint, Transfer, Withdraw
from omninode.dex.bridge.balance_tree import NO_LEAF
from omninode.dex.bridge.checkpoints import Checkpoint, Checkpoints
from omninode.dex.bridge.evm import (
    SettlementDomain,
    checkpoint_digest,
    fee_leaf,
    state_leaf,
)
from omninode.dex.bridge.limits import PENDING_CHECKPOINTS_MAX
from omninode.dex.bridge.merkle import EMPTY_ROOT, root_of
from omninode.dex.events import CheckpointCertified, CheckpointMade
from omninode.dex.fees import VALIDATOR_POOL

STRANGERS = [keccak256(b"stranger %d" % n)[-20:] for n in range(4)]


def settled(powers: Sequence[int] = (1, 1, 1, 1)) -> World:
    return World(make_settled_genesis(powers))


def checkpoints(world: World) -> Checkpoints:
    return world.exchange.state.bridge.checkpoints


def made(world: World) -> Checkpoint:
    (event,) = world.of_type(CheckpointMade)
    checkpoint: Checkpoint = event.checkpoint
    return checkpoint


def state_root_by_the_book(world: World) -> bytes:
    """Hash every leaf anew from the balances."""
    leaves: dict[int, bytes] = {}
    for owner in world.exchange.state.accounts.owners.values():
        for account in owner.subaccounts.values():
            for asset, balance in account.balances.items():
                if balance.leaf != NO_LEAF:
                    leaves[balance.leaf] = state_leaf(
                        balance.leaf,
                        owner.address,
                        account.subaccount,
                        world.exchange.state.bridge.tokens[asset],
                        balance.free + balance.held,
                    )
    return root_of([leaves[index] for index in range(len(leaves))])


def test_the_first_block_after_the_interval_makes_one() -> None:
    world = settled()
    numbers = []
    for after_ms in (999, 1, 999, 2, 998, 5_000, 999, 1):
        world.apply(after_ms=after_ms)
        numbers += [(e.checkpoint.number, world.now_ms) for e in world.of_type(CheckpointMade)]
    expected = [1_000, 2_001, 2_999 + 5_000, 2_999 + 6_000]
    assert numbers == [(n, START_MS + ms) for n, ms in enumerate(expected, 1)]
    assert list(checkpoints(world).pending) == [1, 2, 3, 4]


def test_it_is_over_the_state_after_its_block() -> None:
    world = settled()
    log = Log(world.exchange.rules.hash, [deposit(ALICE, 77)])
    world.place(ALICE, "sell", "1", "1000")
    world.apply(
        *(world.attest(n, log.attestation(0)) for n in range(3)),
        world.transaction(BOB, order("buy", "0.5", "1000")),
        after_ms=CHECKPOINT_MS,
    )
    checkpoint = made(world)
    tokens = world.exchange.state.bridge.tokens
    fees = [world.balance(VALIDATOR_POOL, asset)[0] for asset in ("USDC", "BTC", "ETH", "XOM")]
    assert fees[0] > 0
    assert checkpoint == Checkpoint(
        number=1,
        epoch=0,
        height=2,
        time_ms=world.now_ms,
        state_root=state_root_by_the_book(world),
        withdrawal_root=EMPTY_ROOT,
        withdrawal_count=0,
        fee_root=root_of(fee_leaf(n, VALIDATOR_POOL, tokens[n], fee) for n, fee in enumerate(fees)),
        deposit_count=1,
        deposit_hash=log.hashes[1],
    )
    assert tokens[2] == bytes(20), "ETH has no token"


def test_held_funds_are_in_the_leaf_and_leaves_keep_their_index() -> None:
    world = settled()
    world.apply(after_ms=CHECKPOINT_MS)
    first = made(world).state_root
    world.place(ALICE, "sell", "1", "1000")
    world.apply(after_ms=CHECKPOINT_MS)
    assert made(world).state_root == first, "to hold is not to spend"
    leaf = world.exchange.state.accounts.account(ALICE, 0).balance(0).leaf
    world.withdraw(ALICE, "1000000")
    world.apply(after_ms=CHECKPOINT_MS)
    assert made(world).state_root == state_root_by_the_book(world) != first
    world.transfer(BOB, ALICE, "1")
    world.transfer(BOB, DAVE, "1")
    world.apply(after_ms=CHECKPOINT_MS)
    assert made(world).state_root == state_root_by_the_book(world)
    assert world.exchange.state.accounts.account(ALICE, 0).balance(0).leaf == leaf
    assert world.exchange.state.accounts.account(DAVE, 0).balance(0).leaf == 12


def test_leaves_are_given_in_the_order_of_record_keys_and_not_to_what_is_empty() -> None:
    world = settled()
    world.transfer(ALICE, DAVE, "1")
    world.transfer(DAVE, ALICE, "1")
    world.apply(after_ms=CHECKPOINT_MS)
    balances = [
        balance
        for owner in world.exchange.state.accounts.owners.values()
        for account in owner.subaccounts.values()
        for balance in account.balances.values()
    ]
    given = sorted((b for b in balances if b.leaf != NO_LEAF), key=lambda b: b.leaf)
    assert [b.key for b in given] == sorted(b.key for b in balances if b.free + b.held)
    assert len(given) == 12


@pytest.mark.parametrize("restart_after", range(6))
def test_a_restart_at_any_block_gives_the_same_roots(restart_after: int) -> None:
    def run(restart_at: int | None) -> list[tuple[bytes, bytes]]:
        world = settled()
        seen = []
        for number in range(8):
            world.apply(
                world.transaction(ALICE, Transfer(0, STRANGERS[number // 2], 0, "USDC", "1")),
                world.transaction(BOB, Withdraw(0, "BTC", "0.25", BOB)),
                after_ms=600,
            )
            seen += [
                (e.checkpoint.state_root, e.checkpoint.withdrawal_root)
                for e in world.of_type(CheckpointMade)
            ]
            seen.append((world.exchange.app_hash, b""))
            if number == restart_at:
                world.exchange = world.reload()
                assert dict(world.exchange.records()) == world.database
        return seen

    assert run(restart_after) == run(None)


def test_more_than_two_thirds_certify_and_no_signature_comes_after() -> None:
    world = settled()
    world.apply(after_ms=CHECKPOINT_MS)
    checkpoint = made(world)
    outcome = world.apply(*(world.sign(n, 1) for n in (3, 0, 2, 1)))
    reasons = [result.reason for result in outcome.results]
    assert reasons.count("") == 3
    assert reasons.count("checkpoint_closed") == 1, "the fourth came after"
    certified = checkpoints(world).certified
    assert certified is not None
    assert [e.certified for e in world.of_type(CheckpointCertified)] == [certified]
    assert certified.checkpoint == checkpoint
    assert len(certified.signatures) == 3
    signed = [index for index, _ in certified.signatures]
    assert signed == sorted(signed)
    digest = checkpoint_digest(checkpoint, world.exchange.state.bridge.domain)
    assert all(s == VALIDATORS[n].sign(digest) for n, s in certified.signatures)
    assert not checkpoints(world).pending
    assert dict(world.reload().records()) == world.database


@pytest.mark.parametrize(
    ("powers", "order_of_signing", "needed"),
    [
        ((1, 1, 1), (0, 1, 2), 3),
        ((4, 3, 3, 2), (3, 0, 2), 3),
        ((3, 3, 3, 1), (3, 0, 1), 3),
        ((3, 3, 3), (2, 0, 1), 3),
        ((7, 1, 1, 1), (1, 2, 0), 3),
        ((7, 1, 1, 1), (0,), 1),
    ],
)
def test_power_counts_and_not_heads(
    powers: tuple[int, ...], order_of_signing: tuple[int, ...], needed: int
) -> None:
    world = settled(powers)
    world.apply(after_ms=CHECKPOINT_MS)
    for count, validator in enumerate(order_of_signing, 1):
        assert world.apply(world.sign(validator, 1)).results[0].code == "ok"
        assert (checkpoints(world).certified is not None) == (count >= needed)


def test_wrong_signatures_are_refused() -> None:
    world = settled()
    world.apply(after_ms=CHECKPOINT_MS)
    bridge = world.exchange.state.bridge
    checkpoint = bridge.checkpoints.pending[1].checkpoint
    key = VALIDATORS[0]
    right = key.sign(bridge.checkpoints.pending[1].digest)
    high_s = (GROUP_ORDER - int.from_bytes(right[32:64], "big")).to_bytes(32, "big")
    domain = bridge.domain
    elsewhere = [
        SettlementDomain(1, CONTRACT, domain.genesis_hash),
        SettlementDomain(domain.chain_id, bytes(20), domain.genesis_hash),
        SettlementDomain(domain.chain_id, CONTRACT, bytes(32)),
    ]
    wrong = [
        bytes(65),
        right[:64] + bytes((right[64] ^ 7,)),
        right[:32] + high_s + bytes((55 - right[64],)),
        VALIDATORS[1].sign(bridge.checkpoints.pending[1].digest),
        key.sign(keccak256(b"something else")),
        *(key.sign(checkpoint_digest(checkpoint, other)) for other in elsewhere),
        key.sign(checkpoint_digest(msgspec.structs.replace(checkpoint, epoch=1), domain)),
    ]
    for signature in wrong:
        assert world.do(key.address, SignCheckpoint(1, signature)).reason == "bad_signature"
    assert world.do(key.address, SignCheckpoint(1, right)).code == "ok"
    assert world.do(key.address, SignCheckpoint(1, right)).reason == "already_signed"
    assert world.do(key.address, SignCheckpoint(99, right)).reason == "checkpoint_closed"
    assert world.do(ALICE, SignCheckpoint(1, right)).reason == "not_authorised"


def test_a_newer_certified_checkpoint_closes_the_older_ones() -> None:
    world = settled()
    for _ in range(3):
        world.apply(after_ms=CHECKPOINT_MS)
    world.apply(world.sign(0, 1), *(world.sign(n, 2) for n in range(3)))
    assert list(checkpoints(world).pending) == [3]
    late = SignCheckpoint(1, bytes(65))
    assert world.do(VALIDATORS[0].address, late).reason == "checkpoint_closed"
    assert dict(world.reload().records()) == world.database
    world.apply(*(world.sign(n, 3) for n in range(1, 4)))
    certified = checkpoints(world).certified
    assert certified is not None
    assert certified.checkpoint.number == 3


def test_unsigned_checkpoints_are_bounded() -> None:
    world = settled()
    for _ in range(PENDING_CHECKPOINTS_MAX + 3):
        world.apply(after_ms=CHECKPOINT_MS)
    assert len(checkpoints(world).pending) == PENDING_CHECKPOINTS_MAX
    assert min(checkpoints(world).pending) == 4
    assert sum(key[:2] == b"bk" for key in world.database) == PENDING_CHECKPOINTS_MAX
    assert dict(world.reload().records()) == world.database


def test_an_epoch_that_changes_no_power_is_none_to_checkpoints() -> None:
    world = settled()
    world.apply(after_ms=CHECKPOINT_MS)
    state = world.exchange.state
    state.validator_set = msgspec.structs.replace(state.validator_set, epoch=1)
    assert world.apply(world.sign(0, 1)).results[0].code == "ok"
    world.apply(after_ms=CHECKPOINT_MS)
    assert made(world).epoch == 0


def test_networks_without_settlement_make_none() -> None:
    world = World()
    world.apply(after_ms=10**7)
    assert world.of_type(CheckpointMade) == []
    validator = world.exchange.state.validator_set.validators[0].address
    assert world.do(validator, SignCheckpoint(1, bytes(65))).reason == "no_settlement"
