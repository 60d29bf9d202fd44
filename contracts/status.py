"""How a node fares with the settlement chain, for `omni_status` and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

SettlementState: TypeAlias = Literal[
    "off", "starting", "following", "unreachable", "disagreement", "halted"
]
"""In words:

* `off`: no endpoint is configured.
* `starting`: no endpoint has answered yet.
* `following`: a majority of the endpoints answer and agree.
* `unreachable`: fewer than a majority answer, or they are of another chain or contract.
* `disagreement`: they answer, and no majority tells the same; nothing is credited from them.
* `halted`: what was confirmed is not on the chain any more, or contradicts what is credited; this
  node attests no deposits and signs no checkpoints until that is resolved.
"""


@dataclass(frozen=True, slots=True)
class SettlementStatus:
    """What a node knows of the settlement chain, as of now.

    Attributes:
        state: One word.
        detail: More about it, for people.
        chain_id: The EVM chain's id, from genesis.
        contract: The settlement contract's address, from genesis.
        chain_height: The newest block that an endpoint told of.
        confirmed_height: The newest block that is acted upon.
        deposits: How many deposits are confirmed.
        checkpoint: Number of the newest checkpoint that the contract holds.
    """

    state: SettlementState
    detail: str
    chain_id: int
    contract: str
    chain_height: int | None = None
    confirmed_height: int | None = None
    deposits: int = 0
    checkpoint: int | None = None
