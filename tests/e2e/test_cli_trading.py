"""Trading from the shell against a real node: one validator as a process, its RPC over a socket.

The commands themselves run in this process; that they work as processes is tested beside.
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from omninode.node.cli.main import main

OMNINODE = (sys.executable, "-m", "omninode")
START_DEADLINE_S = 60
STOP_DEADLINE_S = 30

Cli = Callable[..., dict[str, Any]]


class Done(NamedTuple):
    """What a command did."""

    code: int
    stdout: str
    stderr: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settings(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def make_home(path: Path) -> Path:
    chosen = {
        "p2p.listen": "/ip4/127.0.0.1/tcp/0",
        "rpc.port": free_port(),
        "metrics.port": free_port(),
        "consensus.delta_ms": 50,
        "consensus.min_block_interval_ms": 20,
    }
    init = [*OMNINODE, "init", "--home", str(path), *settings(**chosen)]
    subprocess.run(init, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("node") / "home")


def start(home: Path) -> subprocess.Popen[bytes]:
    log = (home / "log").open("ab")
    node = subprocess.Popen(
        [*OMNINODE, "--home", str(home), "start"], stdin=subprocess.DEVNULL, stderr=log
    )
    log.close()
    deadline = time.monotonic() + START_DEADLINE_S
    while call(home, "status").code != 0:
        assert node.poll() is None, (home / "log").read_text()
        assert time.monotonic() < deadline, (home / "log").read_text()
        time.sleep(0.1)
    return node


def stop(node: subprocess.Popen[bytes]) -> int:
    node.send_signal(signal.SIGTERM)
    return node.wait(STOP_DEADLINE_S)


def call(home: Path, *arguments: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*arguments, "--home", str(home), "--json"])
    return Done(code, out.getvalue(), err.getvalue())


def document(done: Done, code: int = 0) -> dict[str, Any]:
    assert done.code == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture(scope="module")
def node(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    running = start(home)
    yield running
    if running.poll() is None:
        running.kill()
        running.wait()


@pytest.fixture
def cli(node: subprocess.Popen[bytes], home: Path) -> Cli:
    """Run a command with --json; return its document."""
    assert node.poll() is None, (home / "log").read_text()

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        return document(call(home, *arguments), code)

    return run


@pytest.fixture
def trader(cli: Cli, home: Path, request: pytest.FixtureRequest) -> str:
    """A new account with funds of its own; its keystore has the folder's password."""
    name = f"t{abs(hash(request.node.name)) % 10**9}"
    password = str(home / "keys" / "password")
    made = cli("keys", "new", name, "--light", "--password-file", password)
    for asset, amount in (("USDC", "1000"), ("XOM", "1000")):
        flags = ("--to", made["address"], "--asset", asset, "--amount", amount)
        assert cli("account", "transfer", "--from", "owner", *flags)["code"] == "ok"
    return name


def free(cli: Cli, account: str, asset: str) -> str:
    (subaccount,) = cli("account", "show", account)["subaccounts"]
    for balance in subaccount["balances"]:
        if balance["asset"] == asset:
            text: str = balance["free"]
            return text
    return "0"


def place(cli: Cli, account: str, side: str, *flags: str, code: int = 0) -> dict[str, Any]:
    named = ("--from", account, "--market", "XOM-USDC", "--side", side)
    return cli("order", "place", *named, *flags, code=code)


def test_status_and_lists(cli: Cli, home: Path) -> None:
    status = cli("status")
    assert status["chain_id"] == "local"
    assert status["height"] >= 0
    assert status["validator"]["power"] == 1
    genesis = json.loads((home / "genesis.json").read_text())
    (validator,) = cli("validators")["validators"]
    assert validator["address"] == genesis["validators"][0]["address"]
    assert cli("peers")["peers"] == []
    markets = {market["market"] for market in cli("market", "list")["markets"]}
    assert markets == {"BTC-USDC", "ETH-USDC", "XOM-USDC"}


def test_an_order_rests_is_shown_and_is_cancelled(cli: Cli, trader: str) -> None:
    placed = place(cli, trader, "buy", "--size", "10", "--price", "0.50", "--client-id", "mine")
    assert placed["state"] == "open"
    assert placed["price"] == "0.5"
    assert (placed["filled"], placed["remaining"]) == ("0", "10")
    assert placed["client_id"] == "mine"
    shown = cli("order", "show", placed["order_id"])
    assert shown.items() <= placed.items()
    assert cli("order", "show", "--client-id", "mine", "--from", trader) == shown
    (listed,) = cli("order", "list", "--from", trader)["orders"]
    assert listed["order_id"] == placed["order_id"]
    book = cli("market", "book", "XOM-USDC")
    assert ["0.5", "10"] in book["bids"]
    assert cli("order", "cancel", placed["order_id"], "--from", trader)["code"] == "ok"
    assert cli("order", "show", placed["order_id"])["state"] == "cancelled"
    assert cli("order", "list", "--from", trader)["orders"] == []
    assert free(cli, trader, "USDC") == "1000"


def test_two_accounts_trade(cli: Cli, trader: str) -> None:
    maker = place(cli, "owner", "sell", "--size", "5", "--price", "1.25")
    taker = place(cli, trader, "buy", "--size", "7", "--price", "1.25", "--tif", "ioc")
    assert taker["state"] == "cancelled"
    assert (taker["filled"], taker["average_price"]) == ("5", "1.25")
    (fill,) = taker["fills"]
    assert (fill["size"], fill["price"], fill["liquidity"]) == ("5", "1.25", "taker")
    assert cli("order", "show", maker["order_id"])["state"] == "filled"
    (newest,) = cli("market", "trades", "XOM-USDC", "--limit", "1")["trades"]
    assert newest["maker_order_id"] == maker["order_id"]
    (own,) = cli("account", "fills", trader)["fills"]
    assert own["order_id"] == taker["order_id"]
    assert cli("account", "fills", f"{trader}/0")["fills"] == [own]
    assert cli("account", "fills", f"{trader}/1")["fills"] == []
    assert cli("account", "show", f"{trader}/1")["subaccounts"] == []
    # 5 x 1.25 and the taker's 0.2 %.
    assert free(cli, trader, "USDC") == "993.7375"
    assert free(cli, trader, "XOM") == "1005"


