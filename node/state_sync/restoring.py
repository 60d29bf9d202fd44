"""Makes a copied snapshot the chain of this node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from omninode.consensus.epoch_proof import EpochProof
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis
from omninode.errors import BrokenInvariant, StorageFault
from omninode.node.state_sync.fetching import Offer
from omninode.storage import keys
from omninode.storage.chain import restored_entries
from omninode.storage.database import Database
from omninode.storage.records import StoredCut, StoredHead
from omninode.storage.snapshot import Snapshots, restore


def restore_chain(
    target: Path,
    offer: Offer,
    proofs: Sequence[EpochProof],
    *,
    genesis: Genesis,
    snapshots: Snapshots,
    progress: Callable[[int], object] = lambda _: None,
) -> StoredHead:
    """Put a database in the place of `target` that begins after the snapshot; blocks on the disk.

    The state is loaded once, so that one which contradicts itself never gets there.

    Args:
        target: The database's folder; what is there is removed.
        offer: The snapshot, copied completely into `snapshots`.
        proofs: The ends of all epochs before the one that the snapshot is of.
        genesis: The network's.
        snapshots: Holds the copy.
        progress: Told how many chunks are restored.

    Raises:
        PeerFault: The copy is not what it claims.
        StorageFault: The disk failed or is full.
        BrokenInvariant: A final header vouches for a state that can not be.
    """
    height, made = offer.header.height, []

    def chunk(index: int) -> bytes:
        data = snapshots.chunk(height, index)
        if data is None:
            raise StorageFault(f"chunk {index} of snapshot {height} is gone")
        return data

    def finish(database: Database) -> None:
        exchange = Exchange.load(genesis, database.iterate(keys.STATE))
        if exchange.height != height:
            raise BrokenInvariant(f"snapshot {height} holds the state of {exchange.height}")
        # The proof's certificate finalizes a later block, and so this one, too.
        head = StoredHead(offer.header, exchange.app_hash, offer.proof.certificate)
        seal = offer.proof.seal
        cut = StoredCut(height, seal.state_root, offer.proof.validators, seal.snapshot_root)
        database.write_blocking(restored_entries(head, cut, proofs), sync=False)
        made.append(head)

    restore(target, offer.manifest, chunk=chunk, finish=finish, progress=progress)
    return made[0]
