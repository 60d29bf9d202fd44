"""The node and its network: status, peers, validators, consensus, genesis."""

from __future__ import annotations

from typing import Any, Final

from omninode import __version__
from omninode.consensus.types import VoteKind
from omninode.crypto import checksum_address
from omninode.dex.staking.views import is_jailed, score_of, score_text
from omninode.errors import UserError
from omninode.node.net.peers import PeerInfo
from omninode.node.rpc import results
from omninode.node.rpc.context import Context
from omninode.node.rpc.ports import Services
from omninode.node.rpc.registry import Params, method
from omninode.node.rpc.settlement_reads import settlement_document
from omninode.storage.records import StoredHead

Document = dict[str, Any]

_VOTE_WORDS: Final = {
    VoteKind.NOTARIZE: "notarize",
    VoteKind.NULLIFY: "nullify",
    VoteKind.FINALIZE: "finalize",
}


def stored_head(node: Services) -> StoredHead:
    """Return the newest stored block's head.

    Raises:
        UserError: `starting`: there is none yet.
    """
    head = node.chain.head()
    if head is None:
        raise UserError("starting", "the node has no state yet")
    return head


@method("omni_status", result=results.Status, reads_state=False, errors=("starting",))
def get_status(context: Context[Services], params: Params) -> Document:
    """Say what this node is doing."""
    del params
    node = context.node
    head, condition = stored_head(node), node.condition
    index = condition.validator_index
    validator = None if index is None else node.validators.validators[index]
    return {
        "chain_id": node.genesis.chain_id,
        "genesis_hash": "0x" + node.genesis.hash.hex(),
        "version": __version__,
        "node_id": condition.node_id,
        "moniker": condition.moniker,
        "height": head.height,
        "block_hash": "0x" + head.block_hash.hex(),
        "app_hash": "0x" + head.app_hash.hex(),
        "block_time_ms": head.header.time_ms,
        "catching_up": condition.is_catching_up(),
        "halted": condition.halted(),
        "peers": sum(peer.connected_since_ms is not None for peer in condition.peers()),
        "validator": None
        if validator is None
        else {
            "address": checksum_address(validator.address),
            "power": validator.power,
            "score": score_text(score_of(node.exchange.state, validator.address)),
            "jailed": is_jailed(node.exchange.state, validator.address),
        },
        "settlement": settlement_document(node),
    }


@method("omni_getPeers", result=results.Peers, reads_state=False, errors=("starting",))
def get_peers(context: Context[Services], params: Params) -> Document:
    """List the peers that this node knows: the connected first, then the banned."""
    del params
    node = context.node
    rows = [_peer(peer) for peer in node.condition.peers()[: node.list_max]]
    return {"height": stored_head(node).height, "peers": rows}


def _peer(peer: PeerInfo) -> Document:
    return {
        "peer_id": peer.id,
        "moniker": peer.moniker,
        "address": peer.addresses[0] if peer.addresses else None,
        "connected": peer.connected_since_ms is not None,
        "direction": peer.direction,
        "ping_ms": None if peer.rtt_ms is None else round(peer.rtt_ms, 1),
        "score": peer.score,
        "is_validator": peer.is_validator,
        "is_persistent": peer.is_persistent,
        "connected_since_ms": peer.connected_since_ms,
        "last_error": peer.last_error,
        "banned_until_ms": peer.banned_until_ms or None,
        "ban_reason": peer.ban_reason,
    }


@method("omni_getGenesis", result=results.GenesisResult, errors=("starting",), reads_state=False)
def get_genesis(context: Context[Services], params: Params) -> Document:
    """Return the network's rules and first balances, and their hash."""
    del params
    node = context.node
    return {
        "genesis_hash": "0x" + node.genesis.hash.hex(),
        "height": stored_head(node).height,
        "genesis": node.genesis,
    }


@method("omni_getConsensusState", result=results.ConsensusState, reads_state=False)
def get_consensus_state(context: Context[Services], params: Params) -> Document:
    """Tell the present view, who voted in it, and what it waits for."""
    del params
    node = context.node
    consensus, members = node.parts.consensus, node.validators
    rows = zip(members.validators, consensus.votes_in_view(), strict=True)
    return {
        "height": consensus.final_height,
        "executed_height": consensus.executed_height,
        "epoch": members.epoch,
        "view": consensus.view,
        "leader": checksum_address(members.validators[consensus.leader].address),
        "armed": consensus.is_armed,
        "waiting_for": consensus.waiting_for(),
        "quorum": members.total_power * 2 // 3 + 1,
        "total_power": members.total_power,
        "votes": [
            {
                "address": checksum_address(validator.address),
                "moniker": validator.moniker,
                "power": validator.power,
                "votes": [_VOTE_WORDS[kind] for kind in kinds],
            }
            for validator, kinds in rows
        ],
    }
