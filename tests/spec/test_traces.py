"""Traces of the specification, replayed through the real core: the same views, votes, certificates,
final blocks and intents to propose at every step."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from model_replay import Replay
from model_trace import SPEC, network, states

TRACES = sorted((Path(__file__).parent / "traces").glob("*.itf.json.gz"))
FRESH = {"four": 60, "weighted": 60, "heavy": 40, "epochs": 120}
"""Steps of a trace, by model."""
FRESH_COUNT = 8


def replay(path: Path, model: str, patch: pytest.MonkeyPatch) -> int:
    """Replay a trace; return its number of steps."""
    trace = states(path)
    before = next(trace)
    real = Replay(network(model), before, patch)
    steps = 0
    for steps, after in enumerate(trace, 1):
        try:
            real.step(before, after)
        except AssertionError as error:
            error.add_note(f"{path.name}, step {steps}: {after.event}")
            raise
        before = after
    return steps


def test_the_kept_traces_show_what_matters() -> None:
    reached = set()
    for path in TRACES:
        for state in states(path):
            reached.add(state.event["what"])
            reached |= {f"epoch {node['epoch']}" for node in state.nodes.values()}
            reached |= {f"{len(node['chain'])} blocks" for node in state.nodes.values()}
    assert reached >= {"propose", "proposeFaulty", "proposal", "vote", "certificate", "patience"}
    assert reached >= {"fetch", "epoch 0", "epoch 1", "epoch 2", "5 blocks"}


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_the_core_does_what_the_specification_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay(path, path.name.split("-")[0], monkeypatch) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("model", FRESH)
def test_the_core_does_the_same_in_fresh_traces(model: str, tmp_path: Path, seed: int) -> None:
    quint = shutil.which("quint", path=SPEC / "node_modules" / ".bin")
    if quint is None:
        pytest.skip("no quint: ./dev spec installs it")
    command = [
        quint,
        "run",
        "models.qnt",
        f"--main={model}",
        "--backend=typescript",
        "--verbosity=1",
        f"--seed={seed}",
        f"--max-samples={FRESH_COUNT}",
        f"--n-traces={FRESH_COUNT}",
        f"--max-steps={FRESH[model]}",
        f"--out-itf={tmp_path}/{{seq}}.itf.json",
    ]
    subprocess.run(command, cwd=SPEC, check=True, capture_output=True, timeout=240)
    paths = sorted(tmp_path.glob("*.itf.json"))
    assert len(paths) == FRESH_COUNT
    for path in paths:
        with pytest.MonkeyPatch.context() as patch:
            assert replay(path, model, patch) > 0
