"""Questions to peers about blocks and transactions: their form, and who pays for a bad answer.

Rules
    K1. An answer is one canonical record of bounded size. What does not decode, or is not what was
        asked for, costs the peer that sent it.
    K2. No answer, or an empty one, costs nothing: it may be nobody's fault.
    K3. A transaction's id is the keccak256 of its bytes, so bytes are matched to ids before
        anything is spent on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeVar

import msgspec
import structlog

from omninode.consensus.epoch_proof import FILLERS_MAX
from omninode.consensus.ports import Peers
from omninode.consensus.types import Block, Certificate, Count, Hash, Header
from omninode.crypto import keccak256
from omninode.encoding import decode
from omninode.errors import Malformed, PeerFault

log = structlog.get_logger("consensus")

BLOCK_PROTOCOL: Final = "/omninode/block/1"
TRANSACTIONS_PROTOCOL: Final = "/omninode/transactions/1"
BLOCKS_PROTOCOL: Final = "/omninode/blocks/1"

BAD_ANSWER_PENALTY: Final = 50
"""A false answer to a question of ours; two of them and the peer is banned for a while."""

T = TypeVar("T")


class TransactionsRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for transactions by id."""

    ids: tuple[Hash, ...]


class TransactionsReply(msgspec.Struct, frozen=True, array_like=True):
    """Those of the transactions that the peer has, in the order asked for."""

    transactions: tuple[bytes, ...]


class BlockReply(msgspec.Struct, frozen=True, array_like=True):
    """One block with its transactions, or nothing."""

    block: Block | None
    transactions: tuple[bytes, ...]


class BlocksRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for finalized blocks from a height on."""

    from_height: Count


class SentBlock(msgspec.Struct, frozen=True, array_like=True):
    """A finalized block with its transactions."""

    block: Block
    transactions: tuple[bytes, ...]


class BlocksReply(msgspec.Struct, frozen=True, array_like=True):
    """A run of finalized blocks of one epoch that the certificate finalizes, or nothing.

    Where the run ends the epoch, `fillers` lead from its last block to the certified one.
    """

    blocks: tuple[SentBlock, ...]
    certificate: Certificate | None
    fillers: Annotated[tuple[Header, ...], msgspec.Meta(max_length=FILLERS_MAX)] = ()


class Questions:
    """Asks peers, and makes them pay for bad answers (K1)."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def ask(
        self,
        peer: str,
        protocol: str,
        payload: bytes,
        kind: type[T],
        *,
        size_max: int,
        timeout_ms: int,
    ) -> T | None:
        """Return a peer's answer, or `None` if there is no good one."""
        try:
            answer = await self._peers.request(peer, protocol, payload, timeout_ms=timeout_ms)
        except PeerFault as fault:
            log.debug("no_answer", peer=peer, protocol=protocol, reason=fault.reason)
            return None
        try:
            return decode(answer, kind, size_max=size_max)
        except Malformed as error:
            self.blame(peer, "malformed_answer", str(error))
            return None

    def blame(self, peer: str, reason: str, detail: str) -> None:
        """Make a peer pay for an answer that is not what was asked for (K1)."""
        log.warning("bad_answer", peer=peer, reason=reason, detail=detail)
        self._peers.penalize(peer, reason, BAD_ANSWER_PENALTY)


def transaction_ids(raws: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the ids of transactions by their bytes (K3)."""
    return tuple(keccak256(raw) for raw in raws)
