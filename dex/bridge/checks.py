"""What must always hold in the settlement state; a breach is our own defect and stops the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.dex.bridge.balance_tree import NO_LEAF
from omninode.dex.bridge.deposits import Deposits
from omninode.dex.bridge.limits import PENDING_CHECKPOINTS_MAX, PENDING_DEPOSITS_MAX
from omninode.errors import BrokenInvariant

if TYPE_CHECKING:
    from omninode.dex.state import State


def check_bridge(state: State) -> None:
    """Check pending deposits, leaves and checkpoints; money is `invariants.check_state`'s.

    Raises:
        BrokenInvariant: The first breach found.
    """
    bridge = state.bridge
    if not bridge.is_on:
        return
    _check_deposits(bridge.deposits)
    leaves = [
        balance.leaf
        for owner in state.accounts.owners.values()
        for account in owner.subaccounts.values()
        for balance in account.balances.values()
        if balance.leaf != NO_LEAF
    ]
    if sorted(leaves) != list(range(len(bridge.balances))):
        raise BrokenInvariant("a leaf of the balance tree is nobody's, or two balances' at once")
    checkpoints = bridge.checkpoints
    certified = 0 if checkpoints.certified is None else checkpoints.certified.checkpoint.number
    if len(checkpoints.pending) > PENDING_CHECKPOINTS_MAX or any(
        not certified < number <= checkpoints.number for number in checkpoints.pending
    ):
        raise BrokenInvariant("checkpoints wait that must not")


def _check_deposits(deposits: Deposits) -> None:
    """Check that pending deposits follow the cursor and that each has a tip above it."""
    credited = deposits.credited
    for node in deposits.nodes.values():
        if not deposits.knows(node.index, node.parent):
            raise BrokenInvariant(f"the pending deposit {node.index} follows nothing")
        if node.index >= credited.count + PENDING_DEPOSITS_MAX:
            raise BrokenInvariant(f"the pending deposit {node.index} is too far ahead")
    standing: set[bytes] = set()
    for tip in deposits.tips.values():
        node_hash = tip.hash
        while tip.stray is None and node_hash in deposits.nodes and node_hash not in standing:
            standing.add(node_hash)
            node_hash = deposits.nodes[node_hash].parent
        if tip.stray is None and tip.count > credited.count and tip.hash not in deposits.nodes:
            raise BrokenInvariant("a tip stands on a deposit that is not pending")
    if len(standing) != len(deposits.nodes):
        raise BrokenInvariant("a deposit is pending that no tip stands on")
