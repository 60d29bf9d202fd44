"""Where epochs end on the disk: cuts, the roots of their snapshots, proofs, and runs that stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.exchange_world import make_settled_genesis
from tests.sealed_chain import SealedChain, validator_keys

from omninode.consensus.types import ValidatorSet
from omninode.crypto import keccak256
from omninode.dex.outcomes import BlockOutcome, EpochCut
from omninode.errors import BrokenInvariant
from omninode.storage.epochs import Epochs
from omninode.storage.snapshot import chunks_of, snapshot_records

GENESIS = make_settled_genesis()
FIRST = GENESIS.validator_set
NEXT = ValidatorSet(1, FIRST.validators, seed=keccak256(b"next"))


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[SealedChain]:
    made = SealedChain(tmp_path, GENESIS, validator_keys(4))
    await made.begin()
    yield made
    made.database.close()


def epochs_of(chain: SealedChain) -> Epochs:
    return Epochs(chain.database, chain.chain, chain.snapshots)


async def cut(chain: SealedChain) -> None:
    """Store one more block, which is a cut."""
    apply = chain.exchange.apply

    def cutting(block: object) -> BlockOutcome:
        outcome = apply(block)  # type: ignore[arg-type]
        return replace(outcome, cut=EpochCut(outcome.height, keccak256(b"root"), NEXT))

    chain.exchange.apply = cutting  # type: ignore[method-assign, assignment]
    await chain.grow(1)
    chain.exchange.apply = apply  # type: ignore[method-assign]


async def test_a_cut_is_decided_by_the_snapshot_right_after_it(chain: SealedChain) -> None:
    epochs = epochs_of(chain)
    await chain.grow(2)
    assert await epochs.decide(0) is None
    await cut(chain)
    assert epochs.following(0) is None, "not without its root"
    chunks = list(chunks_of(snapshot_records(chain.database)))
    decided = await epochs.decide(0)
    assert decided is not None
    manifest = chain.snapshots.manifest(3)
    assert manifest is not None
    assert [chain.snapshots.chunk(3, i) for i in range(len(manifest.chunks))] == chunks
    assert (decided.seal.cut_height, decided.seal.snapshot_root) == (3, manifest.root)
    assert (decided.seal.next_valset_hash, decided.seal.next_seed) == (NEXT.hash, NEXT.seed)
    assert decided.validators == NEXT
    await chain.grow(2)
    assert await epochs.decide(0) == epochs.following(0) == decided, "what is decided stays"


async def test_a_cut_that_was_overtaken_can_not_be_decided(chain: SealedChain) -> None:
    await cut(chain)
    await chain.grow(1)
    with pytest.raises(BrokenInvariant, match="no snapshot"):
        await epochs_of(chain).decide(0)


@pytest.mark.parametrize("fillers", [0, 2])
async def test_the_newest_proof_says_who_validates(chain: SealedChain, fillers: int) -> None:
    epochs = epochs_of(chain)
    assert epochs.reached(FIRST) == FIRST
    await chain.grow(2)
    assert epochs.reached(FIRST) == FIRST
    first = await chain.seal_epoch(fillers=fillers)
    assert epochs.reached(FIRST) == first.validators
    await chain.grow(2)
    assert epochs.reached(FIRST) == first.validators
    second = await chain.seal_epoch(fillers=fillers)
    assert epochs.reached(FIRST) == second.validators
    assert second.validators.epoch == 2


@pytest.mark.parametrize("fillers", [0, 2])
async def test_a_run_stops_at_the_end_of_its_epoch(chain: SealedChain, fillers: int) -> None:
    await chain.grow(2)
    proof = await chain.seal_epoch(fillers=fillers)
    await chain.grow(3)
    run = chain.chain.blocks_for_sync(1, count_max=100, bytes_max=1 << 20)
    assert run is not None
    assert run.blocks[-1].block.header == proof.header
    assert (run.certificate, run.fillers) == (proof.certificate, proof.fillers)
    following = chain.chain.blocks_for_sync(len(run.blocks) + 1, count_max=100, bytes_max=1 << 20)
    assert following is not None
    assert {stored.block.header.epoch for stored in following.blocks} == {1}
    assert following.fillers == ()


async def test_recent_blocks_are_of_one_epoch(chain: SealedChain) -> None:
    await chain.grow(3)
    await chain.seal_epoch()
    assert chain.chain.recent_blocks(1, count_max=8) == ()
    await chain.grow(3)
    recent = chain.chain.recent_blocks(1, count_max=8)
    assert [block.header.epoch for block in recent] == [1, 1, 1]
    assert recent[-1].header == chain.tip
    assert len(chain.chain.recent_blocks(1, count_max=2)) == 2
