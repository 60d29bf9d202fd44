"""The state that the exchange keeps for its settlement chain."""

from __future__ import annotations

from typing import Final

from omninode.dex.bridge.balance_tree import BalanceTree, token_list
from omninode.dex.bridge.checkpoints import Checkpoints
from omninode.dex.bridge.deposits import Deposits
from omninode.dex.bridge.evm import ZERO_ADDRESS, SettlementDomain
from omninode.dex.bridge.handover import Handovers
from omninode.dex.bridge.stake_proofs import StakeProofs
from omninode.dex.bridge.withdrawals import Withdrawals
from omninode.dex.genesis import Genesis


class Flow:
    """What came in and went out of one asset since genesis, in base units."""

    __slots__ = ("credited", "withdrawn")

    def __init__(self, credited: int = 0, withdrawn: int = 0) -> None:
        self.credited = credited
        self.withdrawn = withdrawn


_NOTHING: Final = Flow()


class Bridge:
    """Everything behind module `bridge` of the app hash. Without settlement it never changes.

    Args:
        genesis: For the contract, its tokens and the first checkpoint's time.

    Attributes:
        is_on: Whether the network has a settlement contract.
        domain: What checkpoints are signed for.
        tokens: Each asset's token, the zero address where it has none.
        flows: What came in and went out, by asset index.
        changed_flows: Assets whose flow changed since the last `clear`.
        minted: What this block's deposits less its withdrawals made, by asset index.
    """

    def __init__(self, genesis: Genesis) -> None:
        settlement = genesis.settlement
        self.is_on: Final = settlement is not None
        self.domain: Final = SettlementDomain(
            genesis.settlement_chain_id, genesis.settlement_contract or ZERO_ADDRESS, genesis.hash
        )
        self.tokens: Final = token_list(genesis.asset_token(a.name) for a in genesis.assets)
        self.deposits: Final = Deposits(genesis.hash)
        self.withdrawals: Final = Withdrawals()
        self.checkpoints: Final = Checkpoints(
            self.domain,
            interval_ms=0 if settlement is None else settlement.checkpoint_interval_ms,
            start_ms=genesis.genesis_time_ms,
        )
        self.handovers: Final = Handovers(self.domain, genesis.validator_set)
        self.stake_proofs: Final = StakeProofs()
        self.balances: Final = BalanceTree(self.tokens)
        self.flows: Final[dict[int, Flow]] = {}
        self.changed_flows: Final[set[int]] = set()
        self.minted: Final[dict[int, int]] = {}
        self._genesis_supply: Final = genesis.supply

    def require_proof(self, owner: bytes) -> None:
        """Have the contract shown what an owner has staked after a slash."""
        if self.is_on:
            self.stake_proofs.require(owner, self.checkpoints.number + 1)

    def supply(self, asset: int) -> int:
        """Return what all balances of an asset make, in base units."""
        flow = self.flows.get(asset, _NOTHING)
        return self._genesis_supply.get(asset, 0) + flow.credited - flow.withdrawn

    def add_credited(self, asset: int, amount: int) -> None:
        """Count a deposit."""
        self.flows.setdefault(asset, Flow()).credited += amount
        self.changed_flows.add(asset)
        self.minted[asset] = self.minted.get(asset, 0) + amount

    def add_withdrawn(self, asset: int, amount: int) -> None:
        """Count a withdrawal."""
        self.flows.setdefault(asset, Flow()).withdrawn += amount
        self.changed_flows.add(asset)
        self.minted[asset] = self.minted.get(asset, 0) - amount

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.deposits.clear()
        self.withdrawals.changed = False
        self.checkpoints.clear()
        self.handovers.clear()
        self.stake_proofs.clear()
        self.balances.new = []
        self.changed_flows.clear()
        self.minted.clear()
