"""The cut of an epoch: scores, jail, rewards, and the set that comes next.

Rules (PROTOCOL.md P6, consensus.md §3)
    U1. In this order: results of the audits, scores, jail, rewards, what leaves, the next set. All
        of it follows from the state after the cut, what the settlement contract brought included.
    U2. To jail goes who has less than `jail_votes` of the votes of the window, if enough blocks
        were counted. Tenure counts from half as long ago then.
    U3. Rewards are for members of the set that are neither jailed nor tombstoned, by power x score
        after this cut. The validators' pool of fees is paid out in every asset; what can not be
        divided goes to the treasury.
    U4. The reserve pays the inflation of the asset's supply outside of it; when it is empty, there
        is none.
    U5. The next set keeps the order of the present one; newcomers follow by ascending address. Its
        seed is the beacon's value after the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode.consensus.participation.power import cap_ppm, ramp, to_jail
from omninode.consensus.participation.rewards import PPM, divide, divide_inflation, inflation
from omninode.consensus.participation.score import (
    POINTS,
    SERVICES,
    Components,
    Tally,
    blocks_share,
    leader_weight,
    smooth,
    stake_share,
    tenure_share,
    uptime_share,
    votes_share,
)
from omninode.consensus.types import Validator, ValidatorSet
from omninode.dex.fees import VALIDATOR_POOL
from omninode.dex.staking.changes import leave, set_status
from omninode.dex.staking.events import EpochEnded, Rewarded
from omninode.dex.staking.limits import SCORED_BLOCKS_MIN
from omninode.dex.staking.registry import (
    ACTIVE,
    CANDIDATE,
    EXITING,
    JAILED,
    TOMBSTONED,
    UNBONDING,
    EpochReport,
    Member,
)
from omninode.encoding import amount_to_bytes

if TYPE_CHECKING:
    from omninode.dex.state import State


def cut_epoch(state: State, *, height: int, beacon: bytes) -> None:
    """End an epoch: decide the next set and pay for this one (U1)."""
    staking = state.staking
    epochs = staking.epochs
    members = _members(state)
    _take_audits(state, members)
    _score(state, members)
    _jail(state, members)
    paid = _pay(state, members)
    _let_leave(state)
    next_set = _next_set(state, beacon)
    staking.tallies.begin_window()
    staking.tallies_changed = True
    epochs.cut(height, staking.time_ms, next_set)
    state.open_orders.events.append(EpochEnded(epochs.number, next_set.hash, amount_to_bytes(paid)))


def _members(state: State) -> list[tuple[int, Member]]:
    """Return the set's validators by index; one whose stake is all back is none any more."""
    by_address = state.staking.registry.by_address
    found = (by_address(validator.address) for validator in state.validator_set.validators)
    return [(index, member) for index, member in enumerate(found) if member is not None]


def _take_audits(state: State, members: list[tuple[int, Member]]) -> None:
    """Take over the medians of the audits that were shown in this epoch."""
    staking = state.staking
    number = staking.epochs.number
    results = staking.audits.results(number - 1)
    for _, member in members:
        found = results.get(member.address)
        if found:
            dex, ipfs, chat = (
                found.get(service, before)
                for service, before in zip(SERVICES, member.services, strict=True)
            )
            member.services = (dex, ipfs, chat)
            staking.registry.touch(member)
    staking.audits.drop(number)


def stake_cap(state: State) -> int:
    """Return the largest stake that one validator may have now, in whole units."""
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    capped = staking.capped()
    total = sum(staking.stake(member.owner) for member in capped)
    return total * cap_ppm(len(capped)) // PPM // terms.unit


def components(state: State, index: int, member: Member, *, cap: int) -> Components:
    """Return what a validator of the set would get if its window ended now.

    Args:
        state: The state.
        index: The validator's place in the set.
        member: The same one in the registry.
        cap: As `stake_cap` returns it.
    """
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    tally = staking.tallies.tally(index)
    dex, ipfs, chat = member.services
    return Components(
        votes=votes_share(tally.credits, staking.tallies.blocks),
        blocks=blocks_share(tally.done, tally.assigned),
        uptime=uptime_share(tally.sub_windows, staking.tallies.any_windows),
        dex=dex,
        ipfs=ipfs,
        chat=chat,
        stake=stake_share(
            staking.stake(member.owner) // terms.unit, max(1, terms.minimum // terms.unit), cap
        ),
        tenure=0
        if member.status == TOMBSTONED
        else tenure_share(staking.time_ms - member.tenure_from_ms),
    )


def _score(state: State, members: list[tuple[int, Member]]) -> None:
    staking, cap = state.staking, stake_cap(state)
    for index, member in members:
        parts = components(state, index, member, cap=cap)
        tally = staking.tallies.tally(index)
        member.previous = member.report
        member.report = _report(state, parts, tally, member.score)
        member.score = 0 if member.status == TOMBSTONED else smooth(member.score, parts.raw)
        staking.registry.touch(member)


