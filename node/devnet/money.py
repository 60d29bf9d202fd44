"""How much money went over the settlement chain, and whether both its sides were compared."""

from __future__ import annotations

from dataclasses import dataclass

from omninode.node.funds.backing import Backing


@dataclass(frozen=True, slots=True)
class MoneyCounts:
    """What has gone over the settlement chain, as the network tells it.

    Attributes:
        deposits: Credited on the exchange.
        withdrawals: Paid out by the contract.
        checkpoints: Accepted by the contract.
    """

    deposits: int = 0
    withdrawals: int = 0
    checkpoints: int = 0

    def since(self, before: MoneyCounts) -> MoneyCounts:
        """Return what was added."""
        return MoneyCounts(
            self.deposits - before.deposits,
            self.withdrawals - before.withdrawals,
            self.checkpoints - before.checkpoints,
        )


@dataclass(frozen=True, slots=True)
class NotCompared:
    """The two sides could not be compared, which says nothing about them; `why` is for people."""

    why: str


Comparison = Backing | NotCompared
