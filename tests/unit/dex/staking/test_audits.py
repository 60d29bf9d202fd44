"""Service audits: who examines whom, commitments, verdicts, medians, probes."""

from __future__ import annotations

import pytest

from exchange_world import VALIDATORS, World, make_settled_genesis
from omninode.consensus.participation.audits import audit_commitment
from omninode.consensus.participation.score import NEUTRAL
from omninode.crypto import keccak256
from omninode.dex.staking.limits import PROBES_PER_EPOCH_MAX
from omninode.dex.staking.statements import AuditProbe, CommitAudits, RevealAudits, Verdict
from omninode.encoding import decode, encode
from omninode.errors import Malformed
from staking_world import NEWCOMER, OWNERS, POWER, StakedWorld, make_staked_genesis

SALT = keccak256(b"salt")


@pytest.fixture
def world() -> StakedWorld:
    return StakedWorld(make_staked_genesis((POWER,) * 5))


def verdicts(world: StakedWorld, auditor: bytes, points: int) -> tuple[Verdict, ...]:
    """The same points for the exchange of all that an auditor examines."""
    mine = world.exchange.state.staking.audits.duties(auditor, world.set)
    return tuple((address, "dex", points) for address in sorted(mine))


def commit(world: StakedWorld, auditor: bytes, said: tuple[Verdict, ...]) -> tuple[str, str]:
    value = audit_commitment(auditor, world.number, SALT, encode(said))
    return world.say(auditor, CommitAudits(world.number, value))


def addresses(world: StakedWorld) -> list[bytes]:
    return [validator.address for validator in world.set.validators]


def test_everybody_has_four_auditors_and_examines_four(world: StakedWorld) -> None:
    audits = world.exchange.state.staking.audits
    for address in addresses(world):
        duties = audits.duties(address, world.set)
        assert len(duties) == 4
        assert address not in duties
    assert audits.duties(NEWCOMER.address, world.set) == ()


def test_the_median_of_what_was_committed_is_the_result(world: StakedWorld) -> None:
    points = dict(zip(addresses(world), (90, 80, 100, 0, 70), strict=True))
    said = {address: verdicts(world, address, points[address]) for address in points}
    for address in points:
        assert commit(world, address, said[address]) == ("ok", "")
    world.run_to_epoch(1)
    world.load()
    for address in points:
        assert world.say(address, RevealAudits(0, SALT, said[address])) == ("ok", "")
        assert world.say(address, RevealAudits(0, SALT, said[address]))[1] == "already_revealed"
    world.run_to_epoch(2)
    for owner in OWNERS[:5]:
        member = world.member(owner)
        others = sorted(points[a] for a in points if a != member.address)
        assert member.services == (others[1] * 100, NEUTRAL, NEUTRAL)
        assert member.report is not None
        assert member.report.components[3] == others[1] * 100
    world.load()
    kept = [member.services for member in world.exchange.state.staking.registry]
    world.run_to_epoch(3)
    assert [m.services for m in world.exchange.state.staking.registry] == kept


def test_a_minority_moves_nothing(world: StakedWorld) -> None:
    liars = addresses(world)[:2]
    said = {address: verdicts(world, address, 0) for address in liars}
    for address in liars:
        commit(world, address, said[address])
    world.run_to_epoch(1)
    for address in liars:
        assert world.say(address, RevealAudits(0, SALT, said[address])) == ("ok", "")
    world.run_to_epoch(2)
    assert {world.member(owner).services for owner in OWNERS[:5]} == {(NEUTRAL,) * 3}


def test_what_comes_late_or_differs_is_refused(world: StakedWorld) -> None:
    auditor, other = addresses(world)[:2]
    said = verdicts(world, auditor, 50)
    assert world.say(auditor, CommitAudits(1, SALT))[1] == "wrong_epoch"
    assert commit(world, auditor, said) == ("ok", "")
    assert commit(world, auditor, said)[1] == "already_committed"
    assert world.say(auditor, RevealAudits(0, SALT, said))[1] == "wrong_epoch"
    world.run_to_epoch(1)
    assert world.say(auditor, RevealAudits(0, bytes(32), said))[1] == "wrong_reveal"
    raised = verdicts(world, auditor, 51)
    assert world.say(auditor, RevealAudits(0, SALT, raised))[1] == "wrong_reveal"
    assert world.say(other, RevealAudits(0, SALT, said))[1] == "no_commitment"
    while world.apply().cut is None:
        pass
    world._is_sealing = False
    assert world.say(auditor, RevealAudits(0, SALT, said))[1] == "too_late"


def test_a_verdict_about_somebody_else_is_refused(world: StakedWorld) -> None:
    auditor = addresses(world)[0]
    said: tuple[Verdict, ...] = ((auditor, "dex", 100),)
    commit(world, auditor, said)
    world.run_to_epoch(1)
    assert world.say(auditor, RevealAudits(0, SALT, said))[1] == "not_a_duty"


def test_verdicts_have_one_form() -> None:
    twice: tuple[Verdict, ...] = ((bytes(20), "dex", 1), (bytes(20), "dex", 2))
    with pytest.raises(ValueError, match="ascend"):
        RevealAudits(0, SALT, twice)
    raw = encode((16, 0, SALT, ((bytes(20), "mail", 1),)))
    with pytest.raises(Malformed):
        decode(raw, RevealAudits, size_max=1_000)


def test_probes_are_bounded_and_about_ones_duties(world: StakedWorld) -> None:
    auditor = addresses(world)[0]
    audited = world.exchange.state.staking.audits.duties(auditor, world.set)[0]
    assert world.say(auditor, AuditProbe(0, auditor, SALT))[1] == "not_a_duty"
    assert world.say(auditor, AuditProbe(3, audited, SALT))[1] == "wrong_epoch"
    probe = AuditProbe(0, audited, SALT)
    body = [world.transaction(auditor, probe) for _ in range(PROBES_PER_EPOCH_MAX + 1)]
    results = world.apply(*body).results
    assert [r.code for r in results[:-1]] == ["ok"] * PROBES_PER_EPOCH_MAX
    assert results[-1].reason == "too_many_probes"
    world.load()
    world.run_to_epoch(1)
    assert not world.exchange.state.staking.audits.probes
    world.load()


def test_without_staking_there_are_no_statements() -> None:
    world = World(make_settled_genesis())
    action = CommitAudits(0, SALT)
    assert world.do(VALIDATORS[0].address, action).reason == "no_staking"
