"""What staking does in a block: validators' own statements, and the end of the block.

Rules
    X1. At the end of a block the block is counted, stake whose time is over goes back, and behind a
        sealing block the next set takes over. Then what the settlement chain brings is credited.
        The cut, if this is one, comes after that, and a checkpoint is made last of all.
    X2. The set that takes over judges deposits and checkpoints from the end of that same block on:
        so no deposit waits that has its quorum already.
    X3. Stake that comes back leaves as a withdrawal to its owner, without one asking; where there
        is no settlement, or no token, it becomes free.
    X4. A candidate may say that it is synced, members of the set may say everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from omninode.consensus.participation.audits import AUDITORS_MAX, audit_commitment
from omninode.consensus.participation.score import SUB_WINDOWS
from omninode.crypto import ZERO_HASH, parse_address
from omninode.dex.bridge.evm import state_leaf
from omninode.dex.bridge.merkle import root_of
from omninode.dex.events import WithdrawalRequested
from omninode.dex.outcomes import EpochCut
from omninode.dex.staking.audits import AuditRecord
from omninode.dex.staking.cut import cut_epoch
from omninode.dex.staking.events import EpochBegan, StakeReleased
from omninode.dex.staking.limits import PROBES_PER_EPOCH_MAX
from omninode.dex.staking.registry import CANDIDATE, UNBONDING, Member
from omninode.dex.staking.slashing import report_evidence
from omninode.dex.staking.state import BONDED, UNBONDING_PART
from omninode.dex.staking.statements import (
    AuditProbe,
    CommitAudits,
    ReportEvidence,
    RevealAudits,
    Synced,
)
from omninode.dex.staking.unbonding import Unbonding
from omninode.encoding import amount_to_bytes, encode
from omninode.errors import BrokenInvariant, Rejected

if TYPE_CHECKING:
    from omninode.dex.outcomes import BlockInput
    from omninode.dex.state import Context, State

Statement: TypeAlias = Synced | ReportEvidence | CommitAudits | RevealAudits | AuditProbe


def state_it(state: State, context: Context, action: Statement) -> None:
    """Take a validator's statement; whoever calls has checked that it may speak (X4).

    Raises:
        Rejected: `no_staking`, `not_candidate`, `already_synced`, `wrong_epoch`, `no_duties`,
            `already_committed`, `no_commitment`, `already_revealed`, `wrong_reveal`, `too_late`,
            `not_a_duty`, `too_many_probes`, or as `report_evidence`.
    """
    if not state.staking.is_on:
        raise Rejected("no_staking", "the network has no staking")
    if isinstance(action, Synced):
        _synced(state, context.account)
    elif isinstance(action, ReportEvidence):
        report_evidence(state, action)
    elif isinstance(action, CommitAudits):
        _commit(state, context.account, action)
    elif isinstance(action, RevealAudits):
        _reveal(state, context.account, action)
    else:
        _probe(state, context.account, action)


def _synced(state: State, account: bytes) -> None:
    registry = state.staking.registry
    member = registry.by_address(account)
    if member is None or member.status != CANDIDATE:
        raise Rejected("not_candidate", "only a candidate says that it has caught up")
    if member.is_synced:
        raise Rejected("already_synced", "it said so before")
    member.is_synced = True
    registry.touch(member)


def _commit(state: State, auditor: bytes, action: CommitAudits) -> None:
    staking = state.staking
    if action.epoch != staking.epochs.number:
        raise Rejected("wrong_epoch", f"this is epoch {staking.epochs.number}")
    if (action.epoch, auditor) in staking.audits.records:
        raise Rejected("already_committed", "one commitment an epoch")
    duties = staking.audits.duties(auditor, state.validator_set)
    if not duties:
        raise Rejected("no_duties", "the beacon gave it nobody to examine")
    count = min(AUDITORS_MAX, len(state.validator_set.validators) - 1)
    staking.audits.put(action.epoch, auditor, AuditRecord(action.hash, duties, count))


def _reveal(state: State, auditor: bytes, action: RevealAudits) -> None:
    epochs, audits = state.staking.epochs, state.staking.audits
    if action.epoch != epochs.number - 1:
        raise Rejected("wrong_epoch", f"the audits of epoch {epochs.number - 1} are shown now")
    if epochs.next_set is not None:
        raise Rejected("too_late", "the cut has counted them already")
    record = audits.records.get((action.epoch, auditor))
    if record is None:
        raise Rejected("no_commitment", "it committed to nothing in that epoch")
    if record.is_shown:
        raise Rejected("already_revealed", "once is enough")
    verdicts = encode(action.verdicts)
    if audit_commitment(auditor, action.epoch, action.salt, verdicts) != record.hash:
        raise Rejected("wrong_reveal", "that is not what it committed to")
    if any(verdict[0] not in record.duties for verdict in action.verdicts):
        raise Rejected("not_a_duty", "a verdict about somebody it was not to examine")
    shown = AuditRecord(record.hash, record.duties, record.auditors, action.verdicts, is_shown=True)
    audits.put(action.epoch, auditor, shown)


def _probe(state: State, auditor: bytes, action: AuditProbe) -> None:
    epochs, audits = state.staking.epochs, state.staking.audits
    if action.epoch != epochs.number:
        raise Rejected("wrong_epoch", f"this is epoch {epochs.number}")
    if action.audited not in audits.duties(auditor, state.validator_set):
        raise Rejected("not_a_duty", "it was not to examine that validator")
    if audits.probes.get(auditor, 0) >= PROBES_PER_EPOCH_MAX:
        raise Rejected("too_many_probes", f"{PROBES_PER_EPOCH_MAX} an epoch")
    audits.add_probe(auditor)


def begin_block(state: State, time_ms: int) -> None:
    """Let the block's statements know its time."""
    state.staking.time_ms = time_ms


