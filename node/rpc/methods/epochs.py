"""How epochs ended: what a light client follows from genesis to today's validators."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import msgspec

from omninode.consensus.epoch_proof import EpochProof
from omninode.encoding import encode
from omninode.node.rpc.context import Context
from omninode.node.rpc.limits import EPOCH_PAGE_BYTES
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import LIMIT_DEFAULT, Limit, read_limit
from omninode.node.rpc.registry import Params, method

Document = dict[str, Any]


class GetEpochs(Params, frozen=True):
    """Which epochs: from one on, as many as fit a page."""

    from_: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1, description="The first epoch.")] = (
        msgspec.field(name="from", default=0)
    )
    limit: Limit = LIMIT_DEFAULT


class EpochShown(TypedDict):
    """The end of an epoch.

    `height` is its sealing block's, `cut_height` that of the block whose state decided the next set
    and which both roots are of. `proof` is the canonical record that proves all of it to whoever
    knows the epoch's validators.
    """

    epoch: int
    height: int
    block_hash: str
    time_ms: int
    cut_height: int
    state_root: str
    snapshot_root: str
    next_validators_hash: str
    next_validators: int
    next_power: int
    proof: str


class Epochs(TypedDict):
    """Ends of epochs, the oldest first; `next` is the epoch to go on with, null at the end."""

    height: int
    epoch: int
    epochs: list[EpochShown]
    next: int | None


@method("omni_getEpochs", result=Epochs, cost=5)
def get_epochs(context: Context[Services], params: GetEpochs) -> Document:
    """List how epochs ended, each with a proof; the present one has not."""
    node = context.node
    limit = read_limit(params.limit, node.list_max)
    shown: list[Document] = []
    size = 0
    proof = node.chain.epoch_proof(params.from_)
    while proof is not None and len(shown) < limit and size < EPOCH_PAGE_BYTES:
        data = encode(proof)
        size += len(data)
        shown.append(_epoch(proof, data))
        proof = node.chain.epoch_proof(params.from_ + len(shown))
    return {
        "height": node.exchange.height,
        "epoch": node.exchange.state.validator_set.epoch,
        "epochs": shown,
        "next": None if proof is None else proof.epoch,
    }


def _epoch(proof: EpochProof, data: bytes) -> Document:
    header, seal, following = proof.header, proof.seal, proof.validators
    return {
        "epoch": proof.epoch,
        "height": header.height,
        "block_hash": "0x" + header.hash.hex(),
        "time_ms": header.time_ms,
        "cut_height": seal.cut_height,
        "state_root": "0x" + seal.state_root.hex(),
        "snapshot_root": "0x" + seal.snapshot_root.hex(),
        "next_validators_hash": "0x" + seal.next_valset_hash.hex(),
        "next_validators": len(following.validators),
        "next_power": following.total_power,
        "proof": "0x" + data.hex(),
    }
