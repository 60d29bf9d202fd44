"""The part of a new node's start that takes a snapshot: peers only, no chain yet.

Rules
    T1. It is tried once, by a home without a chain, of a network that is old enough to have sealed
        an epoch. Whatever becomes of it, the node goes on: from the snapshot, or by blocks.
    T2. What was copied stays and is offered to others.
"""

from __future__ import annotations

from functools import partial

import structlog
import trio

from omninode.dex.genesis import Genesis
from omninode.encoding import encode
from omninode.errors import PeerFault
from omninode.node.home import Home
from omninode.node.net.service import Network
from omninode.node.net.settings import RequestHandler
from omninode.node.state_sync.fetching import Fetching, Offer, SnapshotLost
from omninode.node.state_sync.limits import (
    CHUNK_REPLY_BYTES_MAX,
    EPOCHS_REPLY_BYTES_MAX,
    SNAPSHOT_REPLY_BYTES_MAX,
)
from omninode.node.state_sync.messages import (
    CHUNK_PROTOCOL,
    EPOCHS_PROTOCOL,
    REQUEST_BYTES_MAX,
    SNAPSHOT_PROTOCOL,
    EpochsReply,
    SnapshotReply,
)
from omninode.node.state_sync.restoring import restore_chain
from omninode.node.state_sync.serving import SnapshotServer
from omninode.storage.records import StoredHead
from omninode.storage.snapshot import Snapshots

log = structlog.get_logger("sync")

PROGRESS_STEPS = 20
"""How often a long copy is told about."""


def is_wanted(home: Home, genesis: Genesis, *, now_ms: int) -> bool:
    """Whether a start may be by a snapshot (T1)."""
    first_seal_ms = genesis.genesis_time_ms + genesis.epochs.epoch_ms
    return genesis.staking is not None and now_ms > first_seal_ms and not home.database.exists()


def register(network: Network, server: SnapshotServer | None) -> None:
    """Make the protocols known to a network; without a server, only to ask.

    Args:
        network: Not running yet.
        server: Answers them.
    """
    for protocol, handler, bytes_max in (
        (
            EPOCHS_PROTOCOL,
            server.serve_epochs if server else _always(encode(EpochsReply(()))),
            EPOCHS_REPLY_BYTES_MAX,
        ),
        (
            SNAPSHOT_PROTOCOL,
            server.serve_snapshot if server else _always(encode(SnapshotReply(b"", ()))),
            SNAPSHOT_REPLY_BYTES_MAX,
        ),
        (
            CHUNK_PROTOCOL,
            server.serve_chunk if server else _always(b""),
            CHUNK_REPLY_BYTES_MAX,
        ),
    ):
        network.on_request(
            protocol, handler, max_request_bytes=REQUEST_BYTES_MAX, max_response_bytes=bytes_max
        )


async def take_snapshot(network: Network, home: Home, genesis: Genesis) -> StoredHead | None:
    """Run the network until a snapshot is restored or given up (T1).

    Args:
        network: Not running yet; ended when this returns.
        home: Gets the database and the copy.
        genesis: The network's.

    Returns:
        Where the chain of this node begins; `None` if it begins with genesis.

    Raises:
        StorageFault: The disk failed or is full.
        ConfigError: The address to listen on is taken.
    """
    register(network, None)
    snapshots = Snapshots(home.snapshots)
    fetching = Fetching(
        network, snapshots, validators=genesis.validator_set, genesis_hash=genesis.hash
    )
    offer: Offer | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        log.info("looking_for_a_snapshot")
        try:
            offer = await fetching.find()
            if offer is not None:
                await fetching.fetch(offer, progress=_Progress(offer.manifest.height))
        except SnapshotLost as lost:
            log.warning("snapshot_lost", what=str(lost), hint="the node takes the blocks instead")
            offer = None
        nursery.cancel_scope.cancel()
    if offer is None:
        return None
    return await _restore(home, genesis, fetching, offer, snapshots)


async def _restore(
    home: Home, genesis: Genesis, fetching: Fetching, offer: Offer, snapshots: Snapshots
) -> StoredHead | None:
    proofs = fetching.proofs[: offer.proof.epoch]
    run = partial(restore_chain, home.database, offer, proofs, genesis=genesis, snapshots=snapshots)
    try:
        head = await trio.to_thread.run_sync(run)
    except PeerFault as fault:
        log.warning("snapshot_refused", why=str(fault), hint="the node takes the blocks instead")
        return None
    log.info("snapshot_restored", height=head.height, app_hash=head.app_hash.hex())
    return head


class _Progress:
    """Tells of a copy now and then."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._told = 0

    def __call__(self, held: int, total: int) -> None:
        step = held * PROGRESS_STEPS // max(total, 1)
        if step > self._told:
            self._told = step
            log.info("copying_snapshot", height=self._height, chunks=held, of=total)


def _always(answer: bytes) -> RequestHandler:
    """Answer that there is nothing here, as a node does that has no chain yet."""

    async def answers(_peer: str, _payload: bytes) -> bytes:
        return answer

    return answers
