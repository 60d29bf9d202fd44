"""What happened in a block, for histories and streams; the app hash covers the state itself.

Prices are in ticks and sizes in lots of the named market; amounts that may exceed 64 bits are 16
bytes (`encoding.amount_to_bytes`). `views` turns them into JSON documents. The height and time are
the block's.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.handover import CertifiedHandover
from omninode.dex.staking.events import (
    EpochBegan,
    EpochEnded,
    Rewarded,
    Slashed,
    StakeChanged,
    StakeRefused,
    StakeReleased,
    ValidatorChanged,
)


class OrderRecord(msgspec.Struct, frozen=True, array_like=True):
    """An order: as it is kept in the state while it rests, and as events and histories show it.

    `sequence` is its place in time within the market (smaller is earlier; 0 when it never rested).
    `notional` is the sum of price x size over its fills in ticks x lots; `fee_numerator` the sum of
    price x size x rate of a buy's fills, from which its rounding is continued (see `fees`); `fees`
    what it has paid, in base units of the quote asset.
    """

    order_id: bytes
    account: bytes
    subaccount: int
    market: str
    is_buy: bool
    order_type: str
    tif: str
    post_only: bool
    client_id: str
    price: int
    size: int
    filled: int
    notional: bytes
    fee_numerator: bytes
    fees: bytes
    sequence: int
    height: int
    time_ms: int


class OrderUpdated(msgspec.Struct, frozen=True, array_like=True, tag="order"):
    """An order was placed, filled, replaced or closed.

    `state` is one of `revealed` (it waits for its batch), `open`, `partially_filled`, `filled`,
    `cancelled`; the last two are for ever. `reason` says why it was cancelled: `user`,
    `self_trade`, `unfilled` (the rest of an IOC or market order), `cancelled_before_arrival`; the
    rest of a sealed order also for what would refuse a new one.
    """

    order: OrderRecord
    state: str
    reason: str = ""


class OrderRejected(msgspec.Struct, frozen=True, array_like=True, tag="rejected"):
    """A new order was refused and changed nothing; price and size are as the trader wrote them."""

    order_id: bytes
    account: bytes
    subaccount: int
    market: str
    side: str
    order_type: str
    tif: str
    post_only: bool
    client_id: str
    price: str
    size: str
    reason: str


class Trade(msgspec.Struct, frozen=True, array_like=True, tag="trade"):
    """One fill between a resting order (maker) and an arriving one (taker), at the maker's price.

    `sequence` counts the market's trades from 1. Fees are in base units of the quote asset.
    """

    market: str
    sequence: int
    price: int
    size: int
    taker_is_buy: bool
    taker_order_id: bytes
    maker_order_id: bytes
    taker: bytes
    taker_subaccount: int
    maker: bytes
    maker_subaccount: int
    taker_fee: bytes
    maker_fee: bytes


class LevelChanged(msgspec.Struct, frozen=True, array_like=True, tag="level"):
    """A price level's total size after the block; 0 when it is gone. Once per touched level."""

    market: str
    is_buy: bool
    price: int
    size: int


class Transferred(msgspec.Struct, frozen=True, array_like=True, tag="transfer"):
    """An amount moved between accounts or subaccounts."""

    sender: bytes
    sender_subaccount: int
    recipient: bytes
    recipient_subaccount: int
    asset: str
    amount: bytes


class AgentApproved(msgspec.Struct, frozen=True, array_like=True, tag="agent"):
    """A session key was approved, or its approval changed."""

    account: bytes
    agent: bytes
    name: str
    permissions: tuple[str, ...]
    expires_ms: int


class AgentRevoked(msgspec.Struct, frozen=True, array_like=True, tag="agent_revoked"):
    """A session key lost its approval."""

    account: bytes
    agent: bytes


class DepositCredited(msgspec.Struct, frozen=True, array_like=True, tag="deposit"):
    """A deposit on the settlement chain was credited; `index` is its number there, from 0."""

    index: int
    account: bytes
    subaccount: int
    asset: str
    amount: bytes
    token: bytes


class DepositIgnored(msgspec.Struct, frozen=True, array_like=True, tag="deposit_ignored"):
    """A deposit could not be credited: no asset has its token, or no balance could hold it."""

    index: int
    token: bytes
    account: bytes
    amount: bytes


class StakeIgnored(msgspec.Struct, frozen=True, array_like=True, tag="stake_ignored"):
    """An entry of stake changed no validator; tokens that came with it are a deposit to the owner.

    `index` is its number among deposits, `kind` the contract's word for what was asked (1 to 5),
    `amount` in the stake token's base units.
    """

    index: int
    owner: bytes
    kind: int
    amount: bytes
    reason: str


class DepositDisagreement(msgspec.Struct, frozen=True, array_like=True, tag="deposit_disagreement"):
    """Validators attest different deposits: the first index that differs, and who says which hash.

    The strongest side comes first.
    """

    index: int
    sides: tuple[tuple[bytes, tuple[bytes, ...]], ...]


class WithdrawalRequested(msgspec.Struct, frozen=True, array_like=True, tag="withdrawal"):
    """Funds left the exchange as leaf `index` of the withdrawal tree."""

    index: int
    account: bytes
    subaccount: int
    asset: str
    amount: bytes
    token: bytes
    recipient: bytes
    transaction_hash: bytes


class CheckpointMade(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint"):
    """The block made a checkpoint, which waits for signatures."""

    checkpoint: Checkpoint


class CheckpointCertified(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint_certified"):
    """A checkpoint has signatures of > 2/3 of the power; the contract will take it."""

    certified: CertifiedCheckpoint


class HandoverCertified(msgspec.Struct, frozen=True, array_like=True, tag="handover_certified"):
    """A handover has signatures of > 2/3 of the set before; the contract will take it."""

    certified: CertifiedHandover


class SealedCommitted(msgspec.Struct, frozen=True, array_like=True, tag="sealed_committed"):
    """An order was committed in the sealed lane; `bond` is held for it."""

    order_id: bytes
    account: bytes
    subaccount: int
    market: str
    commitment: bytes
    bond: bytes
    batch: int


class SealedRevealed(msgspec.Struct, frozen=True, array_like=True, tag="sealed_revealed"):
    """A committed order was revealed in time; its bond came back."""

    order_id: bytes
    account: bytes
    subaccount: int
    market: str
    bond: bytes
    batch: int


class SealedCleared(msgspec.Struct, frozen=True, array_like=True, tag="sealed_cleared"):
    """A batch was cleared in one market at one price; price and lots are 0 if nothing traded."""

    market: str
    batch: int
    price: int
    lots: int
    orders: int


class BondBurnt(msgspec.Struct, frozen=True, array_like=True, tag="bond_burnt"):
    """A committed order was not revealed in time; its bond went to the treasury."""

    order_id: bytes
    account: bytes
    subaccount: int
    market: str
    bond: bytes
    batch: int


Event: TypeAlias = (
    OrderUpdated
    | OrderRejected
    | Trade
    | LevelChanged
    | Transferred
    | AgentApproved
    | AgentRevoked
    | DepositCredited
    | DepositIgnored
    | StakeIgnored
    | DepositDisagreement
    | WithdrawalRequested
    | CheckpointMade
    | CheckpointCertified
    | HandoverCertified
    | StakeChanged
    | StakeRefused
    | StakeReleased
    | ValidatorChanged
    | Slashed
    | Rewarded
    | EpochEnded
    | EpochBegan
    | SealedCommitted
    | SealedRevealed
    | SealedCleared
    | BondBurnt
)