def end_block(state: State, block: BlockInput) -> None:
    """Do what a block's end brings (X1).

    Raises:
        BrokenInvariant: The block seals an epoch that nothing was decided for.
    """
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    epochs = staking.epochs
    part_ms = max(1, terms.epoch_ms // SUB_WINDOWS)
    staking.tallies.count(block, max(0, block.time_ms - epochs.scored_from_ms) // part_ms)
    staking.tallies_changed = True
    while (due := staking.unbondings.due(block.time_ms)) is not None:
        _release(state, *due)
    if block.seals:
        if epochs.next_set is None:
            raise BrokenInvariant(f"block {block.height} seals an epoch that has no cut")
        _begin_epoch(state, block)


def cut_if_due(state: State, block: BlockInput) -> None:
    """Decide the next epoch if this block is the present one's cut (X1)."""
    terms = state.staking.terms
    assert terms is not None
    if not block.seals and state.epochs.is_cut(
        block.height, block.time_ms, epoch_ms=terms.epoch_ms, blocks_min=terms.blocks_min
    ):
        cut_epoch(state, height=block.height, beacon=block.beacon)


def _begin_epoch(state: State, block: BlockInput) -> None:
    """Let the next set take over (X2)."""
    staking = state.staking
    epochs, after = staking.epochs, staking.epochs.next_set
    assert after is not None
    epochs.begin(block.height, block.time_ms)
    staking.audits.begin_epoch()
    staking.tallies.begin_epoch(after)
    state.validator_set = after
    state.open_orders.events.append(EpochBegan(after.epoch, after.hash))


def _release(state: State, number: int, part: Unbonding) -> None:
    """Give a part of a stake back (X3)."""
    staking, terms, bridge = state.staking, state.staking.terms, state.bridge
    assert terms is not None
    owner, amount = part.owner, part.amount
    staking.unbondings.remove(number)
    state.accounts.debit(staking.balance(owner, UNBONDING_PART), amount)
    token = state.genesis.asset_token(terms.asset_name) if bridge.is_on else None
    if token is None:
        state.accounts.credit(staking.balance(owner, 0), amount)
    else:
        bridge.add_withdrawn(terms.asset, amount)
        state.open_orders.events.append(
            WithdrawalRequested(
                bridge.withdrawals.request(token, owner, amount),
                owner,
                UNBONDING_PART,
                terms.asset_name,
                amount_to_bytes(amount),
                token,
                owner,
                ZERO_HASH,
            )
        )
    released = StakeReleased(owner, amount_to_bytes(amount), token is not None)
    state.open_orders.events.append(released)
    member = staking.registry.of(owner)
    if member is not None and member.status == UNBONDING and not staking.unbonding(owner):
        staking.registry.remove(member)


def cut_of(state: State, height: int) -> EpochCut | None:
    """Return what the block of this height decided about the next epoch, if it is the cut."""
    epochs = state.staking.epochs
    if epochs.next_set is None or epochs.cut_height != height:
        return None
    return EpochCut(height, balances_root(state), epochs.next_set)


def balances_root(state: State) -> bytes:
    """Return the root over everybody's balances after a cut, as checkpoints have it.

    Without settlement no balance has a place in a tree of its own: the leaves stand in the order
    of their record keys then.
    """
    if state.bridge.is_on:
        return state.bridge.balances.root()
    owned = [
        balance
        for owner in state.accounts.owners.values()
        for account in owner.subaccounts.values()
        for balance in account.balances.values()
        if balance.free or balance.held
    ]
    owned.sort(key=lambda balance: balance.key)
    return root_of(
        state_leaf(
            index,
            balance.key[:20],
            int.from_bytes(balance.key[20:22], "big"),
            state.bridge.tokens[balance.asset],
            balance.free + balance.held,
        )
        for index, balance in enumerate(owned)
    )


def credit_genesis(state: State) -> None:
    """Bond the stakes of genesis and register their validators."""
    staking, genesis = state.staking, state.genesis
    terms = staking.terms
    if terms is None:
        return
    members = []
    for entry, validator in zip(genesis.validators, genesis.validator_set.validators, strict=True):
        owner = parse_address(entry.owner or entry.address)
        state.accounts.credit(staking.balance(owner, BONDED), validator.power * terms.unit)
        members.append(
            Member(
                owner=owner,
                address=validator.address,
                public_key=validator.public_key,
                beacon_key=validator.beacon_key,
                peer_id=validator.peer_id,
                moniker=validator.moniker,
                registered_ms=genesis.genesis_time_ms,
                status=CANDIDATE,
                tenure_from_ms=genesis.genesis_time_ms,
            )
        )
    staking.add_first(members)
    staking.epochs.is_changed = True
    staking.tallies_changed = True
