from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omninode import __version__
from omninode.node.cli import failures
from omninode.node.cli.invocation import Invocation, current, take_invocation
from omninode.node.cli.main import COMMANDS, main

HELP_TIME_S = 0.4
"""What `omninode --help` may take on an idle machine; measured with the best of a few runs."""

HEAVY = ("libp2p", "eth_account", "eth_keyfile", "trio", "coincurve", "structlog")

LIST_MODULES = """
import sys
from omninode.node.cli.main import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for name, summary in COMMANDS.items():
        assert name in out
        assert summary in " ".join(out.split())


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["order", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


def test_help_is_quick() -> None:
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "omninode", "--help"], capture_output=True, check=True
        )
        best = min(best, time.perf_counter() - begin)
    assert best < HELP_TIME_S


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_names_the_common_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert "--home DIR" in " ".join(out.split())


def test_common_options_mean_the_same_before_and_after_the_command() -> None:
    expected = Invocation(Path("/x"), as_json=True, debug=True)
    for arguments in (
        ["--home", "/x", "--json", "--debug", "order", "list", "--from", "a"],
        ["order", "list", "--from", "a", "--home=/x", "--json", "--debug"],
        ["order", "--json", "list", "--debug", "--from", "a", "--home", "/x"],
    ):
        invocation, rest, wrong = take_invocation(arguments)
        assert (invocation, rest, wrong) == (expected, ["order", "list", "--from", "a"], None)


def test_after_two_dashes_nothing_is_taken() -> None:
    assert take_invocation(["a", "--", "--json"]) == (Invocation(), ["a", "--", "--json"], None)


def test_the_home_comes_from_flag_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNINODE_HOME", "/from/environment")
    assert take_invocation(["--home", "/from/flag"])[0].home.path == Path("/from/flag")
    assert take_invocation([])[0].home.path == Path("/from/environment")
    monkeypatch.delenv("OMNINODE_HOME")
    assert take_invocation([])[0].home.path == Path.home() / ".omninode"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "version", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["version"] == __version__
    code, out, _ = call(capsys, "version")
    assert code == 0
    assert out.startswith(f"omninode {__version__} ")
    assert current().as_json is False


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["order"],
        ["order", "nonsense"],
        ["status", "--nonsense"],
        ["status", "unexpected"],
        ["--home"],
        ["status", "--home="],
        ["replay", "--from", "x"],
        ["replay", "--from", "0"],
        ["order", "place"],
    ],
)
def test_wrong_usage_exits_2_with_one_line_or_one_document(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    placed = ["--home", str(tmp_path), *arguments]
    code, out, err = call(capsys, *placed)
    assert code == failures.USAGE
    assert "Traceback" not in err
    if arguments:
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert out == ""
    code, out, err = call(capsys, "--json", *placed)
    assert code == failures.USAGE
    error = json.loads(out)["error"]
    assert error["message"]
    assert error["reason"] == "wrong_usage"


def test_a_defect_shows_its_traceback_only_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from omninode.node.cli import version

    def broken(*_: object) -> None:
        raise ZeroDivisionError("seven")

    monkeypatch.setattr(version, "emit", broken)
    code, out, err = call(capsys, "version", "--json")
    assert code == failures.FAILED
    assert json.loads(out)["error"]["reason"] == "internal_error"
    assert err.startswith("error: ZeroDivisionError: seven")
    assert "Traceback" not in err
    _, _, err = call(capsys, "version", "--debug")
    assert "Traceback" in err


def test_an_interrupt_exits_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from omninode.node.cli import version

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "emit", interrupted)
    code, _, err = call(capsys, "version")
    assert code == failures.INTERRUPTED
    assert err == "error: interrupted\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        [f"{sys.executable} -m omninode --help | true; echo ${{PIPESTATUS[0]}}"],
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_commands(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "_OMNINODE_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": "omninode st",
            "COMP_CWORD": "1",
            "_TYPER_COMPLETE_ARGS": "omninode st",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    )
    assert "status" in done.stdout, done.stderr
