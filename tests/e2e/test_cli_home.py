"""The commands that work on a home: their output, their files, their refusals."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from omninode.node.cli.main import main

OMNINODE = (sys.executable, "-m", "omninode")
SECRETS = ("node_key", "validator.json", "validator.password", "beacon.json")

HOLD = """
import pathlib, sys
from omninode.node.home import Home
with Home(pathlib.Path(sys.argv[1])).locked():
    print(flush=True)
    input()
"""

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as `omninode init` makes it; making one takes three seconds of scrypt."""
    path = tmp_path_factory.mktemp("template") / "home"
    init = [sys.executable, "-m", "omninode", "init", "--home", str(path)]
    subprocess.run(init, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    return path


@pytest.fixture
def made(home: Path, template: Path) -> Path:
    """A fresh copy of a home that `omninode init` made."""
    shutil.copytree(template, home)
    return home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `omninode` with this home and no terminal: `start` as a process, the rest in this one."""

    def call(*arguments: str, **environment: str) -> Done:
        words = ["--home", str(home), *arguments]
        if "start" in arguments:
            return subprocess.run(
                [*OMNINODE, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={**os.environ, **environment},
            )
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "stdin", io.StringIO())
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main(words)
        return Done(words, code, out.getvalue(), err.getvalue())

    return call


def result(done: Done, code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


def failure(done: Done, code: int) -> dict[str, Any]:
    error: dict[str, Any] = result(done, code)["error"]
    assert error["message"]
    return error


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_writes_everything_and_keeps_secrets_from_others(run: Run, home: Path) -> None:
    made = result(run("init", "--chain-id", "lab", "--moniker", "first node", "--json"))
    assert made["chain_id"] == "lab"
    assert made["in_genesis"] is True
    genesis = json.loads((home / "genesis.json").read_text())
    assert genesis["chain_id"] == "lab"
    assert [v["moniker"] for v in genesis["validators"]] == ["first node"]
    assert genesis["validators"][0]["address"] == made["validator"]
    assert genesis["validators"][0]["peer_id"] == made["peer_id"]
    assert 'moniker = "first node"' in (home / "omninode.toml").read_text()
    assert genesis["validators"][0]["beacon_key"] == made["beacon_key"]
    for name in (*SECRETS, "signer_guard"):
        assert mode(home / name) == 0o600, name
    assert mode(home) == 0o700
    password = (home / "validator.password").read_text().removesuffix("\n")
    secret = Account.decrypt((home / "validator.json").read_text(), password)
    assert Account.from_key(secret).address == made["validator"]
    for path in home.rglob("*"):
        if path.is_file():
            assert bytes(secret).hex() not in path.read_bytes().hex()


def test_init_passes_its_own_check_without_a_word(run: Run) -> None:
    result(run("init", "--json"))
    done = run("config", "check", "--json")
    assert result(done)["ok"] is True
    assert done.stderr == ""


def test_init_refuses_to_overwrite_and_force_keeps_keys_and_guard(run: Run, home: Path) -> None:
    first = result(run("init", "--json"))
    kept = {name: (home / name).read_bytes() for name in (*SECRETS, "signer_guard")}
    again = run("init", "--chain-id", "other", "--json")
    assert "--force" in failure(again, 2)["hint"]
    assert json.loads((home / "genesis.json").read_text())["chain_id"] == "local"
    forced = result(run("init", "--chain-id", "other", "--force", "--json"))
    assert forced["validator"] == first["validator"]
    assert forced["peer_id"] == first["peer_id"]
    assert {name: (home / name).read_bytes() for name in kept} == kept
    assert json.loads((home / "genesis.json").read_text())["chain_id"] == "other"


def test_force_never_makes_a_guard_for_an_old_key(run: Run, made: Path) -> None:
    (made / "signer_guard").unlink()
    result(run("init", "--force", "--json"))
    assert not (made / "signer_guard").exists()
    error = failure(run("start", "--json"), 2)
    assert "signer guard" in error["message"]
    assert "omninode keys rearm" in error["hint"]


def test_a_lost_guard_is_made_anew_only_by_rearming(run: Run, made: Path) -> None:
    (made / "signer_guard").unlink()
    assert "--rpc" in failure(run("keys", "rearm", "--json"), 2)["hint"]
    assert "--yes" in failure(run("keys", "rearm", "--view", "500", "--json"), 2)["hint"]
    rearmed = result(run("keys", "rearm", "--view", "500", "--yes", "--json"))
    assert rearmed["first_view"] > 500
    assert (made / "signer_guard").exists()


def test_init_joins_the_network_of_a_genesis(run: Run, home: Path, tmp_path: Path) -> None:
    made = result(run("init", "--chain-id", "shared", "--json"))
    genesis = tmp_path / "shared.json"
    genesis.write_bytes((home / "genesis.json").read_bytes())
    other = tmp_path / "other"
    joined = run("init", "--home", str(other), "--genesis", str(genesis), "--json")
    document = result(joined)
    assert document["genesis_hash"] == made["genesis_hash"]
    assert document["in_genesis"] is False
    genesis.write_text(genesis.read_text().replace("BTC-USDC", "BTC-EUR"))
    refused = run("init", "--home", str(tmp_path / "x"), "--genesis", str(genesis), "--json")
    assert "markets[0]" in failure(refused, 2)["message"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--chain-id", "Bad Name"],
        ["--moniker", "bad/name"],
        ["--set", "rpc.port=x"],
        ["--genesis", "/does/not/exist"],
        ["--genesis", "/does/not/exist", "--chain-id", "x"],
        ["--password-file", "/does/not/exist"],
    ],
)
def test_init_with_wrong_flags_leaves_nothing(run: Run, home: Path, flags: list[str]) -> None:
    failure(run("init", *flags, "--json"), 2)
    assert not home.exists()


def test_init_takes_settings_and_a_password(run: Run, home: Path, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("a password\n")
    result(run("init", "--set", "rpc.port=4567", "--json", OMNINODE_PASSWORD_FILE=str(password)))
    assert "port = 4567" in (home / "omninode.toml").read_text()
    assert not (home / "validator.password").exists()
    Account.decrypt((home / "validator.json").read_text(), "a password")
    error = failure(run("start", "--json"), 2)
    assert "--password-file" in error["hint"]
    password.write_text("another\n")
    refused = run("start", "--password-file", str(password), "--json")
    assert failure(refused, 1)["reason"] == "wrong_password"


def test_a_wrong_configuration_stops_the_start_with_every_error(run: Run, made: Path) -> None:
    path = made / "omninode.toml"
    text = path.read_text().replace("port = 36651", 'port = "many"')
    path.write_text(text.replace("[storage]", "[storage]\nretain_block_ms = 5"))
    done = run("start", OMNINODE_LOG__LEVEL="loud")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    number = path.read_text().splitlines().index('port = "many"') + 1
    assert any(f'{path}:{number}: rpc.port = "many"' in line for line in lines)
    assert any(
        "storage.retain_block_ms: unknown key, did you mean retain_blocks_ms?" in x for x in lines
    )
    assert any("environment OMNINODE_LOG__LEVEL: log.level" in line for line in lines)


def test_start_says_what_is_missing(run: Run, made: Path) -> None:
    for name, word in (("node_key", "node key"), ("validator.json", "vote key")):
        moved = (made / name).rename(made / "moved")
        assert word in failure(run("start", "--json"), 2)["message"]
        moved.rename(made / name)
    (made / "node_key").chmod(0o644)
    assert "chmod 600" in failure(run("start", "--json"), 2)["hint"]


def test_a_second_process_is_kept_out(run: Run, made: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD,
            str(made),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    holder.stdout.readline()
    try:
        for arguments in (
            ["start"],
            ["reset", "--yes"],
            ["replay"],
            ["prune"],
            ["init", "--force"],
        ):
            error = failure(run(*arguments, "--json"), 1)
            assert error["reason"] == "home_locked", arguments
            assert str(holder.pid) in error["message"]
    finally:
        holder.communicate("\n")


def test_reset_keeps_what_can_not_be_had_again(run: Run, made: Path) -> None:
    kept = {path: path.read_bytes() for path in made.iterdir() if path.is_file()}
    (made / "data" / "chain").mkdir()
    (made / "data" / "chain" / "000001.log").write_text("x")
    assert "--yes" in failure(run("reset", "--json"), 2)["hint"]
    assert (made / "data" / "chain").exists()
    done = result(run("reset", "--yes", "--json"))
    assert done["reset"] is True
    assert list((made / "data").iterdir()) == []
    assert {path: path.read_bytes() for path in kept} == kept
    assert list((made / "keys").iterdir())


def test_a_command_without_a_home_says_how_to_make_one(run: Run) -> None:
    for arguments in (
        ["reset"],
        ["replay"],
        ["prune"],
        ["config", "show"],
        ["keys", "rearm"],
        ["start"],
    ):
        error = failure(run(*arguments, "--json"), 2)
        assert "omninode init" in error["hint"], arguments


def test_config_show_tells_where_each_value_comes_from(run: Run, made: Path) -> None:
    shown = result(
        run("config", "show", "--set", "rpc.port=9", "--json", OMNINODE_METRICS__PORT="8")
    )
    assert shown["rpc"]["port"] == {"value": 9, "origin": "flag", "place": "flag --set rpc.port"}
    assert shown["metrics"]["port"]["origin"] == "environment"
    assert shown["rpc"]["host"]["place"].startswith(f"{made / 'omninode.toml'}:")


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_password_is_read_ends_the_start(
    run: Run, made: Path, number: signal.Signals, inherited: signal.Handlers, tmp_path: Path
) -> None:
    fifo = tmp_path / "password"
    os.mkfifo(fifo)

    def inherit() -> None:
        signal.signal(number, inherited)

    node = subprocess.Popen(
        [*OMNINODE, "--home", str(made), "start", "--password-file", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=inherit,  # noqa: PLW1509 - this test has one thread
    )
    # Opening the other end returns when the node has opened its own: it waits for the password.
    with fifo.open("wb"):
        assert (made / "omninode.lock").read_text() == f"{node.pid}\n"
        node.send_signal(number)
        _, err = node.communicate(timeout=20)
    assert node.returncode == 0, err
    assert b"Traceback" not in err
    assert (made / "omninode.lock").read_text() == ""
