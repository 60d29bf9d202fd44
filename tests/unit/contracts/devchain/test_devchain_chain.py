"""Blocks, state and reorganisations, against the disk and against what Ethereum says."""

from __future__ import annotations

from typing import Any

import pytest
from devchain_bench import ALICE, BOB, COINS, GWEI, NOW_S, Bench, address_of, signed
from eth.vm.forks.prague.computation import PragueComputation

from omninode.contracts.devchain import build
from omninode.contracts.devchain.chain import Chain, Genesis
from omninode.contracts.devchain.evm import OutOfTime
from omninode.contracts.devchain.transactions import decode_transaction
from omninode.errors import ConfigError, StorageFault

SINK = bytes.fromhex("77" * 20)
ENDLESS = "0x5b600056"


def test_a_block_pays_fees_and_moves_coins(bench: Bench) -> None:
    block = bench.run(signed(ALICE, 0, value=5))
    base_fee = 875_000_000
    assert block.base_fee == base_fee
    assert bench.chain.balance(SINK) == 5
    assert bench.chain.balance(address_of(ALICE)) == COINS - 5 - 21_000 * (base_fee + GWEI)
    assert bench.chain.balance(bytes(20)) == 21_000 * GWEI
    assert bench.chain.nonce(address_of(ALICE)) == 1
    assert block.header.gas_used == block.records[0].cumulative_gas == 21_000


def test_an_empty_block_changes_no_state_and_differs_all_the_same(bench: Bench) -> None:
    one, two = bench.mine().head, bench.mine().head
    assert (
        one.header.state_root == two.header.state_root == bench.chain.block_at(0).header.state_root
    )  # type: ignore[union-attr]
    assert one.header.mix_hash != two.header.mix_hash
    assert two.header.parent_hash == one.hash


def test_time_never_goes_back(bench: Bench) -> None:
    stamps = [bench.mine(now).head.header.timestamp for now in (NOW_S, NOW_S, NOW_S - 9, NOW_S + 1)]
    assert stamps == [NOW_S, NOW_S, NOW_S, NOW_S + 1]


def test_what_does_not_fit_waits_and_holds_up_its_account_alone(bench: Bench) -> None:
    big = signed(ALICE, 0, gas=990_000, maxPriorityFeePerGas=2 * GWEI)
    small = [signed(BOB, nonce) for nonce in range(2)]
    greedy = signed(BOB, 2, gas=990_000)
    block = bench.run(greedy, *small, big)
    # What is left of the block is counted in gas used, not in gas asked for.
    assert [item.hash for item in block.transactions] == [big.hash, small[0].hash, small[1].hash]
    assert [item.hash for item in bench.mine().head.transactions] == [greedy.hash]


