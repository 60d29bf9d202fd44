"""A stored chain with a sealed epoch: real exchange, database, snapshot and signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omninode.consensus.epoch_proof import EpochProof
from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    Seal,
    ValidatorSet,
    VoteKind,
    body_root,
    genesis_header,
    vote_digest,
)
from omninode.crypto import ZERO_HASH, SigningKey, keccak256
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis
from omninode.dex.outcomes import block_input
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.journal import Journal
from omninode.storage.records import CommittedBlock
from omninode.storage.snapshot import Snapshots, snapshot_records

BLOCK_MS = 100


class SealedChain:
    """One node's chain, a block at a time. Every epoch keeps the validators of genesis."""

    def __init__(self, folder: Path, genesis: Genesis, keys: list[SigningKey]) -> None:
        self.genesis = genesis
        self.keys = keys
        self.validators = genesis.validator_set
        self.database = Database.open(folder / "chain")
        self.chain = ChainStore.open(
            self.database, Journal(self.database), genesis_hash=genesis.hash
        )
        self.snapshots = Snapshots(folder / "snapshots")
        self.exchange = Exchange.genesis(genesis)
        self.tip = genesis_header(
            genesis.hash,
            time_ms=genesis.genesis_time_ms,
            app_hash=self.exchange.app_hash,
            valset_hash=self.validators.hash,
        )

    async def begin(self) -> None:
        await self.chain.begin(self.tip, self.exchange.app_hash, self.exchange.records())

    async def grow(self, count: int, *transactions: Any) -> None:
        """Store blocks, the first of them with the transactions."""
        for number in range(count):
            await self._store(transactions if number == 0 else ())

    async def seal_epoch(self, *, blocks_between: int = 3, fillers: int = 0) -> EpochProof:
        """Make the tip the cut of its epoch, seal that, and go on with the next one."""
        cut = self.tip
        manifest = self.snapshots.make(cut.height, snapshot_records(self.database))
        await self.grow(blocks_between)
        epoch = self.validators.epoch + 1
        following = ValidatorSet(epoch, self.validators.validators, seed=cut.hash)
        seal = Seal(cut.height, following.hash, following.seed, ZERO_HASH, manifest.root)
        header = self._header((), seal=seal)
        headers = [header]
        for _ in range(fillers):
            headers.append(_child(headers[-1]))
        proof = EpochProof(header, tuple(headers[1:]), self._finalization(headers[-1]), following)
        await self._store((), header=header, proof=proof)
        self.validators = following
        return proof

    async def _store(
        self, transactions: Any, *, header: Header | None = None, proof: EpochProof | None = None
    ) -> None:
        ids = tuple(transaction.hash for transaction in transactions)
        header = header or self._header(ids)
        block = Block(header, ids)
        outcome = self.exchange.apply(block_input(block, transactions))
        raws = tuple(transaction.raw for transaction in transactions)
        certificate = self._finalization(header) if proof is None else proof.certificate
        await self.chain.commit(
            CommittedBlock(block, raws, certificate, outcome, epoch_proof=proof)
        )
        self.tip = header

    def _header(self, ids: tuple[bytes, ...], **fields: Any) -> Header:
        values = {name: getattr(self.tip, name) for name in self.tip.__struct_fields__}
        values |= {
            "epoch": self.validators.epoch,
            "valset_hash": self.validators.hash,
            "height": self.tip.height + 1,
            "view": self.tip.view + 1,
            "parent_hash": self.tip.hash,
            "parent_view": self.tip.view,
            "time_ms": self.tip.time_ms + BLOCK_MS,
            "body_root": body_root(ids),
            "executed_height": self.tip.height,
            "app_hash": self.exchange.app_hash,
            "seal": None,
        }
        return Header(**(values | fields))

    def _finalization(self, header: Header) -> Certificate:
        kind = VoteKind.FINALIZE
        digest = vote_digest(
            self.genesis.hash, kind, epoch=header.epoch, view=header.view, block_hash=header.hash
        )
        signatures = tuple(key.sign(digest) for key in self.keys)
        signers = tuple(range(len(self.keys)))
        return Certificate(kind, header.epoch, header.view, header.hash, signers, signatures)


def _child(parent: Header) -> Header:
    values = {name: getattr(parent, name) for name in parent.__struct_fields__}
    return Header(
        **values
        | {
            "view": parent.view + 1,
            "height": parent.height + 1,
            "parent_hash": parent.hash,
            "parent_view": parent.view,
            "time_ms": parent.time_ms + 1,
        }
    )


def validator_keys(count: int) -> list[SigningKey]:
    """Return the vote keys of `exchange_world.make_settled_genesis`."""
    return [SigningKey(keccak256(b"validator %d" % n)) for n in range(count)]
