"""The actions about the settlement chain, and what the end of a block does for it.

Rules
    X1. Deposits are credited at the end of the block in which they got their quorum, so their order
        depends on their numbers alone.
    X2. A deposit that no balance can take (no asset has its token, or the asset's supply would
        leave 128 bits) is passed over with an event; the cursor goes on. A subaccount out of range
        becomes subaccount 0.
    X3. An entry of stake goes to the registry of validators. What came in with one that is taken is
        the owner's stake (`STAKE_SUBACCOUNT`); with one that is not, it is a deposit to the owner.
    X4. A checkpoint is made last: its roots are those of the state after the block.

Without settlement none of this runs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from omninode.dex.actions import (
    SUBACCOUNT_MAX,
    AttestDeposits,
    SignCheckpoint,
    SignHandover,
    Withdraw,
)
from omninode.dex.bridge.balance_tree import NO_LEAF
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.deposits import (
    KINDS_WITH_MONEY,
    CreditableDeposit,
    Cursor,
    Deposit,
)
from omninode.dex.bridge.evm import STAKE_SUBACCOUNT, ZERO_ADDRESS, fee_leaf
from omninode.dex.bridge.merkle import root_of
from omninode.dex.bridge.stake_proofs import StakeLeaf
from omninode.dex.decimals import AMOUNT_LIMIT
from omninode.dex.events import (
    CheckpointCertified,
    CheckpointMade,
    DepositCredited,
    DepositDisagreement,
    DepositIgnored,
    HandoverCertified,
    StakeIgnored,
    WithdrawalRequested,
)
from omninode.dex.fees import VALIDATOR_POOL
from omninode.dex.staking.changes import take_change
from omninode.dex.staking.statements import Synced
from omninode.dex.transaction import check_withdrawal
from omninode.encoding import amount_from_bytes, amount_to_bytes
from omninode.errors import Rejected

if TYPE_CHECKING:
    from omninode.dex.actions import Action
    from omninode.dex.state import Context, State


def withdraw(state: State, context: Context, action: Withdraw) -> None:
    """Take free funds out of the exchange; only the account's own key may (PROTOCOL.md P4).

    Raises:
        Rejected: `not_authorised`, `insufficient_balance`, or as `check_withdrawal`.
    """
    if context.permissions is not None:
        raise Rejected("not_authorised", "only the account's own key withdraws")
    token, amount = check_withdrawal(action, state.genesis)
    asset = state.genesis.asset_index[action.asset]
    source = state.accounts.find(context.account, action.subaccount)
    if source is None or source.free(asset) < amount:
        raise Rejected("insufficient_balance", f"not enough free {action.asset}")
    state.accounts.debit(source.balance(asset), amount)
    state.bridge.add_withdrawn(asset, amount)
    state.open_orders.events.append(
        WithdrawalRequested(
            state.bridge.withdrawals.request(token, action.recipient, amount),
            context.account,
            action.subaccount,
            action.asset,
            amount_to_bytes(amount),
            token,
            action.recipient,
            context.transaction_hash,
        )
    )


def may_state(state: State, account: bytes, action: Action) -> bool:
    """Whether a validator's statement may come from this account: from the current set.

    A handover may be signed as well by one who has left, as long as it waits for that signature,
    and a candidate for the set says that it has caught up.
    """
    if state.validator_set.index_of(account) is not None:
        return True
    if isinstance(action, Synced):
        return state.staking.is_candidate(account)
    return isinstance(action, SignHandover) and state.bridge.handovers.awaits(account)


def attest_deposits(state: State, context: Context, action: AttestDeposits) -> None:
    """Take a validator's word on deposits; whoever calls has checked that it is one.

    Raises:
        Rejected: `no_settlement`, or as `Deposits.attest`.
    """
    _check_is_on(state)
    end = Cursor(action.count, action.hash)
    state.bridge.deposits.attest(
        context.account, end, parent=action.parent, deposits=action.deposits
    )


def sign_checkpoint(state: State, context: Context, action: SignCheckpoint) -> None:
    """Take a validator's signature of a checkpoint; whoever calls has checked that it is one.

    Raises:
        Rejected: `no_settlement`, or as `Checkpoints.sign`.
    """
    _check_is_on(state)
    certified = state.bridge.checkpoints.sign(
        action.number,
        action.signature,
        signer=context.account,
        validator_set=state.validator_set,
    )
    if certified is not None:
        state.open_orders.events.append(CheckpointCertified(certified))


def sign_handover(state: State, context: Context, action: SignHandover) -> None:
    """Take a signature of a handover to the next validators.

    Raises:
        Rejected: `no_settlement`, or as `Handovers.sign`.
    """
    _check_is_on(state)
    certified = state.bridge.handovers.sign(
        action.next_epoch, action.signature, signer=context.account
    )
    if certified is not None:
        state.open_orders.events.append(HandoverCertified(certified))


def credit(state: State) -> None:
    """Take what has its quorum out of the log at the end of a block (X1)."""
    bridge = state.bridge
    for creditable in bridge.deposits.settle(state.validator_set):
        _credit(state, creditable)
    state.open_orders.events += [
        DepositDisagreement(disagreement.index, disagreement.sides)
        for disagreement in bridge.deposits.new_disagreements
    ]


def end_block(state: State, height: int, time_ms: int) -> None:
    """Follow the validator set, and make a checkpoint if one is due; nothing follows (X4)."""
    bridge = state.bridge
    bridge.balances.touch(state.accounts.dirty)
    if state.epochs.next_set is not None:
        bridge.handovers.propose(state.epochs.next_set)
    has_moved = bridge.handovers.move(state.validator_set)
    if has_moved:
        bridge.checkpoints.drop_pending()
    if has_moved or bridge.checkpoints.is_due(time_ms):
        checkpoint = _checkpoint(state, height, time_ms)
        bridge.checkpoints.add(checkpoint)
        bridge.stake_proofs.make(checkpoint, partial(_stake_leaf, state))
        state.open_orders.events.append(CheckpointMade(checkpoint))


def _stake_leaf(state: State, owner: bytes) -> StakeLeaf | None:
    """Return an owner's stake in the tree of the checkpoint just made."""
    asset = state.genesis.asset_by_token.get(state.genesis.stake_token or ZERO_ADDRESS)
    account = state.accounts.find(owner, STAKE_SUBACCOUNT)
    balance = None if account is None or asset is None else account.balances.get(asset)
    if balance is None or balance.leaf == NO_LEAF:
        return None
    siblings = state.bridge.balances.proof(balance)
    return StakeLeaf(balance.leaf, balance.free + balance.held, siblings)


