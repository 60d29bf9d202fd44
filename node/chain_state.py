"""Opens what is on disk: database, journal, chain, and the exchange as of the newest stored block.

A fresh home begins with the state of genesis, in one batch. Reading 100,000 resting orders takes a
few seconds, so it runs before the node listens to anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from omninode.consensus.chain import FinalizedTip
from omninode.consensus.types import (
    VOTES_SEEN_MAX,
    Header,
    NextEpoch,
    ValidatorSet,
    genesis_header,
)
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis
from omninode.errors import BrokenInvariant, StorageFault
from omninode.node.home import Home
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.epochs import Epochs
from omninode.storage.journal import Journal
from omninode.storage.snapshot import Snapshots


@dataclass(frozen=True, slots=True)
class ChainState:
    """The parts that live on one open database.

    `validators` are those of the epoch that the stored chain has reached, `following` what its cut
    decided if it is stored.
    """

    database: Database
    journal: Journal
    chain: ChainStore
    exchange: Exchange
    genesis: Header
    epochs: Epochs
    validators: ValidatorSet
    following: NextEpoch | None

    @classmethod
    async def open(cls, home: Home, genesis: Genesis) -> Self:
        """Open a home's database; make it begin with genesis if it is empty.

        Raises:
            ConfigError: The database belongs to another network or version.
            StorageFault: The disk fails, a record is damaged, or the state contradicts itself.
        """
        home.data.mkdir(parents=True, exist_ok=True)
        database = Database.open(home.database)
        try:
            journal = Journal(database)
            chain = ChainStore.open(database, journal, genesis_hash=genesis.hash)
            first = Exchange.genesis(genesis)
            header = genesis_header(
                genesis.hash,
                time_ms=genesis.genesis_time_ms,
                app_hash=first.app_hash,
                valset_hash=genesis.validator_set.hash,
            )
            exchange = await _exchange(chain, genesis, first, header)
            epochs = Epochs(database, chain, Snapshots(home.snapshots))
            validators = epochs.reached(genesis.validator_set)
            following = await epochs.decide(validators.epoch)
        except BaseException:
            database.close()
            raise
        return cls(database, journal, chain, exchange, header, epochs, validators, following)

    def finalized_tip(self) -> FinalizedTip | None:
        """Return where consensus begins: the newest stored block, or nothing at genesis."""
        head = self.chain.head()
        if head is None or head.height == 0:
            return None
        hashes = self.chain.app_hashes(head.header.executed_height)
        hashes[self.exchange.height] = self.exchange.app_hash
        if head.header.executed_height == 0:
            hashes[0] = self.genesis.app_hash
        recent = self.chain.recent_blocks(self.validators.epoch, count_max=VOTES_SEEN_MAX)
        return FinalizedTip(head.header, head.certificate, tuple(sorted(hashes.items())), recent)


async def _exchange(
    chain: ChainStore, genesis: Genesis, first: Exchange, header: Header
) -> Exchange:
    head = chain.head()
    if head is None:
        await chain.begin(header, first.app_hash, first.records())
        return first
    if head.height == 0:
        return first
    try:
        exchange = Exchange.load(genesis, chain.state_records())
    except BrokenInvariant as error:
        raise _damaged(str(error)) from error
    if (exchange.height, exchange.app_hash) != (head.height, head.app_hash):
        raise _damaged(f"it is of height {exchange.height}, the chain of height {head.height}")
    return exchange


def _damaged(what: str) -> StorageFault:
    return StorageFault(
        f"the stored state is damaged: {what}. Check the disk, then `omninode reset` and let the "
        "node sync again"
    )
