"""Every client command against a dead node, with a broken configuration, and used wrongly."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omninode.node.cli.main import main
from omninode.node.keys.keystore import new_key, write_keystore

BOB = "0x" + "11" * 20
ORDER = "0x" + "12" * 32
PLACE = ["order", "place", "--market", "XOM-USDC", "--side", "buy", "--size", "1", "--from", "bob"]

READS = [
    ["status"],
    ["peers"],
    ["validators"],
    ["market", "list"],
    ["market", "book", "XOM-USDC"],
    ["market", "trades", "--market", "XOM-USDC"],
    ["account", "show", "bob"],
    ["account", "fills", "--from", "bob"],
    ["order", "list", "--from", "bob"],
    ["order", "show", ORDER],
    ["order", "show", "--client-id", "x", "--from", "bob"],
]
WRITES = [
    [*PLACE, "--price", "1"],
    [*PLACE, "--type", "market"],
    ["order", "cancel", ORDER, "--from", "bob"],
    ["order", "cancel", "--client-id", "x", "--from", "bob"],
    ["order", "cancel-all", "--from", "bob"],
    ["account", "transfer", "--from", "bob", "--to", BOB, "--asset", "USDC", "--amount", "1"],
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_keystore(tmp_path / "keys" / "bob.json", new_key(), "secret", light=True)
    (tmp_path / "keys" / "password").write_text("secret\n")
    return tmp_path


@pytest.fixture
def dead_url() -> Iterator[str]:
    """The URL of a port that nobody listens on, held so that nobody begins to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def refused(
    capsys: pytest.CaptureFixture[str], home: Path, *arguments: str, code: int
) -> dict[str, Any]:
    assert main([*arguments, "--home", str(home), "--json"]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    error: dict[str, Any] = json.loads(out)["error"]
    return error


@pytest.mark.parametrize("arguments", READS + WRITES, ids=" ".join)
def test_a_dead_node_is_named_with_what_to_do(
    capsys: pytest.CaptureFixture[str], home: Path, dead_url: str, arguments: list[str]
) -> None:
    error = refused(capsys, home, *arguments, "--rpc", dead_url, code=1)
    assert error["reason"] == "node_unreachable"
    assert dead_url in error["message"]
    assert "omninode start" in error["hint"]


@pytest.mark.parametrize("arguments", READS + WRITES, ids=" ".join)
def test_a_broken_configuration_is_named_by_line(
    capsys: pytest.CaptureFixture[str], home: Path, arguments: list[str]
) -> None:
    (home / "omninode.toml").write_text("\n[rpc]\nport = 99999\n")
    error = refused(capsys, home, *arguments, code=2)
    assert f"{home / 'omninode.toml'}:3: rpc.port = 99999" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*PLACE], "--price"),
        ([*PLACE, "--price", "1", "--type", "market"], "--slippage-percent"),
        ([*PLACE, "--price", "1", "--slippage-percent", "5"], "--slippage-percent"),
        ([*PLACE, "--price", "0"], "--price 0"),
        ([*PLACE, "--price", "-1"], "--price -1"),
        ([*PLACE, "--price", "NaN"], "--price NaN"),
        ([*PLACE, "--price", "1e400"], "--price 1e400"),
        ([*PLACE, "--price", "9" * 10_000], "--price 999"),
        ([*PLACE, "--price", "1", "--tif", "day"], "--tif day"),
        ([*PLACE, "--price", "1", "--tif", "gtd"], "not supported by this version"),
        ([*PLACE, "--price", "1", "--tif", "ioc", "--post-only"], "post_only"),
        ([*PLACE, "--price", "1", "--stp", "decrement"], "not supported by this version"),
        ([*PLACE, "--price", "1", "--visible", "1"], "--visible is not supported by this version"),
        ([*PLACE, "--price", "1", "--bond", "5"], "--bond is for sealed orders"),
        ([*PLACE, "--price", "1", "--expires", "9"], "--expires is not supported"),
        ([*PLACE, "--price", "1", "--trail-percent=3"], "--trail-percent is not supported"),
        ([*PLACE, "--price", "1", "--type", "stop-limit"], "--type stop-limit is not supported"),
        ([*PLACE, "--price", "1", "--nonsense"], "no such option: --nonsense"),
        ([*PLACE, "--price", "1", "extra"], "extra"),
        ([*PLACE, "--price", "1", "--client-id", "a b"], "client_id"),
        ([*PLACE, "--price", "1", "--subaccount", "5000"], "subaccount"),
        ([*PLACE, "--type", "market", "--tif", "gtc"], "never rests"),
        (["order", "cancel", "--from", "bob"], "exactly one"),
        (["order", "cancel", ORDER, "--client-id", "x", "--from", "bob"], "exactly one"),
        (["order", "cancel", "0x12", "--from", "bob"], "order_id"),
        (["order", "show", "--client-id", "x"], "--from"),
        (["market", "book"], "name the market"),
        (["account", "show"], "name the account"),
        (["account", "show", "0x12"], "not an address"),
        (["order", "list", "--from", "bob/x"], "ACCOUNT/N"),
        (["status", "--rpc", "nonsense"], "URL"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str],
    home: Path,
    dead_url: str,
    arguments: list[str],
    words: str,
) -> None:
    rpc = [] if "--rpc" in arguments else ["--rpc", dead_url]
    error = refused(capsys, home, *arguments, *rpc, code=2)
    assert words in error["message"] + error["hint"]
    assert len(error["message"]) < 400


def test_an_unknown_account_is_named_with_the_known_ones(
    capsys: pytest.CaptureFixture[str], home: Path, dead_url: str
) -> None:
    arguments = ["account", "show", "nobody", "--rpc", dead_url]
    error = refused(capsys, home, *arguments, code=1)
    assert error["reason"] == "unknown_key"
    assert "bob" in error["message"]
