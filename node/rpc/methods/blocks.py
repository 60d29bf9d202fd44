"""Blocks as they are stored: header, transactions with results, events, finalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from omninode.consensus.types import Certificate, Header
from omninode.crypto import checksum_address
from omninode.dex.documents import event_document
from omninode.errors import UserError
from omninode.node.rpc import results
from omninode.node.rpc.context import Context
from omninode.node.rpc.errors import InvalidParams
from omninode.node.rpc.limits import BLOCK_RANGE_MAX, BLOCK_ROWS_MAX
from omninode.node.rpc.methods.node import stored_head
from omninode.node.rpc.ports import Services
from omninode.node.rpc.read import Height
from omninode.node.rpc.registry import Params, method
from omninode.storage.indexes import account_of
from omninode.storage.records import Events, Results

Document = dict[str, Any]


class GetBlock(Params, frozen=True):
    """Which block."""

    height: Height


class GetBlocks(Params, frozen=True):
    """Which blocks, both ends included."""

    from_: Height = msgspec.field(name="from")
    to: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1, description="The last height.")]


@method(
    "omni_getBlock", result=results.Block, errors=("unknown_block", "pruned", "starting"), cost=2
)
def get_block(context: Context[Services], params: GetBlock) -> Document:
    """Return one final block with its transactions, their results, events and finalization."""
    node = context.node
    _check_height(node, params.height)
    return _block(node, params.height)


@method(
    "omni_getBlocks",
    result=results.Blocks,
    errors=("unknown_block", "pruned", "response_too_large", "starting"),
    cost=20,
)
def get_blocks(context: Context[Services], params: GetBlocks) -> Document:
    """Return the final blocks of a range of heights, each as `omni_getBlock` has it."""
    node = context.node
    if params.to < params.from_:
        raise InvalidParams(f"to: {params.to} is below from: {params.from_}")
    count_max = min(BLOCK_RANGE_MAX, node.list_max)
    if params.to - params.from_ >= count_max:
        raise InvalidParams(
            f"to: {params.to - params.from_ + 1} blocks, at most {count_max}",
            hint="ask for a part of the range, then for the next",
        )
    _check_height(node, params.from_)
    _check_height(node, params.to)
    blocks: list[Document] = []
    rows = 0
    for height in range(params.from_, params.to + 1):
        blocks.append(_block(node, height))
        rows += len(blocks[-1]["transactions"]) + len(blocks[-1]["events"])
        if rows > BLOCK_ROWS_MAX:
            raise UserError(
                "response_too_large",
                f"the blocks to height {height} have {rows} transactions and events already",
                hint="ask for fewer blocks at once",
            )
    return {"height": stored_head(node).height, "blocks": blocks}


def _check_height(node: Services, height: int) -> None:
    newest = stored_head(node).height
    if height > newest:
        raise UserError("unknown_block", f"height {height} is above the newest, {newest}")
    if 0 < height < node.chain.first_height:
        raise UserError(
            "pruned", f"blocks below height {node.chain.first_height} are not kept here"
        )


def _block(node: Services, height: int) -> Document:
    if height == 0:
        return _genesis_block(node)
    stored, parts = node.chain.stored_block(height), node.chain.parts(height)
    if stored is None or parts is None:
        raise UserError("pruned", f"block {height} is not kept here any more")
    return {
        **_frame(stored.block.header, app_hash=parts.app_hash),
        "transactions": _transactions(stored.transactions, node.chain.results(height)),
        "certificate": _certificate(node, height),
        "events": _events(node, node.chain.events(height), stored.block.header),
    }


def _genesis_block(node: Services) -> Document:
    header = node.parts.genesis_header
    return {
        **_frame(header, app_hash=header.app_hash),
        "transactions": [],
        "certificate": None,
        "events": [],
    }


def _frame(header: Header, *, app_hash: bytes) -> Document:
    return {
        "height": header.height,
        "hash": "0x" + header.hash.hex(),
        "time_ms": header.time_ms,
        "app_hash": "0x" + app_hash.hex(),
        "header": {
            "version": header.version,
            "epoch": header.epoch,
            "view": header.view,
            "height": header.height,
            "time_ms": header.time_ms,
            "parent_hash": "0x" + header.parent_hash.hex(),
            "parent_view": header.parent_view,
            "proposer": header.proposer,
            "body_root": "0x" + header.body_root.hex(),
            "executed_height": header.executed_height,
            "executed_final_view": header.executed_final_view,
            "app_hash": "0x" + header.app_hash.hex(),
            "valset_hash": "0x" + header.valset_hash.hex(),
        },
    }


def _transactions(bodies: Sequence[bytes], outcomes: Results) -> list[Document]:
    return [
        {
            "hash": "0x" + result.hash.hex(),
            "account": checksum_address(account_of(raw)),
            "code": result.code,
            "reason": result.reason,
            "tx": "0x" + raw.hex(),
        }
        for raw, result in zip(bodies, outcomes, strict=True)
    ]


def _events(node: Services, events: Events, header: Header) -> list[Document]:
    return [
        event_document(node.genesis, event, height=header.height, time_ms=header.time_ms)
        for event in events
    ]


def _certificate(node: Services, height: int) -> Document | None:
    found = node.chain.certificate_at_or_after(height)
    if found is None:
        return None
    covered, certificate = found
    return {"height": covered, **_certificate_fields(node, certificate)}


def _certificate_fields(node: Services, certificate: Certificate) -> Document:
    members = node.validators.validators
    return {
        "view": certificate.view,
        "block_hash": "0x" + certificate.block_hash.hex(),
        "signers": [checksum_address(members[index].address) for index in certificate.signers],
        "signatures": ["0x" + signature.hex() for signature in certificate.signatures],
    }
