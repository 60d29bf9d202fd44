"""The shapes of results about the settlement chain, like those in `results`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

from omninode.node.rpc.ports import SettlementState

NextIndex = Annotated[
    int | None, msgspec.Meta(description="Give it as `before` for the next page; null at the end.")
]
Units = Annotated[str, msgspec.Meta(description="An amount in the token's base units.")]


class DisagreementSide(TypedDict):
    """The validators who attest one version of the deposits."""

    hash: str
    validators: list[str]


class DisagreementShown(TypedDict):
    """The first deposit that validators see differently, the strongest side first."""

    index: int
    sides: list[DisagreementSide]


class SettlementShown(TypedDict):
    """How the node fares with the settlement chain.

    `chain_height` is the newest block seen there, `confirmed_height` the newest acted upon,
    `deposits` how many are confirmed, `checkpoint` the newest that the contract holds, `certified`
    the newest that has its signatures. `deposit_disagreement` is about what validators attest.
    """

    state: SettlementState
    detail: str
    chain_id: int
    contract: str
    chain_height: int | None
    confirmed_height: int | None
    deposits: int
    checkpoint: int | None
    certified: int | None
    deposit_disagreement: DisagreementShown | None


class DepositShown(TypedDict):
    """A deposit; `index` counts the contract's deposits from 0, `address` names the subaccount.

    One that is `ignored` was of a token that no asset has: `asset` is null, `amount` in base units.
    """

    index: int
    address: str
    asset: str | None
    token: str
    amount: str
    height: int
    time_ms: int
    state: Literal["credited", "ignored"]


class Deposits(TypedDict):
    """An account's deposits, newest first; `credited_count` counts everybody's."""

    height: int
    address: str
    credited_count: int
    deposits: list[DepositShown]
    next: NextIndex


class WithdrawalShown(TypedDict):
    """A withdrawal; `id` is its index in the withdrawal tree.

    It is `requested`, then `checkpointed` (signed by the validators), then `claimable` (the
    contract holds the checkpoint: `omni_getWithdrawalProof`), then `claimed` (paid out).
    """

    id: int
    address: str
    asset: str
    token: str
    amount: str
    recipient: str
    height: int
    time_ms: int
    transaction: str
    state: Literal["requested", "checkpointed", "claimable", "claimed"]


class Withdrawals(TypedDict):
    """An account's withdrawals, newest first."""

    height: int
    address: str
    withdrawals: list[WithdrawalShown]
    next: NextIndex


class CheckpointShown(TypedDict):
    """A certified checkpoint, with everything that `submitCheckpoint` of the contract takes.

    `set` has a word per validator (address, then power in 96 bits), bit i of `bitmap` says that
    validator i signed, `signatures` are theirs in that order, 64 bytes each (EIP-2098), over
    `digest`. `submitted`: whether the contract holds this one or a newer one; null if unknown.
    """

    number: int
    epoch: int
    height: int
    time_ms: int
    state_root: str
    withdrawal_root: str
    withdrawal_count: int
    fee_root: str
    deposit_count: int
    deposit_hash: str
    digest: str
    set: list[str]
    bitmap: str
    signatures: list[str]
    contract: str
    chain_id: int
    submitted: bool | None


class WithdrawalProof(TypedDict):
    """What `withdraw` of the contract takes to pay a withdrawal out; anybody may call it.

    `calldata` is the whole call, ready to be sent to `contract`. `checkpoint` is the contract's own
    struct: its member names (`timeMs`, `stateRoot`) in its order. `amount_units` is the `amount` in
    the token's base units, as the call has it.
    """

    id: int
    index: int
    asset: str
    token: str
    recipient: str
    amount: str
    amount_units: Units
    leaf: str
    proof: list[str]
    checkpoint: dict[str, Any]
    contract: str
    chain_id: int
    calldata: str


class AssetSupply(TypedDict):
    """Of one asset: all balances now, those of genesis, and what came in and went out since."""

    asset: str
    token: str | None
    decimals: int
    exchange: str
    genesis: str
    credited: str
    withdrawn: str


class DepositCursor(TypedDict):
    """How many deposits are credited, and the contract's hash over them."""

    count: int
    hash: str


class WithdrawalCount(TypedDict):
    """How many withdrawals there are."""

    count: int


class Supply(TypedDict):
    """What the exchange owes. `exchange` = `genesis` + `credited` - `withdrawn`, summed apart."""

    height: int
    block_time_ms: int
    assets: list[AssetSupply]
    deposits: DepositCursor
    withdrawals: WithdrawalCount
