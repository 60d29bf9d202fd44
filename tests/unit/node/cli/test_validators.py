"""`omninode validators`: a line for each validator, and why one has its score."""

from __future__ import annotations

from typing import Any

import pytest

from omninode.node.cli.status import COMPONENTS, _print_participation, _print_validators


def row(**fields: Any) -> dict[str, Any]:
    return {
        "moniker": "node0",
        "address": "0x" + "11" * 20,
        "status": "active",
        "power": 10_000,
        "stake": "10000",
        "score": "58.6",
        "components": dict.fromkeys(COMPONENTS, "3.5"),
    } | fields


def component(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "points": "35",
        "of": 35,
        "share": "100",
        "change": "+1.5",
        "why": "1800 of 1800 credits for votes on 300 blocks",
    } | fields


def participation(**fields: Any) -> dict[str, Any]:
    return {
        **row(),
        "owner": "0x" + "22" * 20,
        "scored_epoch": 3,
        "previous_score": "55",
        "raw": "69.4",
        "reward": "6.03",
        "components": [component("votes")],
        "running": [component("votes", points="34", change="-1")],
    } | fields


def test_each_validator_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(), row(moniker="new", status="candidate", power=0, components=None, stake=None)]
    _print_validators({"validators": rows})
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:6] == ["moniker", "address", "status", "power", "stake", "score"]
    assert head.count("pts") == len(COMPONENTS)
    assert first.split()[2:7] == ["active", "10000", "10000", "58.6", "3.5"]
    assert second.split()[2:] == ["candidate", "0", "-", "58.6", *["-"] * len(COMPONENTS)]


def test_a_score_is_told_by_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    _print_participation(participation())
    text = capsys.readouterr().out
    assert "epoch 3: raw 69.4, score 55 -> 58.6, reward 6.03" in text
    assert "votes" in text.splitlines()[-1]
    assert text.splitlines()[-1].split()[:5] == ["votes", "35", "35", "+1.5", "34"]
    assert text.endswith("1800 of 1800 credits for votes on 300 blocks\n")


def test_before_the_first_cut_there_is_what_it_would_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _print_participation(participation(scored_epoch=None, components=[]))
    text = capsys.readouterr().out
    assert "last cut" not in text
    assert text.splitlines()[-1].split()[:5] == ["votes", "-", "35", "-", "34"]


def test_one_outside_of_the_set_has_what_it_had(capsys: pytest.CaptureFixture[str]) -> None:
    _print_participation(participation(running=[]))
    assert capsys.readouterr().out.splitlines()[-1].split()[:5] == [
        "votes",
        "35",
        "35",
        "+1.5",
        "-",
    ]
    _print_participation(participation(running=[], components=[]))
    assert capsys.readouterr().out.endswith("no score yet\n")
