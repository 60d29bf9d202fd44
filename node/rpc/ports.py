"""What the methods need of the rest of the node; `node/runtime.py` supplies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from omninode.consensus.inspection import Inspection
from omninode.consensus.types import Header, ValidatorSet
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis
from omninode.dex.transaction import Transaction
from omninode.node.net.peers import PeerInfo
from omninode.node.rpc.feed import Feed
from omninode.node.rpc.forwarding import Forwarding
from omninode.node.rpc.receipts import Receipts
from omninode.node.rpc.supply import SupplyReader
from omninode.storage.chain import ChainStore
from omninode.storage.history import History


class Door(Protocol):
    """Takes transactions of users (`node.admission.Admission`)."""

    async def submit(self, raw: bytes) -> bytes:
        """Return a transaction's hash once it is acknowledged (PROTOCOL.md P8).

        Raises:
            UserError: It is refused; the reason says why.
        """
        ...

    def body(self, transaction_id: bytes) -> Transaction | None:
        """Return a transaction that is held and not final."""
        ...


class Condition(Protocol):
    """Who this node is and how it fares."""

    @property
    def node_id(self) -> str:
        """Its libp2p identity."""
        ...

    @property
    def moniker(self) -> str:
        """Its name for people."""
        ...

    @property
    def validator_index(self) -> int | None:
        """Its place in the validator set, if it has one."""
        ...

    def peers(self) -> Sequence[PeerInfo]:
        """Return the peers it knows."""
        ...

    def is_catching_up(self) -> bool:
        """Whether it is fetching blocks that the network already has."""
        ...

    def halted(self) -> str | None:
        """Return why it stopped for good, or nothing (PROTOCOL.md P5)."""
        ...


SettlementState: TypeAlias = Literal[
    "off", "starting", "following", "unreachable", "disagreement", "halted"
]
"""How a node fares with the settlement chain."""


class SettlementStatus(Protocol):
    """What a node knows of the settlement chain, as of now."""

    @property
    def state(self) -> SettlementState:
        """`off` without endpoints, `halted` after a reorganisation below the confirmations."""
        ...

    @property
    def detail(self) -> str:
        """More about the state, for people."""
        ...

    @property
    def chain_id(self) -> int:
        """The EVM chain's id, from genesis."""
        ...

    @property
    def contract(self) -> str:
        """The address of the settlement contract, from genesis."""
        ...

    @property
    def chain_height(self) -> int | None:
        """The newest block of the chain that was seen."""
        ...

    @property
    def confirmed_height(self) -> int | None:
        """The newest block of the chain that is acted upon."""
        ...

    @property
    def deposits(self) -> int:
        """How many deposits are confirmed."""
        ...

    @property
    def checkpoint(self) -> int | None:
        """The number of the newest checkpoint that the contract holds."""
        ...


class Settlement(Protocol):
    """The node's side of the settlement chain (`omninode.contracts`)."""

    def status(self) -> SettlementStatus:
        """Say how it fares."""
        ...

    async def forward(self, method: str, params: list[Any]) -> object:
        """Call a method of an endpoint; returns its result, ready to be written as JSON.

        Raises:
            EndpointError: The endpoint's own error; code, message and data go to the caller.
            ChainError: There is no endpoint, or none answers.
        """
        ...

    def is_claimed(self, index: int) -> bool:
        """Whether the contract has paid a withdrawal out, as far as this node has seen."""
        ...

    def newest_checkpoint(self) -> int | None:
        """Return the number of the newest checkpoint that the contract holds, if one was seen."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """The parts of a node that the methods work on.

    Args:
        genesis_header: The header at height 0.
        exchange: The state machine, for reads between blocks.
        chain: Stored blocks.
        history: What happened, newest first.
        door: Takes transactions.
        consensus: The readable side of the consensus core.
        condition: Who this node is and how it fares.
        settlement: Its side of the settlement chain; `None` in a network without one.
    """

    genesis_header: Header
    exchange: Exchange
    chain: ChainStore
    history: History
    door: Door
    consensus: Inspection
    condition: Condition
    settlement: Settlement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a method is handed: the node's parts, and those of the interface itself.

    Args:
        parts: The node's.
        feed: Tells subscribers about stored blocks.
        receipts: What was acknowledged here and is not final yet.
        forwarding: Passes calls on to the settlement chain.
        supply: Adds up all balances.
        list_max: Longest list that one call returns.
    """

    parts: NodeParts
    feed: Feed
    receipts: Receipts
    forwarding: Forwarding
    supply: SupplyReader
    list_max: int

    @property
    def exchange(self) -> Exchange:
        """The state machine."""
        return self.parts.exchange

    @property
    def chain(self) -> ChainStore:
        """Stored blocks."""
        return self.parts.chain

    @property
    def history(self) -> History:
        """What happened, newest first."""
        return self.parts.history

    @property
    def door(self) -> Door:
        """Takes transactions."""
        return self.parts.door

    @property
    def condition(self) -> Condition:
        """Who this node is and how it fares."""
        return self.parts.condition

    @property
    def settlement(self) -> Settlement | None:
        """The node's side of the settlement chain."""
        return self.parts.settlement

    @property
    def genesis(self) -> Genesis:
        """The network's rules."""
        return self.parts.exchange.rules

    @property
    def validators(self) -> ValidatorSet:
        """The validators of the present epoch."""
        return self.parts.consensus.validators
