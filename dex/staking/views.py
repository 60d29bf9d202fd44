"""Validators, their stakes and what their scores are made of, as JSON-ready documents.

Scores and points are decimal text of a hundred, shares are per cent, stakes whole units of the
stake's asset. Without staking there are no stakes, and scores are what everybody began with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode.consensus.participation.score import CREDIT_FULL, POINTS, SERVICES, Components
from omninode.consensus.types import FIRST_SCORE, Validator
from omninode.crypto import checksum_address
from omninode.dex.decimals import format_units
from omninode.dex.staking.cut import components, stake_cap
from omninode.dex.staking.registry import ACTIVE, JAILED, EpochReport, Member
from omninode.encoding import amount_from_bytes

if TYPE_CHECKING:
    from omninode.dex.state import State

Document = dict[str, Any]

_SCORE_DECIMALS: Final = 2
_DAY_MS: Final = 86_400_000


def score_text(score: int) -> str:
    """Write basis points as points of a hundred, or as per cent."""
    return format_units(score, _SCORE_DECIMALS)


def score_of(state: State, address: bytes) -> int:
    """Return a validator's score in basis points."""
    member = state.staking.registry.by_address(address)
    return FIRST_SCORE if member is None else member.score


def is_jailed(state: State, address: bytes) -> bool:
    """Whether the next set goes on without a validator that missed too much."""
    member = state.staking.registry.by_address(address)
    return member is not None and member.status == JAILED


def find_member(state: State, address: bytes) -> Member | None:
    """Return a validator by the address of its vote key, or of its owner."""
    registry = state.staking.registry
    return registry.by_address(address) or registry.of(address)


def validator_documents(state: State) -> list[Document]:
    """Return the set in its order, then everybody else who is registered, by owner."""
    members = state.validator_set.validators
    rows = [_validator(state, v, state.staking.registry.by_address(v.address)) for v in members]
    present = {validator.address for validator in members}
    rows += [
        _validator(state, _outside(member), member)
        for member in state.staking.registry
        if member.address not in present
    ]
    return rows


def _outside(member: Member) -> Validator:
    """Return a registered validator as it is while no set has it."""
    return Validator(
        address=member.address,
        public_key=member.public_key,
        beacon_key=member.beacon_key,
        peer_id=member.peer_id,
        moniker=member.moniker,
        power=0,
        weight=0,
    )


def _validator(state: State, validator: Validator, member: Member | None) -> Document:
    next_set = state.epochs.next_set
    following = {} if next_set is None else {v.address: v.power for v in next_set.validators}
    score = FIRST_SCORE if member is None else member.score
    report = None if member is None else member.report
    return {
        "address": checksum_address(validator.address),
        "moniker": validator.moniker,
        "power": validator.power,
        "next_power": None if next_set is None else following.get(validator.address, 0),
        "public_key": "0x" + validator.public_key.hex(),
        "beacon_key": "0x" + validator.beacon_key.hex(),
        "peer_id": validator.peer_id,
        "score": score_text(score),
        "jailed": member is not None and member.status == JAILED,
        "status": ACTIVE if member is None else member.status,
        "owner": None if member is None else checksum_address(member.owner),
        "stake": None if member is None else _units(state, state.staking.stake(member.owner)),
        "unbonding": None
        if member is None
        else _units(state, state.staking.unbonding(member.owner)),
        "synced": member is None or member.is_synced,
        "components": None if report is None else _points(report),
    }


def _units(state: State, amount: int) -> str:
    terms = state.staking.terms
    assert terms is not None
    return format_units(amount, state.genesis.assets[terms.asset].decimals)


def _points(report: EpochReport) -> Document:
    return {
        name: score_text(share * points // 100)
        for (name, points), share in zip(POINTS.items(), report.components, strict=True)
    }


def participation_document(state: State, member: Member) -> Document:
    """Return what a validator's score is made of, and what moved it at the last cut.

    `components` are those of the last cut, with the change since the one before; `running` are what
    they would be if the epoch were cut now, for members of the set.
    """
    epochs, report, before = state.epochs, member.report, member.previous
    index = state.validator_set.index_of(member.address)
    running = None if index is None else components(state, index, member, cap=stake_cap(state))
    return {
        "epoch": epochs.number,
        "scored_from_ms": epochs.scored_from_ms,
        "address": checksum_address(member.address),
        "owner": checksum_address(member.owner),
        "moniker": member.moniker,
        "status": member.status,
        "power": 0 if index is None else state.validator_set.validators[index].power,
        "leader_weight": 0 if index is None else state.validator_set.validators[index].weight,
        "score": score_text(member.score),
        "previous_score": None if report is None else score_text(report.previous_score),
        "raw": None if report is None else score_text(report.raw),
        "scored_epoch": None if report is None else report.epoch,
        "reward": None if report is None else _units(state, amount_from_bytes(report.reward)),
        "jailed_epoch": member.jailed_epoch if member.status == JAILED else None,
        "jails": member.jails,
        "registered_ms": member.registered_ms,
        "components": [] if report is None else _reported(state, member, report, before),
        "running": [] if running is None else _running(state, member, running, index),
    }


def _reported(
    state: State, member: Member, report: EpochReport, before: EpochReport | None
) -> list[Document]:
    inputs = _inputs(state, member, report)
    rows = []
    for place, (name, most) in enumerate(POINTS.items()):
        share = report.components[place]
        earlier = None if before is None else before.components[place]
        change = None if earlier is None else share * most // 100 - earlier * most // 100
        rows.append(_component(name, share, change, inputs[name]))
    return rows


def _running(state: State, member: Member, parts: Components, index: int | None) -> list[Document]:
    assert index is not None
    tallies, report = state.staking.tallies, member.report
    tally = tallies.tally(index)
    now = EpochReport(
        epoch=state.epochs.number,
        components=tuple(getattr(parts, name) for name in POINTS),
        raw=parts.raw,
        previous_score=member.score,
        credits=tally.credits,
        blocks=tallies.blocks,
        done=tally.done,
        assigned=tally.assigned,
        sub_windows=tally.sub_windows.bit_count(),
        any_windows=tallies.any_windows.bit_count(),
        reward=bytes(16),
    )
    return _reported(state, member, now, report)


def _component(name: str, share: int, change: int | None, why: str) -> Document:
    most = POINTS[name]
    sign = "+" if change is not None and change > 0 else ""
    text = None
    if change is not None:
        digits = format_units(abs(change), _SCORE_DECIMALS)
        text = f"-{digits}" if change < 0 else sign + digits
    return {
        "name": name,
        "points": score_text(share * most // 100),
        "of": most,
        "share": score_text(share),
        "change": text,
        "why": why,
    }


def _inputs(state: State, member: Member, report: EpochReport) -> dict[str, str]:
    """Say what each component was made of."""
    terms = state.staking.terms
    assert terms is not None
    stake = _units(state, state.staking.stake(member.owner))
    days = max(0, state.staking.time_ms - member.tenure_from_ms) // _DAY_MS
    inputs = {
        "votes": f"{report.credits} of {CREDIT_FULL * report.blocks} credits for votes on "
        f"{report.blocks} blocks",
        "blocks": f"{report.done} of {report.assigned} led views became blocks",
        "uptime": f"votes in {report.sub_windows} of {report.any_windows} parts of the epoch",
        "stake": f"{stake} {terms.asset_name} staked, between the minimum and the cap",
        "tenure": f"{days} days of tenure; a jail halves it",
    }
    return inputs | dict.fromkeys(SERVICES, "the last audits' median, or half while there is none")