def _report(state: State, parts: Components, tally: Tally, score: int) -> EpochReport:
    tallies = state.staking.tallies
    return EpochReport(
        epoch=state.staking.epochs.number,
        components=tuple(getattr(parts, name) for name in POINTS),
        raw=parts.raw,
        previous_score=score,
        credits=tally.credits,
        blocks=tallies.blocks,
        done=tally.done,
        assigned=tally.assigned,
        sub_windows=tally.sub_windows.bit_count(),
        any_windows=tallies.any_windows.bit_count(),
        reward=amount_to_bytes(0),
    )


def _jail(state: State, members: list[tuple[int, Member]]) -> None:
    """Send to jail who missed too much (U2)."""
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    if staking.tallies.blocks < SCORED_BLOCKS_MIN:
        return
    powers = state.validator_set.powers
    active = {m.address: powers[index] for index, m in members if m.status == ACTIVE}
    candidates = {
        member.address: member.report.components[0]
        for _, member in members
        if member.status == ACTIVE
        and member.report is not None
        and member.report.components[0] < terms.jail_votes
    }
    for address in to_jail(candidates, active):
        member = staking.registry.by_address(address)
        assert member is not None
        tenure_ms = staking.time_ms - member.tenure_from_ms
        member.tenure_from_ms = staking.time_ms - tenure_ms // 2
        member.jailed_epoch = staking.epochs.number
        member.jails += 1
        member.is_synced = False
        set_status(state, member, JAILED, "missed_votes")


def _pay(state: State, members: list[tuple[int, Member]]) -> int:
    """Pay inflation and fees (U3, U4); returns the inflation."""
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    powers = state.validator_set.powers
    paid = [(index, m) for index, m in members if m.status in (ACTIVE, EXITING)]
    weights = {member.owner: powers[index] * member.score for index, member in paid}
    blocks = {member.owner: staking.tallies.tally(index).done for index, member in paid}
    amount = 0
    if terms.reserve is not None:
        reserve = staking.balance(terms.reserve, 0)
        outside = state.bridge.supply(terms.asset) - reserve.free - reserve.held
        amount = inflation(
            outside,
            elapsed_ms=staking.time_ms - staking.epochs.scored_from_ms,
            yearly_ppm=terms.inflation_ppm,
        )
        amount = min(amount, reserve.free) if any(weights.values()) else 0
        state.accounts.debit(reserve, amount)
        division = divide_inflation(amount, blocks=blocks, weights=weights)
        _give(state, terms.asset, division.shares, division.rest)
    pool = state.accounts.find(VALIDATOR_POOL, 0)
    for asset in sorted(pool.balances) if pool is not None else ():
        assert pool is not None
        collected = pool.free(asset)
        if collected and any(weights.values()):
            state.accounts.debit(pool.balance(asset), collected)
            division = divide(collected, weights)
            _give(state, asset, division.shares, division.rest)
    return amount


def _give(state: State, asset: int, shares: dict[bytes, int], rest: int) -> None:
    """Credit shares to owners, and what is left to the treasury."""
    staking, terms, name = state.staking, state.staking.terms, state.genesis.assets[asset].name
    assert terms is not None
    accounts = state.accounts
    for owner, share in shares.items():
        if not share:
            continue
        accounts.credit(accounts.account(owner, 0).balance(asset), share)
        state.open_orders.events.append(Rewarded(owner, name, amount_to_bytes(share)))
        member = staking.registry.members[owner]
        if asset == terms.asset and member.report is not None:
            before = int.from_bytes(member.report.reward, "big")
            member.report = _with_reward(member.report, before + share)
    if rest:
        accounts.credit(accounts.account(terms.treasury, 0).balance(asset), rest)


def _with_reward(report: EpochReport, reward: int) -> EpochReport:
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    return EpochReport(**{**fields, "reward": amount_to_bytes(reward)})


def _let_leave(state: State) -> None:
    """Start the way back of what leaves the set."""
    for member in state.staking.registry:
        if member.status == EXITING:
            leave(state, member)
            set_status(state, member, UNBONDING, "exit")
        elif member.status == TOMBSTONED:
            leave(state, member)


def _next_set(state: State, beacon: bytes) -> ValidatorSet:
    """Return the next set (U5), and let its newcomers be active."""
    staking, terms = state.staking, state.staking.terms
    assert terms is not None
    current = {v.address: v.power for v in state.validator_set.validators}
    wanted = {
        member.address: staking.stake(member.owner) // terms.unit
        for member in staking.registry
        if member.status == ACTIVE or (member.status == CANDIDATE and member.is_synced)
    }
    powers = ramp(current, wanted, terms.max_power_change_ppm)
    order = [address for address in current if address in powers]
    order += sorted(address for address in powers if address not in current)
    before = {validator.address: validator for validator in state.validator_set.validators}
    validators = []
    for address in order:
        member = staking.registry.by_address(address)
        if member is None:  # the last one of a set, whose stake is all back
            validators.append(before[address])
            continue
        if member.status == CANDIDATE:
            set_status(state, member, ACTIVE, "joined")
        validators.append(_validator(member, powers[address]))
    return ValidatorSet(state.validator_set.epoch + 1, tuple(validators), beacon)


def _validator(member: Member, power: int) -> Validator:
    return Validator(
        address=member.address,
        public_key=member.public_key,
        beacon_key=member.beacon_key,
        peer_id=member.peer_id,
        moniker=member.moniker,
        power=power,
        weight=leader_weight(power, member.score),
    )