def test_a_market_order_takes_within_its_bound(cli: Cli, trader: str) -> None:
    place(cli, "owner", "sell", "--size", "1", "--price", "2")
    place(cli, "owner", "sell", "--size", "1", "--price", "3")
    flags = ("--type", "market", "--size", "2", "--slippage-percent", "10")
    taken = place(cli, trader, "buy", *flags)
    assert taken["filled"] == "1"
    assert taken["average_price"] == "2"
    cli("order", "cancel-all", "--from", "owner", "--market", "XOM-USDC")
    assert cli("order", "list", "--from", "owner", "--market", "XOM-USDC")["orders"] == []


def test_a_rejected_order_exits_1_and_shows_its_document(cli: Cli, trader: str) -> None:
    place(cli, "owner", "sell", "--size", "1", "--price", "1.5")
    flags = ("--size", "1", "--price", "1.5", "--post-only")
    refused = place(cli, trader, "buy", *flags, code=1)
    assert refused["state"] == "rejected"
    assert refused["error"]["reason"] == refused["reason"]
    assert cli("order", "show", refused["order_id"])["state"] == "rejected"
    cli("order", "cancel-all", "--from", "owner")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--size", "0.5", "--price", "1"], "off_lot"),
        (["--size", "1", "--price", "1.00001"], "off_tick"),
        (["--size", "1000000000", "--price", "1"], "insufficient_balance"),
    ],
)
def test_refusals_at_the_door_name_why(
    cli: Cli, trader: str, flags: list[str], reason: str
) -> None:
    assert place(cli, trader, "buy", *flags, code=1)["error"]["reason"] == reason


def test_an_unknown_market_and_order(cli: Cli, trader: str) -> None:
    flags = ("--market", "NO-SUCH", "--side", "buy", "--size", "1", "--price", "1")
    refused = cli("order", "place", "--from", trader, *flags, code=1)
    assert refused["error"]["reason"] == "unknown_market"
    assert cli("market", "book", "NO-SUCH", code=1)["error"]["reason"] == "unknown_market"
    unknown = cli("order", "show", "0x" + "00" * 32, code=1)
    assert unknown["error"]["reason"] == "unknown_order"


def test_no_wait_answers_received_and_the_order_arrives(cli: Cli, trader: str) -> None:
    placed = place(cli, trader, "buy", "--size", "1", "--price", "0.1", "--no-wait")
    assert placed["state"] == "received"
    deadline = time.monotonic() + START_DEADLINE_S
    while cli("order", "show", placed["order_id"])["state"] != "open":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_subaccounts_hold_their_own_funds_and_orders(cli: Cli, trader: str) -> None:
    address = cli("keys", "show", trader)["address"]
    flags = ("--to", f"{trader}/3", "--asset", "USDC", "--amount", "250")
    assert cli("account", "transfer", "--from", trader, *flags)["code"] == "ok"
    placed = place(cli, trader, "buy", "--subaccount", "3", "--size", "10", "--price", "1")
    assert placed["state"] == "open"
    (listed,) = cli("order", "list", "--from", f"{trader}/3")["orders"]
    assert listed["order_id"] == placed["order_id"]
    assert cli("order", "list", "--from", f"{address}/0")["orders"] == []


def test_a_devnet_home_is_understood(cli: Cli, home: Path, trader: str, tmp_path: Path) -> None:
    assert cli("order", "list", "--from", trader)["orders"] == []
    devnet = tmp_path / "devnet"
    (devnet / "node0").mkdir(parents=True)
    (devnet / "devnet.json").write_text("{}")
    shutil.copy(home / "omninode.toml", devnet / "node0")
    shutil.copytree(home / "keys", devnet / "accounts")
    flags = ("--side", "buy", "--size", "1", "--price", "0.5", "--market", "XOM-USDC")
    placed = document(call(devnet, "order", "place", "--from", trader, *flags))
    assert placed["state"] == "open"
    (listed,) = document(call(devnet, "order", "list", "--from", trader))["orders"]
    assert listed["order_id"] == placed["order_id"]
    shown = document(call(devnet / "node0", "account", "show", trader))
    assert shown["subaccounts"][0]["open_orders"] == 1


def test_a_clean_stop_keeps_everything_and_replay_agrees(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    node = start(home)
    try:
        flags = ("--from", "owner", "--market", "XOM-USDC", "--side", "buy")
        order = ("--size", "3", "--price", "0.75")
        placed = document(call(home, "order", "place", *flags, *order))
        before = document(call(home, "account", "show", "owner"))["subaccounts"]
        assert document(call(home, "replay"), 1)["error"]["reason"] == "home_locked"
        assert stop(node) == 0, (home / "log").read_text()
        assert (home / "omninode.lock").read_text() == ""
        replayed = document(call(home, "replay"))
        assert replayed["mismatch"] is None
        assert replayed["blocks"] == replayed["to"] > 0
        assert replayed["transactions"] == 1
        node = start(home)
        assert document(call(home, "order", "show", placed["order_id"]))["state"] == "open"
        assert document(call(home, "account", "show", "owner"))["subaccounts"] == before
        assert stop(node) == 0, (home / "log").read_text()
    finally:
        if node.poll() is None:
            node.kill()
            node.wait()
