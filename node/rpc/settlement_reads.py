"""Reads of the bridge that several methods share: domain, checkpoints, the way of a withdrawal."""

from __future__ import annotations

from typing import Any, Final

from eth_abi.abi import encode

from omninode.crypto import checksum_address, keccak256
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.evm import (
    checkpoint_digest,
    compact_signature,
    signer_bitmap,
)
from omninode.dex.documents import checkpoint_document, disagreement_document
from omninode.dex.events import WithdrawalRequested
from omninode.encoding import amount_from_bytes
from omninode.errors import UserError
from omninode.node.rpc.ports import Services
from omninode.storage.records import StoredCheckpoint

Document = dict[str, Any]

_CHECKPOINT_TYPE: Final = (
    "(uint64,uint64,uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32)"
)
_WITHDRAW_TYPES: Final = (
    _CHECKPOINT_TYPE,
    "uint64",
    "address",
    "address",
    "uint256",
    "bytes32[]",
)
_WITHDRAW: Final = keccak256(f"withdraw({','.join(_WITHDRAW_TYPES)})".encode())[:4]


def contract_text(node: Services) -> str:
    """Return the address of the settlement contract.

    Raises:
        UserError: `no_settlement`: the network has none.
    """
    contract = node.genesis.settlement_contract
    if contract is None:
        raise UserError("no_settlement", "the network has no settlement contract")
    return checksum_address(contract)


def settlement_document(node: Services) -> Document | None:
    """Return how the node fares with the settlement chain, for `omni_status`."""
    if node.settlement is None:
        return None
    status, bridge = node.settlement.status(), node.exchange.state.bridge
    certified, disagreement = bridge.checkpoints.certified, bridge.deposits.disagreement
    return {
        "state": status.state,
        "detail": status.detail,
        "chain_id": status.chain_id,
        "contract": status.contract,
        "chain_height": status.chain_height,
        "confirmed_height": status.confirmed_height,
        "deposits": status.deposits,
        "checkpoint": status.checkpoint,
        "certified": None if certified is None else certified.checkpoint.number,
        "deposit_disagreement": None
        if disagreement is None
        else disagreement_document(disagreement),
    }


def certified_document(node: Services, stored: StoredCheckpoint) -> Document:
    """Return a certified checkpoint as the contract takes it."""
    checkpoint, signatures = stored.certified.checkpoint, stored.certified.signatures
    # Of an epoch that nobody needs any more the set is forgotten.
    words = node.exchange.state.bridge.handovers.words_of(checkpoint.epoch) or ()
    return {
        **checkpoint_document(checkpoint),
        "digest": _hex(checkpoint_digest(checkpoint, node.exchange.state.bridge.domain)),
        "set": [_hex(word) for word in words],
        "bitmap": hex(signer_bitmap(index for index, _ in signatures)),
        "signatures": [_hex(compact_signature(signature)) for _, signature in signatures],
        "contract": contract_text(node),
        "chain_id": node.genesis.settlement_chain_id,
        "submitted": _is_submitted(node, checkpoint),
    }


def _is_submitted(node: Services, checkpoint: Checkpoint) -> bool | None:
    settlement = node.settlement
    newest = None if settlement is None else settlement.newest_checkpoint()
    if newest is not None and checkpoint.number <= newest:
        return True
    # Of what a node does not see any more, or not yet, it can not say that it is not there.
    is_seeing = settlement is not None and settlement.status().state == "following"
    return False if is_seeing else None


def checkpoint_on_chain(node: Services) -> StoredCheckpoint | None:
    """Return the newest checkpoint that the contract holds; of those that are stored here."""
    number = None if node.settlement is None else node.settlement.newest_checkpoint()
    return None if number is None else node.history.bridge.checkpoint(number)


def struct_document(checkpoint: Checkpoint) -> Document:
    """Return a checkpoint under the names of the contract's struct, in its order."""
    return {
        "".join([head, *(part.title() for part in rest)]): value
        for name, value in checkpoint_document(checkpoint).items()
        for head, *rest in [name.split("_")]
    }


def withdraw_calldata(
    checkpoint: Checkpoint, withdrawal: WithdrawalRequested, proof: list[bytes]
) -> bytes:
    """Return the data of a call of the contract's `withdraw`."""
    values = (
        tuple(getattr(checkpoint, name) for name in checkpoint.__struct_fields__),
        withdrawal.index,
        withdrawal.token,
        withdrawal.recipient,
        amount_from_bytes(withdrawal.amount),
        proof,
    )
    return _WITHDRAW + encode(_WITHDRAW_TYPES, values)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
