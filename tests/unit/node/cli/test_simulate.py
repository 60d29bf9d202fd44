"""`omninode simulate`: what it prints, and what it says about a violation."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omninode.consensus.core import Core
from omninode.consensus.messages import TimerId, TimerKind
from omninode.node.cli.main import main
from omninode.node.simulation import simulator

PROMISED = [
    "schedules",
    "violations",
    "commits",
    "views",
    "crashes",
    "partitions",
    "evidence",
    "epochs",
    "trace_hash",
]


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["simulate", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def test_one_seed_ends_with_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    document = result(capsys, "--seed", "3")
    assert set(PROMISED) < set(document)
    assert (document["schedules"], document["violations"], document["tier"]) == (1, 0, "whole")
    assert result(capsys, "--seed", "3") == document
    assert result(capsys, "--seed", "4")["trace_hash"] != document["trace_hash"]


def test_a_range_holds_both_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert result(capsys, "--seeds", "5..7", "--tier", "core")["schedules"] == 3


def test_people_get_a_line_for_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "3", "--tier", "core"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["tier", "core"]
    assert lines[-1].startswith("trace_hash")


def test_a_trace_tells_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "0", "--faults", "storm,partitions", "--trace"]) == 0
    told = capsys.readouterr().err
    for words in ("about storm", "proposes block", "votes to notarize", "for final", "crashes"):
        assert words in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--seed", "1", "--seeds", "1..2"],
        ["--seeds", "7"],
        ["--seeds", "9..3"],
        ["--seeds", "-1..3"],
        ["--seed", "1", "--faults", "rain"],
        ["--seeds", "1..2", "--trace"],
        ["--seed", "1", "--validators", "3"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert main(["simulate", *arguments]) == 2


class Sleepy(Core):
    """Never gives a view up."""

    def _on_timer(self, timer: TimerId) -> None:
        if timer.kind not in {TimerKind.LEADER, TimerKind.ADVANCE}:
            super()._on_timer(timer)


def test_a_violation_shows_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_core = simulator.Simulator.make_core

    def make_sleepy(*arguments: object) -> Core:
        core = make_core(*arguments)  # type: ignore[arg-type]
        core.__class__ = Sleepy
        return core

    monkeypatch.setattr(simulator.Simulator, "make_core", make_sleepy)
    options = ["--tier", "core", "--faults", "loss,silent", "--json"]
    assert any(main(["simulate", "--seed", str(seed), *options]) == 1 for seed in range(20))
    out, err = capsys.readouterr()
    document = json.loads(out.splitlines()[-1])
    (first,) = document["failures"]
    command = f"omninode simulate --seed {first['seed']} --faults loss,silent --tier core --trace"
    assert first["command"] == command
    assert document["violations"] == 1
    assert document["error"]["reason"] == "violated"
    assert command in document["error"]["message"]
    assert command in err
    assert main([*command.split()[1:]]) == 1
    assert f"VIOLATION: {first['violation']}" in capsys.readouterr().err


def test_ctrl_c_ends_all_processes() -> None:
    command = [sys.executable, "-m", "omninode", "simulate", "--seeds", "0..99999"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(_children(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert len(children) >= 1
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(word) for word in words]
    except FileNotFoundError:
        return []
