"""What is shown of validators, checked against the types that the interface promises."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange_world import VALIDATORS, World
from omninode.consensus.types import VoteKind
from omninode.crypto import checksum_address
from omninode.dex.bridge.deposits import EXIT, REGISTER
from omninode.dex.documents import event_document
from omninode.dex.staking.statements import ReportEvidence
from omninode.dex.staking.views import (
    find_member,
    participation_document,
    validator_documents,
)
from staking_world import (
    NEWCOMER,
    OWNERS,
    POWER,
    StakedWorld,
    change,
    identity_of,
    make_staked_genesis,
    vote,
)


@pytest.fixture
def world() -> StakedWorld:
    return StakedWorld(make_staked_genesis(settled=True))


def participation(world: StakedWorld, owner: bytes) -> dict[str, Any]:
    return participation_document(world.exchange.state, world.member(owner))


def test_everybody_registered_is_listed_members_first(world: StakedWorld) -> None:
    world.bring(change(REGISTER, OWNERS[9], POWER, identity_of(world, OWNERS[9])))
    world.bring(change(EXIT, OWNERS[2]))
    rows = validator_documents(world.exchange.state)
    assert [row["status"] for row in rows] == ["active", "active", "exiting", "active", "candidate"]
    assert rows[0]["stake"] == str(POWER)
    assert rows[0]["score"] == "50"
    assert rows[0]["components"] is None
    assert rows[0]["next_power"] is None
    assert rows[4] | {"power": 0, "synced": False, "moniker": "newcomer"} == rows[4]
    while world.apply().cut is None:
        pass
    assert [row["next_power"] for row in validator_documents(world.exchange.state)] == [
        POWER, POWER, 0, POWER, 0,
    ]  # fmt: skip
    world.run_to_epoch(1)
    rows = validator_documents(world.exchange.state)
    assert [row["power"] for row in rows] == [POWER] * 3 + [0] * 2
    assert rows[0]["components"]["votes"] == "35"


def test_a_score_is_explained_component_by_component(world: StakedWorld) -> None:
    first = participation(world, OWNERS[0])
    assert first["components"] == []
    assert [row["name"] for row in first["running"]] == [
        "votes", "blocks", "uptime", "dex", "ipfs", "chat", "stake", "tenure",
    ]  # fmt: skip
    world.run_to_epoch(1)
    world.present = (0, 1, 2)
    world.run_to_epoch(2)
    for owner in OWNERS[:4]:
        shown = participation(world, owner)
        report = world.member(owner).report
        assert report is not None
        assert shown["scored_epoch"] == 1
        points = sum(float(row["points"]) for row in shown["components"])
        assert abs(points - float(shown["raw"])) < 0.1
        names = ("raw", "previous_score", "score")
        raw, previous, score = (round(100 * float(shown[name])) for name in names)
        assert score == (3 * previous + raw) // 4
    silent = participation(world, OWNERS[3])
    votes = silent["components"][0]
    assert float(votes["change"]) < -20
    assert votes["why"].startswith(f"{world.member(OWNERS[3]).report.credits} of ")  # type: ignore[union-attr]
    assert participation(world, OWNERS[0])["components"][0]["change"] == "0"
    world.run_to_epoch(3)
    silent = participation(world, OWNERS[3])
    assert silent["status"] == "jailed"
    assert silent["jailed_epoch"] == 2
    assert silent["running"] == []


def test_a_validator_is_found_by_key_and_by_owner(world: StakedWorld) -> None:
    state, member = world.exchange.state, world.member(OWNERS[1])
    assert find_member(state, OWNERS[1]) is find_member(state, member.address) is member
    assert find_member(state, NEWCOMER.address) is None


def test_without_staking_the_set_is_all_there_is() -> None:
    world = World()
    (row,) = validator_documents(world.exchange.state)
    assert row | {"status": "active", "score": "50", "owner": None, "stake": None} == row


def test_every_event_has_a_document(world: StakedWorld) -> None:
    key = world.exchange.rules.validator_set.validators[0].address
    events: list[Any] = list(
        world.bring(change(REGISTER, OWNERS[9], POWER, identity_of(world, OWNERS[9]))).events
    )
    votes = (vote(world, VALIDATORS[3], VoteKind.NOTARIZE, name) for name in (b"a", b"b"))
    world.say(key, ReportEvidence(*votes))
    events += world.events
    events += world.run_to_epoch(2)
    shown = [event_document(world.exchange.rules, event, height=1, time_ms=1) for event in events]
    assert {"stake", "validator", "slashed", "reward", "epoch_cut", "epoch"} <= {
        document["event"] for document in shown
    }
    slashed = next(document for document in shown if document["event"] == "slashed")
    assert slashed["owner"] == checksum_address(OWNERS[3])
    assert int(slashed["amount_units"]) > 0
    msgspec.json.encode(shown)