def _check_is_on(state: State) -> None:
    if not state.bridge.is_on:
        raise Rejected("no_settlement", "the network has no settlement chain")


def _credit(state: State, creditable: CreditableDeposit) -> None:
    """Take a log entry that has its quorum, or pass it over (X2, X3)."""
    index, entry = creditable.index, creditable.deposit
    if isinstance(entry, Deposit):
        _credit_deposit(state, index, entry)
        return
    reason = take_change(state, entry)
    if not reason:
        return
    state.open_orders.events.append(
        StakeIgnored(index, entry.owner, entry.kind, entry.amount, reason)
    )
    token = state.genesis.stake_token
    if entry.kind in KINDS_WITH_MONEY:
        deposit = Deposit(token or ZERO_ADDRESS, entry.owner, 0, entry.amount)
        _credit_deposit(state, index, deposit)


def _credit_deposit(state: State, index: int, deposit: Deposit) -> None:
    """Credit a deposit, or pass it over (X2)."""
    bridge, genesis = state.bridge, state.genesis
    asset = genesis.asset_by_token.get(deposit.token)
    amount = amount_from_bytes(deposit.amount)
    if asset is None or bridge.supply(asset) + amount >= AMOUNT_LIMIT:
        state.open_orders.events.append(
            DepositIgnored(index, deposit.token, deposit.account, deposit.amount)
        )
        return
    subaccount = deposit.subaccount if deposit.subaccount <= SUBACCOUNT_MAX else 0
    account = state.accounts.account(deposit.account, subaccount)
    state.accounts.credit(account.balance(asset), amount)
    bridge.add_credited(asset, amount)
    state.open_orders.events.append(
        DepositCredited(
            index,
            deposit.account,
            subaccount,
            genesis.assets[asset].name,
            deposit.amount,
            deposit.token,
        )
    )


def _checkpoint(state: State, height: int, time_ms: int) -> Checkpoint:
    """Return the checkpoint of the state after a block (X4)."""
    bridge = state.bridge
    credited = bridge.deposits.credited
    return Checkpoint(
        number=bridge.checkpoints.number + 1,
        epoch=bridge.handovers.epoch,
        height=height,
        time_ms=time_ms,
        state_root=bridge.balances.root(),
        withdrawal_root=bridge.withdrawals.root(),
        withdrawal_count=bridge.withdrawals.count,
        fee_root=fee_root(state),
        deposit_count=credited.count,
        deposit_hash=credited.hash,
    )


def fee_root(state: State) -> bytes:
    """Return the root over what the validators have collected, a leaf per asset of genesis."""
    pool = state.accounts.find(VALIDATOR_POOL, 0)
    return root_of(
        fee_leaf(asset, VALIDATOR_POOL, token, 0 if pool is None else pool.free(asset))
        for asset, token in enumerate(state.bridge.tokens)
    )