def test_funds_spent_meanwhile_make_a_transaction_wait(bench: Bench) -> None:
    everything = COINS - 21_000 * 10 * GWEI * 2 - 10
    bench.take(signed(ALICE, 0, value=everything), signed(ALICE, 1, value=5))
    block = bench.chain.extend(
        [signed(ALICE, 0, value=COINS - 21_000 * 10 * GWEI), signed(ALICE, 1, value=COINS // 2)],
        [],
        timestamp=NOW_S,
    ).head
    assert len(block.transactions) == 1


def test_everything_is_on_the_disk(bench: Bench) -> None:
    block = bench.run(signed(ALICE, 0), signed(BOB, 0))
    waiting = [signed(ALICE, 3), signed(BOB, 1)]
    bench.take(*waiting)
    bench.reopen()
    chain = bench.chain
    assert chain.head.hash == block.hash
    assert {item.hash for item in chain.pool} == {item.hash for item in waiting}
    found = chain.find(block.transactions[1].hash)
    assert found is not None
    assert (found[0].hash, found[1]) == (block.hash, 1)
    assert found[0].records == block.records
    bench.take(signed(ALICE, 1))
    assert [item.sender for item in bench.mine().head.transactions] == [
        address_of(BOB),
        address_of(ALICE),
    ]


def test_a_transaction_that_takes_too_long_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "TRANSACTION_TIME_S", 0.05)
    endless = signed(ALICE, 0, to=None, data=ENDLESS, gas=900_000)
    others = [signed(BOB, 0), signed(ALICE, 1)]
    bench.take(endless, *others)
    step = bench.mine()
    assert [item.hash for item in step.hopeless] == [endless.hash]
    assert [item.hash for item in step.head.transactions] == [others[0].hash]
    assert {item.hash for item in bench.chain.pool} == {others[1].hash}
    bench.reopen()
    assert {item.hash for item in bench.chain.pool} == {others[1].hash}
    assert bench.chain.balance(SINK) == 1


@pytest.mark.parametrize("failure", [OutOfTime(), ValueError("a defect"), RecursionError()])
def test_a_transaction_that_breaks_the_evm_does_not_stop_the_chain(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    creation = signed(ALICE, 0, to=None, data="0x00", gas=100_000)
    bench.take(creation, signed(BOB, 0))
    with monkeypatch.context() as patch:
        patch.setattr(PragueComputation, "apply_create_message", fail)
        step = bench.mine()
    assert [item.hash for item in step.hopeless] == [creation.hash]
    assert len(step.head.transactions) == 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_reorganisation_replaces_blocks(bench: Bench, keep: bool) -> None:
    bench.run(signed(BOB, 0))
    old = [bench.run(signed(ALICE, nonce)) for nonce in range(3)]
    later = signed(ALICE, 3)
    bench.take(later)
    bench.chain.adopt(bench.chain.reorganise(2, keep=keep, timestamp=NOW_S))
    for _ in range(2):
        chain = bench.chain
        assert chain.head.number == 4
        assert chain.hash_at(2) == old[0].hash
        for block in old[1:]:
            assert chain.hash_at(block.number) != block.hash
            kept = chain.block(block.hash)
            assert kept is not None
            assert kept.records == block.records
            assert (chain.find(block.transactions[0].hash) is not None) == keep
        assert chain.nonce(address_of(ALICE)) == (3 if keep else 1)
        assert {item.hash for item in chain.pool} == {later.hash}
        bench.reopen()
    count = len(bench.mine().head.transactions)
    assert count == (1 if keep else 0)


def test_what_the_first_new_block_can_not_take_goes_into_the_next(bench: Bench) -> None:
    blocks = [bench.run(signed(ALICE, nonce, gas=900_000)) for nonce in range(2)]
    big = [
        signed(BOB, nonce, to=None, data="0x60015b620186a05a1015600357", gas=980_000)
        for nonce in range(2)
    ]
    blocks.extend(bench.run(item) for item in big)
    assert all(block.header.gas_used > 800_000 for block in blocks[2:])
    bench.mine()
    step = bench.chain.reorganise(4, keep=True, timestamp=NOW_S)
    assert not step.requeued
    bench.chain.adopt(step)
    assert bench.chain.nonce(address_of(BOB)) == 2
    assert bench.chain.nonce(address_of(ALICE)) == 2


def test_the_first_block_is_checked(bench: Bench) -> None:
    genesis = bench.genesis
    Chain.open(bench.store, Genesis(31337, 1_000_000, None))
    for wrong in (
        Genesis(1, 1_000_000, genesis.alloc),
        Genesis(31337, 2_000_000, genesis.alloc),
        Genesis(31337, 1_000_000, {}),
    ):
        with pytest.raises(ConfigError, match="began with another"):
            Chain.open(bench.store, wrong)


def test_damage_is_noticed(bench: Bench) -> None:
    block = bench.mine().head
    bench.store.write({b"b" + block.hash: b"\xc1\x00"})
    with pytest.raises(StorageFault, match="damaged"):
        bench.reopen()
    bench.store.write({b"b" + block.hash: None})
    with pytest.raises(StorageFault, match="damaged"):
        bench.reopen()


def test_the_journal_is_read_back_as_it_was_written(bench: Bench) -> None:
    item = signed(
        ALICE, 7, accessList=[{"address": "0x" + "55" * 20, "storageKeys": []}], gas=60_000
    )
    bench.take(item)
    bench.reopen()
    found = bench.chain.pool.get(item.hash)
    assert found is not None
    assert (found.raw, found.sender) == (item.raw, address_of(ALICE))
    assert decode_transaction(item.raw, b"\1" * 20).sender == b"\1" * 20
